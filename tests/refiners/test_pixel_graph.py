"""LPOSS+'s propagation over pixels: dense matrices, known colours, the official code's golden."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ovseg.refiners  # noqa: F401  (registers)
from ovseg.datasets.io import read_image
from ovseg.datasets.transforms import resize_short_side
from ovseg.ops import conjugate_gradients
from ovseg.refiners import PixelPropagation
from ovseg.refiners.pixel_graph import LAB_SCALE, rgb_to_lab
from tests.parity.cases import PHOTO_SUFFIXES
from tests.standins import PARITY


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def dense(rgb, tau, reach):
    _, h, w = rgb.shape
    lab = (rgb_to_lab(rgb) / torch.tensor(LAB_SCALE).view(3, 1, 1)).flatten(1).T.double()
    y, x = torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)
    near = ((y[:, None] - y).abs() <= reach) & ((x[:, None] - x).abs() <= reach)
    weights = torch.exp(-torch.cdist(lab, lab) / tau) * near
    weights.fill_diagonal_(0)
    degree = weights.sum(1)
    degree[degree == 0] = 1
    return weights / (degree[:, None] * degree).sqrt()


@pytest.mark.parametrize("size", [(9, 14), (1, 1), (1, 20), (20, 3)])
@pytest.mark.parametrize(("queries", "reach"), [(1, 2), (33, 6)])
def test_is_the_iterate_of_the_dense_system(size, queries, reach):
    rgb, scores = noise(3, *size), noise(queries, *size, seed=1)
    refiner = PixelPropagation(tau=0.3, reach=reach)
    s = dense(rgb, 0.3, reach)
    want = conjugate_gradients(lambda x: x - 0.95 * x @ s, scores.flatten(1).double(), 10, 1e-6).view_as(scores)
    got = refiner.apply(refiner.graph(rgb), scores)
    torch.testing.assert_close(got.double(), want, atol=2e-4, rtol=2e-4)
    half = refiner.apply(refiner.graph(rgb), scores.half())
    assert half.dtype == torch.float16 and torch.allclose(half.float(), got, atol=0.05)


def test_queries_do_not_see_each_other():
    refiner, scores = PixelPropagation(tau=0.1, reach=3), noise(20, 8, 9)
    state = refiner.graph(noise(3, 8, 9, seed=2))
    torch.testing.assert_close(
        refiner.apply(state, scores)[17:], refiner.apply(state, scores[17:]), atol=1e-6, rtol=1e-5
    )


def test_prepare_takes_back_the_normalisation():
    refiner, rgb = PixelPropagation(reach=1), noise(3, 6, 7)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (refiner.mean, refiner.std))
    torch.testing.assert_close(
        refiner.prepare((rgb - mean) / std).weights, refiner.graph(rgb).weights, atol=1e-3, rtol=1e-3
    )


def test_known_colours():
    colours = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0.02, 0.02, 0.02]]).T[:, None]
    lab = rgb_to_lab(colours)[:, 0].T
    torch.testing.assert_close(lab[0], torch.tensor([100.0, 0, 0]), atol=0.02, rtol=0)
    torch.testing.assert_close(lab[1], torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(lab[2], torch.tensor([53.24, 80.09, 67.20]), atol=0.02, rtol=0)
    torch.testing.assert_close(lab[3], torch.tensor([903.3 * 0.02 / 12.92, 0, 0]), atol=0.02, rtol=0)


@pytest.mark.parametrize("options", [dict(tau=0), dict(reach=0), dict(alpha=1), dict(iterations=0)])
def test_refuses(options):
    with pytest.raises(ValueError, match="tau"):
        PixelPropagation(**options)


GOLDENS = sorted((PARITY / "goldens" / "lposs_plus_unit").glob("*.npz"))


@pytest.mark.skipif(not GOLDENS, reason=f"no golden lposs_plus_unit under {PARITY} (set OVSEG_PARITY_DIR)")
@pytest.mark.parametrize("path", GOLDENS, ids=lambda p: p.stem)
def test_equals_the_official_code(path):
    """The maps are the recorded ones: smooth noise of 6 x 9 cells, upsampled to the photo at short side 96."""
    golden = np.load(path)
    photo = next(p for s in PHOTO_SUFFIXES if (p := PARITY / "images" / f"{path.stem}{s}").is_file())
    image = resize_short_side(read_image(str(photo)), 96)
    rgb = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
    maps = F.interpolate(cells(path), size=rgb.shape[1:], mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(maps[:, 4::8, 4::8].numpy(), golden["input"], atol=1e-5)
    refiner = PixelPropagation()
    got = refiner.apply(refiner.graph(rgb), maps).numpy()
    difference = np.abs(got - golden["output"]).max() / np.ptp(golden["output"])
    print(f"largest difference {difference:.1e} of the range")
    assert difference <= 1e-3


def cells(path):
    from tests.standins import pseudo_weights

    noise_of = pseudo_weights().unit_noise
    return torch.from_numpy(np.asarray(noise_of("lposs_plus/preds", 432), np.float32)).view(1, 8, 6, 9)
