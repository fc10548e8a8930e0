"""Where a prediction is wrong, and what it takes for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ovseg.evaluation import confusion_update, summarise
from ovseg.evaluation.error_statistics import NEAR, boundary_distance

CORRECT, CONFUSED, IGNORED = 0, 1, 2


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class that were given to another.

    Attributes:
        truth, predicted: names of the classes.
        pixels: their number.
        share: of the pixels of ``truth``.
        near_boundary: share of them within :data:`NEAR` pixels of a boundary of the ground truth.
    """

    truth: str
    predicted: str
    pixels: int
    share: float
    near_boundary: float


@dataclass(frozen=True)
class ErrorMap:
    """A prediction against the ground truth.

    Attributes:
        kinds: uint8 ``[H, W]``: :data:`CORRECT`, :data:`CONFUSED` or :data:`IGNORED`.
        distance: float32 ``[H, W]``: pixels to the nearest boundary of the ground truth (of two classes, or of a class
            and ignored pixels); infinite where there is none.
        confusions: which classes were taken for which, most pixels first.
        accuracy, miou: in percent, of this photo; ``miou`` over the classes that are in it or were predicted.
        near_boundary: share of all errors within :data:`NEAR` pixels of a boundary.
    """

    kinds: np.ndarray
    distance: np.ndarray
    confusions: tuple[Confusion, ...]
    accuracy: float
    miou: float
    near_boundary: float

    def table(self, most: int = 10) -> list[dict[str, object]]:
        """The worst confusions as rows of ``truth, predicted, pixels, share, near boundary``."""
        return [
            {
                "truth": one.truth,
                "predicted": one.predicted,
                "pixels": one.pixels,
                "share": one.share,
                "near boundary": one.near_boundary,
            }
            for one in self.confusions[:most]
        ]


def error_map(labels: np.ndarray, truth: np.ndarray, names: Sequence[str], ignore_index: int = 255) -> ErrorMap:
    """Compare a label map with its ground truth.

    Args:
        labels: integer ``[H, W]``, e.g. ``result.labels``.
        truth: integer ``[H, W]``, classes in the order of ``names``, or ``ignore_index``.
        names: one name per class.
        ignore_index: label of pixels that do not count.

    Raises:
        ValueError: for sizes that differ, labels outside of the classes, or a ground truth that is ignored everywhere.
    """
    if labels.shape != truth.shape:
        raise ValueError(f"labels of {labels.shape} for a ground truth of {truth.shape}: they must be of one size")
    matrix = torch.zeros(len(names), len(names), dtype=torch.int64)
    confusion_update(matrix, labels, truth, ignore_index)
    if not matrix.sum():
        raise ValueError(
            f"every pixel of the ground truth is {ignore_index}, which is ignored: nothing to compare with"
        )
    kinds = np.where(labels == truth, CORRECT, CONFUSED).astype(np.uint8)
    kinds[truth == ignore_index] = IGNORED
    distance = boundary_distance(truth)
    wrong, near = kinds == CONFUSED, distance <= NEAR
    counts, pixels = matrix.numpy().copy(), matrix.sum(1).numpy()
    np.fill_diagonal(counts, 0)
    pairs = truth[wrong].astype(np.int64) * len(names) + labels[wrong]
    close = np.bincount(pairs[near[wrong]], minlength=len(names) ** 2).reshape(counts.shape)
    order = np.argsort(-counts, axis=None, kind="stable")
    found = []
    for row, column in zip(*np.unravel_index(order[: np.count_nonzero(counts)], counts.shape), strict=True):
        count = int(counts[row, column])
        share, at_edge = count / int(pixels[row]), int(close[row, column]) / count
        found.append(Confusion(names[row], names[column], count, share, at_edge))
    summary = summarise(matrix)
    near_share = float(near[wrong].mean()) if wrong.any() else 0.0
    return ErrorMap(kinds, distance, tuple(found), summary.aAcc, summary.mIoU, near_share)
