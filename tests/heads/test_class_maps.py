"""CLIPer's head against its definition."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.heads.class_maps import ClassMapHead
from ovseg.scores import ScoreMap

CLASSES = torch.tensor([0, 0, 1, 2, 3, 3])


@pytest.fixture
def scores():
    cells = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(3))
    cells[2] *= 0.3
    return cells, ScoreMap.from_grid(cells, (33, 41))


@pytest.mark.parametrize("normalise", [True, False])
def test_labels(scores, normalise):
    cells, score_map = scores
    peak = cells.amax((1, 2))
    maps = F.interpolate(cells[None], size=(33, 41), mode="bilinear")[0]
    maps = maps / (maps.amax((1, 2), keepdim=True) + 1e-5) * peak[:, None, None]
    if normalise:
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        maps = (maps - low) / (high - low + 1e-5)
    maps[maps < 0.6] = 0
    maps[peak <= 0.5] = 0
    value, index = maps.max(0)
    want = torch.where(value > 0, CLASSES[2:][index], 0).int()

    head = ClassMapHead(threshold=0.6, score_threshold=0.5, normalise=normalise)
    labels = head(score_map, CLASSES, 4)
    assert labels.dtype == torch.int32 and (want == 0).any() and 3 in want
    assert torch.equal(labels, want)
    probabilities = head.probabilities(score_map, CLASSES, 4)
    torch.testing.assert_close(probabilities[1], maps[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(probabilities[3], maps[2:].amax(0), atol=1e-6, rtol=1e-5)
    assert not probabilities[0].any()
    assert torch.equal(head.probabilities(score_map, CLASSES, 4, slice(4, 9), slice(2)), probabilities[:, 4:9, :2])


def test_without_background_every_pixel_gets_the_largest_map(scores):
    cells, score_map = scores
    head = ClassMapHead(threshold=0, score_threshold=2, normalise=False, background=None)
    classes = torch.arange(4)
    maps = F.interpolate(cells[None], size=(33, 41), mode="bilinear")[0]
    peak = cells.amax((1, 2))[:, None, None]
    maps = maps / (maps.amax((1, 2), keepdim=True) + 1e-5) * peak
    assert torch.equal(head(score_map, classes, 4), maps.argmax(0).int())
    assert head.active_background is None
