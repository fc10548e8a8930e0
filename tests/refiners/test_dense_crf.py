"""The DenseCRF refiner, with and without its library."""

import importlib.util
import sys

import pytest
import torch

from ovseg.heads import Evidence, MaxQueryHead
from ovseg.photo import Photo
from ovseg.refiners import DenseCRF
from ovseg.scores import ScoreMap

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("pydensecrf") is None, reason="pydensecrf is not installed (pip install pydensecrf2)"
)


def square(noise: float) -> tuple[Photo, Evidence, torch.Tensor]:
    """A red square on blue, and noisy scores of classes 1 and 4 of six: the photo, its labels' evidence, the truth."""
    truth = torch.zeros(40, 52, dtype=torch.int32)
    truth[10:30, 12:40] = 1
    image = torch.where(
        truth.bool(), torch.tensor([220, 30, 30])[:, None, None], torch.tensor([20, 30, 200])[:, None, None]
    )
    torch.manual_seed(0)
    sides = torch.stack([1 - truth.float(), truth.float()]) + noise * torch.randn(2, 40, 52)
    scores = torch.full((6, 40, 52), -2.0)
    scores[[1, 4]] = sides
    head, owner = MaxQueryHead(logit_scale=2.0), torch.arange(6)
    score_map = ScoreMap.from_grid(scores, (40, 52))
    photo = Photo(image.float(), (40, 52), image.to(torch.uint8))
    return photo, Evidence(score_map, head, owner, 6), torch.where(truth.bool(), 4, 1)


@needs_library
def test_noise_is_removed_and_edges_follow_the_photo():
    photo, evidence, truth = square(noise=0.8)
    labels = evidence.labels()
    refined = DenseCRF()(labels, photo, evidence)
    assert refined.shape == labels.shape and refined.dtype == labels.dtype
    assert set(refined.unique().tolist()) <= {1, 4}
    assert (labels == truth).float().mean() < 0.9 < 0.99 < (refined == truth).float().mean()


@needs_library
def test_a_single_class_stays():
    photo, evidence, _ = square(noise=0.0)
    alone = torch.full(photo.size, 4, dtype=torch.int32)
    assert torch.equal(DenseCRF()(alone, photo, evidence), alone)


def test_the_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ImportError, match="pip install pydensecrf2"):
        DenseCRF()
