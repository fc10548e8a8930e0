"""Where a method errs on a data set: by kind of pixel, by size of object, by pair of classes, by confidence.

All of it is sums over photos, so that nothing grows with their number and parts of a run add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ovseg.evaluation.confusion import SegSummary, summarise

NEAR = 5
"""Pixels from a boundary of the ground truth within which an error is one of drawing rather than of naming."""
SIZES = (1 / 300, 0.03, 0.1, 0.3, 1.0)
"""Upper bounds of the groups of objects, as shares of the photo. The first two are COCO's small and medium objects
(32 x 32 and 96 x 96 pixels, Lin et al., 2014, in photos of 640 x 480)."""
ZONES = ("small object", "boundary", "interior")
"""Kinds of pixels, by the ground truth: of an object of the smallest group; else within :data:`NEAR` pixels of a
boundary; else neither: a wrong one there is a matter of naming, not of drawing."""
BINS = 15
"""Of equal width, for confidences in 0..1 (Guo et al., On Calibration of Modern Neural Networks, ICML 2017)."""
_TABLE = 1 << 22  # entries up to which counting in a table beats sorting


def boundary_distance(truth: np.ndarray) -> np.ndarray:
    """Pixels from every pixel to the nearest boundary of a label map, float32 ``[H, W]``.

    Pixels at a boundary, on either side, have distance 0; without any boundary all are infinite.
    """
    edge = np.zeros(truth.shape, bool)
    down, right = truth[1:] != truth[:-1], truth[:, 1:] != truth[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    if not edge.any():
        return np.full(truth.shape, np.inf, np.float32)
    return cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


@dataclass(frozen=True)
class PhotoErrors:
    """What one photo adds to :class:`ErrorStatistics`.

    Attributes:
        pairs: int64 ``[n, 4]``: zone (of :data:`ZONES`), true class, predicted class, pixels.
        sizes: float64 ``[len(SIZES), 5]``: objects, sum of their IoU in 0..1, those with an IoU of at least 0.5,
            pixels, right pixels.
        calibration: float64 ``[BINS, 3]``: pixels, sum of their confidence, right pixels; ``None``: no confidences.
        unsure: pixels left out of ``calibration``, see :func:`photo_errors`.
    """

    pairs: np.ndarray
    sizes: np.ndarray
    calibration: np.ndarray | None = None
    unsure: int = 0

    def plain(self) -> dict[str, object]:
        """As JSON knows it; :meth:`of` reads it."""
        calibration = None if self.calibration is None else self.calibration.tolist()
        return {
            "pairs": self.pairs.tolist(),
            "sizes": self.sizes.tolist(),
            "calibration": calibration,
            "unsure": self.unsure,
        }

    @classmethod
    def of(cls, value: Mapping) -> PhotoErrors:
        """From :meth:`plain`."""
        calibration = value["calibration"]
        return cls(
            np.array(value["pairs"], np.int64).reshape(-1, 4),
            np.array(value["sizes"], np.float64),
            None if calibration is None else np.array(calibration, np.float64),
            int(value["unsure"]),
        )

    def summary(self, classes: int) -> SegSummary:
        """Accuracies and IoUs of this photo alone."""
        matrix = np.zeros((classes, classes), np.int64)
        np.add.at(matrix, (self.pairs[:, 1], self.pairs[:, 2]), self.pairs[:, 3])
        return summarise(matrix)

    def wrong(self, classes: int) -> np.ndarray:
        """Pixels per class that were missed or wrongly given to it, int64 ``[C]``."""
        counts = np.zeros(classes, np.int64)
        _, truth, pred, pixels = self.pairs[self.pairs[:, 1] != self.pairs[:, 2]].T
        np.add.at(counts, truth, pixels)
        np.add.at(counts, pred, pixels)
        return counts


def photo_errors(
    pred: np.ndarray,
    truth: np.ndarray,
    classes: int,
    ignore_index: int = 255,
    best: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
) -> PhotoErrors:
    """Compare a label map with its ground truth.

    An object is a connected region (8 neighbours) of one class of the ground truth. Its IoU is taken with all predicted
    regions of its class that touch it; their pixels on other objects of the class do not count against it.

    Args:
        pred: integer ``[H, W]``, classes ``0..C - 1``.
        truth: integer ``[H, W]``, the same or ``ignore_index``.
        classes: their number C.
        ignore_index: label of pixels that do not count.
        best: integer ``[H, W]`` class of the largest probability of each pixel.
        confidence: float ``[H, W]`` that probability. Pixels whose label is another class than ``best`` (a threshold
            made them background, a refiner changed them) have no confidence of their own and are left out.

    Raises:
        ValueError: for maps of different sizes, or labels outside of the classes.
    """
    if pred.shape != truth.shape:
        raise ValueError(f"prediction of {pred.shape} for a ground truth of {truth.shape}: they must be of one size")
    valid = truth != ignore_index
    for what, labels in (("prediction", pred[valid]), ("ground truth", truth[valid])):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"{what} has labels outside of 0..{classes - 1}")
    small, sizes = _objects(pred, truth, valid)
    zones = np.where(small, 0, np.where(boundary_distance(truth) <= NEAR, 1, 2))
    keys = (zones[valid].astype(np.int64) * classes + truth[valid]) * classes + pred[valid]
    found, counts = _counted(keys, len(ZONES) * classes**2)
    pairs = np.stack([found // classes**2, found // classes % classes, found % classes, counts], axis=1)
    if best is None or confidence is None:
        return PhotoErrors(pairs, sizes)
    sure = valid & (best == pred)
    value, right = np.clip(confidence[sure].astype(np.float64), 0, 1), (pred == truth)[sure]
    group = np.minimum((value * BINS).astype(np.int64), BINS - 1)
    columns = [np.bincount(group, weight, BINS) for weight in (None, value, right)]
    return PhotoErrors(pairs, sizes, np.stack(columns, 1).astype(np.float64), int(valid.sum() - sure.sum()))


def _objects(pred: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of small objects, bool ``[H, W]``, and the rows of :attr:`PhotoErrors.sizes`."""
    small, sizes = np.zeros(truth.shape, bool), np.zeros((len(SIZES), 5))
    for label in np.unique(truth[valid]):
        there, taken = truth == label, (pred == label) & valid
        box = _box(there | taken)
        there, taken = there[box], taken[box]
        count, objects, stats, _ = cv2.connectedComponentsWithStats(there.astype(np.uint8), connectivity=8)
        area = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
        group = np.searchsorted(np.array(SIZES) * truth.size, area)
        group[0] = len(SIZES)  # everything else, which is no object
        right = np.bincount(objects[taken], minlength=count)
        regions, region = cv2.connectedComponents(taken.astype(np.uint8), connectivity=8)
        beyond = np.bincount(region[taken & ~there], minlength=regions)
        touching, _ = _counted(objects[taken].astype(np.int64) * regions + region[taken], count * regions)
        false = np.bincount(touching // regions, beyond[touching % regions], minlength=count)
        iou = right / np.maximum(1, area + false)
        for column, weight in enumerate((None, iou, iou >= 0.5, area, right)):
            sizes[:, column] += np.bincount(group, weight, len(SIZES) + 1)[: len(SIZES)]
        small[box] |= (group == 0)[objects]
    return small, sizes


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    """The smallest part of a map ``[H, W]`` that holds all of a mask with at least one pixel."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _counted(values: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """The different values among integers ``0..end - 1``, ascending, and how often each occurs."""
    if end > _TABLE:
        return np.unique(values, return_counts=True)
    counts = np.bincount(values, minlength=end)
    found = np.flatnonzero(counts)
    return found, counts[found]


@dataclass(frozen=True)
class ConfusedPair:
    """Pixels of one class that were given to another.

    Attributes:
        truth, predicted: indices of the classes.
        pixels: their number.
        of_class: share of the pixels of ``truth``.
        of_errors: share of all wrong pixels.
        zones: share of them in each of :data:`ZONES`.
    """

    truth: int
    predicted: int
    pixels: int
    of_class: float
    of_errors: float
    zones: tuple[float, ...]


class ErrorStatistics:
    """Sums over photos.

    Args:
        classes: number of classes.

    Attributes:
        matrices: int64 ``[3, C, C]``, a confusion matrix (row = true class) per zone.
        sizes: see :class:`PhotoErrors`.
        calibration: float64 ``[BINS, 3]``; zeros without confidences.
        unsure: pixels that have no confidence of their own.
        photos: number of photos.
    """

    def __init__(self, classes: int) -> None:
        self.matrices = np.zeros((len(ZONES), classes, classes), np.int64)
        self.sizes = np.zeros((len(SIZES), 5))
        self.calibration = np.zeros((BINS, 3))
        self.unsure = self.photos = 0

    def add(self, photo: PhotoErrors) -> None:
        """One more photo."""
        zones, truth, pred, counts = photo.pairs.T
        np.add.at(self.matrices, (zones, truth, pred), counts)
        self.sizes += photo.sizes
        if photo.calibration is not None:
            self.calibration += photo.calibration
            self.unsure += photo.unsure
        self.photos += 1

    @property
    def matrix(self) -> np.ndarray:
        """The confusion matrix of everything, ``[C, C]``."""
        return self.matrices.sum(0)

    def zones(self) -> list[dict[str, object]]:
        """Per zone: ``zone``, ``pixels``, ``share`` of the pixels, ``accuracy`` and ``mIoU`` in percent (``None`` where
        there are no pixels), ``errors``, and ``of_errors``, their share of all errors."""
        rows, pixels = [], max(1, int(self.matrices.sum()))
        wrong = [int(m.sum() - np.trace(m)) for m in self.matrices]
        for zone, matrix, errors in zip(ZONES, self.matrices, wrong, strict=True):
            found, count = summarise(matrix), int(matrix.sum())
            rows.append(
                {
                    "zone": zone,
                    "pixels": count,
                    "share": count / pixels,
                    "accuracy": found.aAcc if count else None,
                    "mIoU": found.mIoU if count else None,
                    "errors": errors,
                    "of_errors": errors / max(1, sum(wrong)),
                }
            )
        return rows

    def confused(self, most: int = 20) -> list[ConfusedPair]:
        """The pairs of classes with most wrong pixels, most first."""
        matrix = self.matrix
        pixels = matrix.sum(1)
        np.fill_diagonal(matrix, 0)
        total = int(matrix.sum())
        order = np.argsort(-matrix, axis=None, kind="stable")[:most]
        found = []
        for truth, pred in zip(*np.unravel_index(order, matrix.shape), strict=True):
            count = int(matrix[truth, pred])
            if count:
                zones = tuple(float(share) for share in self.matrices[:, truth, pred] / count)
                found.append(
                    ConfusedPair(int(truth), int(pred), count, count / int(pixels[truth]), count / total, zones)
                )
        return found

    def by_size(self) -> list[dict[str, object]]:
        """Per group of :data:`SIZES`: ``up_to`` (share of the photo), ``objects``, ``IoU`` (mean over the objects) and
        ``accuracy`` (of their pixels) in percent, ``found`` (share with an IoU of at least 0.5)."""
        rows = []
        for bound, (objects, iou, found, pixels, right) in zip(SIZES, self.sizes, strict=True):
            rows.append(
                {
                    "up_to": bound,
                    "objects": int(objects),
                    "IoU": 100 * iou / objects if objects else None,
                    "found": found / objects if objects else None,
                    "accuracy": 100 * right / pixels if pixels else None,
                }
            )
        return rows

    def ece(self) -> float | None:
        """Expected calibration error in percent: mean distance of confidence and accuracy over the bins, each weighed
        by its pixels; ``None`` without confidences."""
        total = self.calibration[:, 0].sum()
        if not total:
            return None
        return 100 * float(np.abs(self.calibration[:, 1] - self.calibration[:, 2]).sum() / total)

    def reliability(self) -> Iterator[tuple[float, float, float | None, float | None]]:
        """Per bin: lower bound, share of the pixels, mean confidence and accuracy (in 0..1; ``None``: empty)."""
        total = max(1.0, self.calibration[:, 0].sum())
        for i, (count, confidence, right) in enumerate(self.calibration):
            yield i / BINS, count / total, confidence / count if count else None, right / count if count else None

    def facts(self, names: Sequence[str], most: int = 20) -> dict[str, object]:
        """Everything that is read off, as JSON knows it."""
        pairs = [
            {
                "truth": names[pair.truth],
                "predicted": names[pair.predicted],
                "pixels": pair.pixels,
                "of_class": pair.of_class,
                "of_errors": pair.of_errors,
                "zones": dict(zip(ZONES, pair.zones, strict=True)),
            }
            for pair in self.confused(most)
        ]
        return {
            "photos": self.photos,
            "mIoU": summarise(self.matrix).mIoU if self.matrix.any() else None,
            "zones": self.zones(),
            "confused": pairs,
            "sizes": self.by_size(),
            "ece": self.ece(),
        }
