"""Refiners of label maps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter

from ovseg.refiners import ClusterVote, LabelClosing


def closing_by_the_book(labels, size):
    """Largest of the neighbours, then smallest of those; outside the image nothing counts."""
    half, (h, w) = size // 2, labels.shape
    for pick in (max, min):
        labels = np.array(
            [
                [
                    pick(
                        labels[a, b]
                        for a in range(max(0, y - half), min(h, y + half + 1))
                        for b in range(max(0, x - half), min(w, x + half + 1))
                    )
                    for x in range(w)
                ]
                for y in range(h)
            ]
        )
    return labels


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("classes", [4, 900])
def test_closing(size, classes):
    labels = np.random.default_rng(0).integers(0, classes, (13, 17)).astype(np.int32)
    got = LabelClosing(size)(torch.from_numpy(labels))
    assert got.dtype == torch.int32
    np.testing.assert_array_equal(got.numpy(), closing_by_the_book(labels, size))


@pytest.mark.parametrize("size", [0, 2])
def test_closing_refuses_even_sizes(size):
    with pytest.raises(ValueError, match="odd"):
        LabelClosing(size)


def blocks_affinity(noise=0.0):
    """Affinities of a 4 x 6 grid whose left and right halves belong together, as ``[N, h, w]``."""
    columns = torch.arange(24) % 6
    same = (columns[:, None] < 3) == (columns < 3)
    generator = torch.Generator().manual_seed(0)
    return (same.float() + noise * torch.rand(24, 24, generator=generator)).view(24, 4, 6)


def photo(affinity):
    return SimpleNamespace(affinity=affinity)


EVIDENCE = SimpleNamespace(num_classes=7)


def test_every_cluster_takes_its_most_frequent_label():
    labels = torch.full((40, 60), 2, dtype=torch.int32)
    labels[:, 30:] = 5
    labels[3:9, 4:9] = 6
    labels[10:20, 40:50] = 1
    got = ClusterVote(eps=0.7, min_samples=3)(labels, photo(blocks_affinity(0.05)), EVIDENCE)
    assert (got[:, :29] == 2).all() and (got[:, 31:] == 5).all()


def test_noise_alone_leaves_the_labels():
    labels = torch.randint(0, 7, (8, 12), dtype=torch.int32)
    assert ClusterVote(eps=1e-3, min_samples=25)(labels, photo(blocks_affinity(0.5)), EVIDENCE) is labels


def test_regions_are_the_smoothed_cluster_maps():
    affinity = blocks_affinity(0.3)
    got = ClusterVote(eps=1.0, min_samples=3).regions(affinity, (16, 24))
    halves = [affinity[(torch.arange(24) % 6 < 3) == first].mean(0) for first in (True, False)]
    up = torch.nn.functional.interpolate(torch.stack(halves)[None], scale_factor=4, mode="bilinear")[0]
    smooth = torch.stack([torch.from_numpy(median_filter(m, size=7)) for m in up.numpy()])
    assert torch.equal(got, smooth.argmax(0))


def test_cluster_vote_says_what_is_missing():
    with pytest.raises(ValueError, match="SelfCorrelationAttention"):
        ClusterVote()(torch.zeros(4, 4, dtype=torch.int32), photo(None), EVIDENCE)
    with pytest.raises(ValueError, match="eps"):
        ClusterVote(eps=0)
