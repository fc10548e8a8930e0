"""How much a mIoU owes to the draw of the photos: the bootstrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def bootstrap_miou(
    matrices: Sequence[np.ndarray], draws: int = 2000, level: float = 0.9, seed: int = 0
) -> tuple[float, float]:
    """Bounds in percent between which the mIoU of ``level`` of all draws of as many photos, with replacement, lies.

    The percentile bootstrap (Efron, 1979) over photos; each draw's mIoU is the mean over the classes with a non-empty
    union in *that* draw, as :data:`ovseg.evaluation.MIOU_RULE` has it.

    Args:
        matrices: confusion matrix ``[C, C]`` of each photo, truth by prediction, in pixels.
        draws: how many.
        level: share of the draws between the bounds, 0..1.
        seed: of the draws.

    Raises:
        ValueError: without a photo.

    >>> one = np.array([[1, 1], [0, 2]])
    >>> bootstrap_miou([one, one])
    (58.33..., 58.33...)
    """
    if not len(matrices):
        raise ValueError("a spread needs at least one photo")
    stacked = np.stack(matrices).astype(np.float64)
    count, classes = stacked.shape[:2]
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    hits = times @ stacked[:, np.arange(classes), np.arange(classes)]
    union = times @ (stacked.sum(axis=1) + stacked.sum(axis=2)) - hits
    there = union > 0
    values = np.where(there, hits / np.where(there, union, 1), 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1) * 100
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
