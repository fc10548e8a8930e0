"""The confusion matrix of a data set and the numbers read off it.

Functional core of :class:`ovseg.evaluation.SegMetric`. One int64 matrix is all that is kept of any number of images,
and matrices of parts add up: one process and N processes give the same digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ovseg.ops import bindings
from ovseg.ops.checks import widened

MIOU_RULE = "mIoU: mean over classes with a non-empty union; mIoU_present: mean over classes in the ground truth"
"""What the two means are taken over, to be written beside them. The first is mmseg's rule: a class that is absent but
predicted somewhere counts 0. The second is that of newer detectron2, higher where many classes are absent."""

_BLOCK = 1 << 22  # pixels at a time: bounds the int64 index that bincount needs


def confusion_update(
    matrix: Tensor, pred: Tensor | np.ndarray, gt: Tensor | np.ndarray, ignore_index: int = 255
) -> Tensor:
    """Add one image to a confusion matrix, in place.

    Args:
        matrix: int64 ``[C, C]``; row = true class, column = predicted class. ``[C, C + 1]`` where pixels may be left
            unlabelled: their column is the last.
        pred: integers of any type and shape, classes ``0..C - 1``, or C for unlabelled; ``SegmentationResult.labels``
            as they are.
        gt: integers of any type with as many elements, classes ``0..C - 1`` or ``ignore_index``.
        ignore_index: label of pixels that do not count.

    Returns:
        ``matrix``.

    Raises:
        ValueError: for labels outside these ranges, of a type that is no integer, or sizes that differ; ``matrix`` is
            then unchanged.

    >>> m = torch.zeros(3, 3, dtype=torch.int64)
    >>> confusion_update(m, torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0, 1], [2, 255]]))
    tensor([[1, 0, 0],
            [0, 1, 0],
            [0, 1, 0]])
    """
    classes, columns = matrix.shape if matrix.dim() == 2 else (0, -1)
    if matrix.dtype != torch.int64 or columns not in (classes, classes + 1):
        raise ValueError(f"a confusion matrix is int64 [C, C] or [C, C + 1], not {matrix.dtype} {list(matrix.shape)}")
    pred, gt = _tensor("prediction", pred), _tensor("ground truth", gt)
    if pred.numel() != gt.numel():
        raise ValueError(f"prediction of shape {list(pred.shape)} for a label map of shape {list(gt.shape)}")
    pred = widened("prediction", pred.reshape(-1))
    gt = widened("ground truth", gt.reshape(-1).to(pred.device), ignore_index)
    if pred.numel() == 0:
        return matrix
    true = torch.where(gt == ignore_index, 0, gt)
    extremes = torch.stack([bound.long() for labels in (pred, true) for bound in labels.aminmax()])
    low, high, true_low, true_high = extremes.tolist()  # the only wait for the device
    if low < 0 or high >= columns:
        raise ValueError(
            f"prediction {high if high >= columns else low} outside the data set's classes 0..{classes - 1}: "
            "the model's vocabulary and the data set do not belong together (compare their numbers of classes)"
        )
    if true_low < 0 or true_high >= classes:
        worst = true_high if true_high >= classes else true_low
        raise ValueError(
            f"ground-truth label {worst} outside classes 0..{classes - 1} and not ignored ({ignore_index})"
        )
    for p, t in zip(pred.split(_BLOCK), gt.split(_BLOCK), strict=True):
        matrix += bindings.confusion_matrix(p, t, columns, ignore_index)[:classes].to(matrix.device)
    return matrix


def _tensor(name: str, labels: Tensor | np.ndarray) -> Tensor:
    """A tensor of labels; arrays of any integer type and byte order."""
    if isinstance(labels, Tensor):
        return labels
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, got {array.dtype}")
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("=")))  # a copy: torch wants no negative strides


@dataclass(frozen=True)
class SegSummary:
    """What a confusion matrix says. Accuracies and IoUs are in percent, ``nan`` where they are undefined.

    Attributes:
        aAcc: share of all pixels that are right.
        mIoU: mean IoU, mmseg's rule: over classes whose union is not empty.
        mIoU_present: mean IoU over the classes that occur in the ground truth.
        mAcc: mean accuracy (recall) over the classes that occur in the ground truth.
        iou, acc: float64 ``[C]`` per class.
        pixels: int64 ``[C]`` of the ground truth per class.
        predicted: int64 ``[C]`` predicted per class where the ground truth is not ignored.
    """

    aAcc: float
    mIoU: float
    mIoU_present: float
    mAcc: float
    iou: np.ndarray
    acc: np.ndarray
    pixels: np.ndarray
    predicted: np.ndarray

    def means(self) -> dict[str, float]:
        """The four means by name."""
        return {name: getattr(self, name) for name in ("aAcc", "mIoU", "mIoU_present", "mAcc")}

    def per_class(self, names: Sequence[str]) -> list[dict[str, object]]:
        """One record per class, in class order; undefined values are ``None``, as JSON has no nan."""
        return [
            {
                "name": name,
                "iou": None if np.isnan(self.iou[i]) else float(self.iou[i]),
                "acc": None if np.isnan(self.acc[i]) else float(self.acc[i]),
                "pixels": int(self.pixels[i]),
                "predicted": int(self.predicted[i]),
            }
            for i, name in enumerate(names)
        ]


def summarise(matrix: Tensor | np.ndarray) -> SegSummary:
    """Accuracies and IoUs of a confusion matrix (row = true class); see :data:`MIOU_RULE`.

    Args:
        matrix: ``[C, C]``, or ``[C, C + 1]`` with a column of unlabelled pixels, which are missed only.

    >>> s = summarise(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    >>> round(s.mIoU, 2), round(s.aAcc, 2), s.pixels.tolist()
    (77.5, 87.5, [4, 4, 0])
    """
    counts = matrix.cpu().numpy() if isinstance(matrix, Tensor) else np.asarray(matrix)
    counts = counts.astype(np.int64)
    hit, pixels, predicted = np.diag(counts), counts.sum(axis=1), counts[:, : len(counts)].sum(axis=0)
    union = pixels + predicted - hit
    iou, acc = _percent(hit, union), _percent(hit, pixels)
    return SegSummary(
        aAcc=float(_percent(hit.sum(), counts.sum())),
        mIoU=_mean(iou[union > 0]),
        mIoU_present=_mean(iou[pixels > 0]),
        mAcc=_mean(acc[pixels > 0]),
        iou=iou,
        acc=acc,
        pixels=pixels,
        predicted=predicted,
    )


def mean_of_classes(summary: SegSummary, chosen: Sequence[bool]) -> float:
    """Mean IoU in percent over some classes, by the rule of ``mIoU``; ``nan`` where none of them has a union.

    Args:
        chosen: ``[C]``, which classes count.
    """
    return _mean(summary.iou[np.asarray(chosen) & (summary.pixels + summary.predicted > 0)])


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100.0 * np.asarray(part, np.float64) / np.asarray(whole, np.float64)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
