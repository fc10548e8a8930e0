"""Felzenszwalb's superpixels, and which patches share one."""

import numpy as np
import pytest
import torch

from ovseg.regions import FelzenszwalbRegions, Superpixels
from ovseg.regions.felzenszwalb import felzenszwalb


def blocks():
    """Squares of random colours under noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (6, 8, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    return coarse + rng.integers(0, 40, (60, 80, 3), np.uint8)


@pytest.mark.parametrize(
    ("settings", "count", "total"),
    [((224, 9.0, 224), 1, 0), ((100, 0.8, 20), 65, 7514088), ((30, 0.0, 4), 220, 24153765)],
)
def test_segments_are_those_of_scikit_image(settings, count, total):
    # count and weighted sum of skimage.segmentation.felzenszwalb's ids (0.26), where all ids were equal
    ids = felzenszwalb(blocks(), *settings)
    assert ids.max() + 1 == count
    assert int((ids.astype(int) * (1 + np.arange(60 * 80).reshape(60, 80) % 97)).sum()) == total


def test_regions_cover_the_photo_and_none_is_small():
    ids = FelzenszwalbRegions(scale=100, sigma=0.8, min_size=20)(torch.from_numpy(blocks()).permute(2, 0, 1))
    assert ids.min() == 1 and ids.unique(return_counts=True)[1].min() >= 20


def test_patches_have_the_region_of_their_middle_pixel():
    step = Superpixels(dict(type="FelzenszwalbRegions", scale=100, sigma=0.8, min_size=20), patch=16)
    results = step.transform(dict(image=blocks()))
    whole = step.source(torch.from_numpy(blocks()).permute(2, 0, 1))
    assert results["superpixels"].shape == (3, 5) and results["superpixels"].dtype == np.int64
    for row in range(3):
        for column in range(5):
            assert results["superpixels"][row, column] == whole[16 * row + 8, 16 * column + 8]


def test_senseless_settings_are_refused():
    with pytest.raises(ValueError, match="min_size 0"):
        FelzenszwalbRegions(min_size=0)
