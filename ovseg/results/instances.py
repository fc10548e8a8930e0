"""Separate things of one class: connected parts, or the regions of the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Instance:
    """One thing in a photo.

    Attributes:
        name: its class.
        category: index of the class.
        box: ``(x, y, width, height)`` in pixels.
        mask: ``[height, width]`` bool: the pixels of the box that belong to it.
        confidence: mean probability of its class over its pixels, 0..1; ``None`` where the result has none.
    """

    name: str
    category: int
    box: tuple[int, int, int, int]
    mask: np.ndarray
    confidence: float | None = None

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.mask.sum())

    def full_mask(self, size: tuple[int, int]) -> np.ndarray:
        """``[H, W]`` bool mask at the size of the photo."""
        full = np.zeros(size, bool)
        x, y, width, height = self.box
        full[y : y + height, x : x + width] = self.mask
        return full


def instance_map(labels: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
    """Number of the thing of every pixel, int32 ``[H, W]`` from 0 on in reading order of their first pixels.

    Args:
        labels: ``[H, W]`` class indices.
        regions: ``[H, W]`` ids of regions: the pixels of one region and one class are one thing, connected or not.
            ``None``: 8-connected pixels of one class are.
    """
    if regions is None:
        found = np.zeros(labels.shape, np.int64)
        count = 0
        for value in np.unique(labels):
            parts, ids = cv2.connectedComponents((labels == value).astype(np.uint8), connectivity=8)
            inside = ids > 0
            found[inside] = ids[inside] + count
            count += parts - 1
    else:
        _, classes = np.unique(labels, return_inverse=True)
        _, areas = np.unique(regions, return_inverse=True)
        found = areas.reshape(labels.shape).astype(np.int64) * (int(classes.max()) + 1) + classes.reshape(labels.shape)
    _, first, numbers = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[numbers].reshape(labels.shape)


def instances_of(
    labels: np.ndarray,
    names: Sequence[str],
    regions: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    min_area: int = 1,
) -> list[Instance]:
    """The things of a label map, largest first; see :func:`instance_map`.

    Args:
        min_area: things of fewer pixels are left out.
    """
    numbers = instance_map(labels, regions)
    things = []
    count = int(numbers.max()) + 1
    order = np.argsort(numbers, axis=None, kind="stable")
    sizes = np.bincount(numbers.ravel(), minlength=count)
    for pixels in np.split(order, np.cumsum(sizes)[:-1]):
        if len(pixels) < min_area:
            continue
        rows, columns = np.divmod(pixels, labels.shape[1])
        y, x = int(rows.min()), int(columns.min())
        mask = np.zeros((int(rows.max()) - y + 1, int(columns.max()) - x + 1), bool)
        mask[rows - y, columns - x] = True
        category = int(labels.flat[pixels[0]])
        sure = None if confidence is None else float(confidence.ravel()[pixels].mean())
        things.append(Instance(names[category], category, (x, y, mask.shape[1], mask.shape[0]), mask, sure))
    return sorted(things, key=lambda thing: -thing.area)
