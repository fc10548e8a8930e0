"""Outlines of label maps: polygons along the pixels' edges, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from ovseg.rle import MaskCodeError

Ring = np.ndarray
"""``[N, 2]`` float64 corners (x, y) in pixels from the upper left corner of the image; not closed."""

_ENLARGE = 3
"""OpenCV's outlines run through the centres of border pixels. With every pixel drawn three times as large, the border
pixels of a shape lie within a third of a pixel of its edge, outside and in holes alike, so that rounding finds it."""


def outlines(mask: np.ndarray) -> Iterator[list[Ring]]:
    """The 4-connected parts of a mask as polygons along the pixels' edges: exact, and without overlaps.

    Args:
        mask: ``[H, W]`` bool.

    Yields:
        rings of one part: the outer one, then those of its holes.
    """
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    for part in range(1, count):
        x, y, width, height = (int(v) for v in stats[part, :4])
        inside = (parts[y : y + height, x : x + width] == part).astype(np.uint8)
        large = inside.repeat(_ENLARGE, axis=0).repeat(_ENLARGE, axis=1)
        large = np.pad(large, 1)
        found, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        rings = [_corners(np.rint((ring[:, 0].astype(np.float64) - 1) / _ENLARGE)) for ring in found]
        rings = [ring for ring in rings if len(ring) >= 4]
        rings.sort(key=lambda ring: -abs(area(ring)))  # the outer ring holds all others
        yield [ring + (x, y) for ring in rings]


def _corners(ring: Ring) -> Ring:
    """The ring without repeated points and without points on a straight line."""
    ring = ring[np.any(ring != np.roll(ring, 1, axis=0), axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def area(ring: Ring) -> float:
    """Signed area of a ring in square pixels (Gauss's formula)."""
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def join_holes(rings: Sequence[Ring]) -> Ring:
    """One ring for a polygon with holes: each hole hangs on the outer ring by a cut of no width.

    For formats without holes (LabelMe, COCO's polygons). The area is the same; filling by the even-odd rule too.
    """
    from scipy.spatial import cKDTree  # slow to import, and few results need it

    whole = rings[0]
    for hole in rings[1:]:
        gaps, nearest = cKDTree(whole).query(hole)
        j = int(gaps.argmin())
        i = int(nearest[j])
        turned = np.roll(hole, -j, axis=0)
        whole = np.concatenate([whole[: i + 1], turned, turned[:1], whole[i:]])
    return whole


def fill(rings: Sequence[Ring], size: tuple[int, int]) -> np.ndarray:
    """Mask ``[H, W]`` bool of the pixels whose centres lie inside the rings by the even-odd rule.

    Exact for :func:`outlines` of a mask.

    Raises:
        MaskCodeError: for a ring of fewer than three points, or with coordinates that are not finite or far outside.
    """
    height, width = size
    edges = []
    for ring in rings:
        ring = np.asarray(ring, np.float64)
        if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
            raise MaskCodeError(f"a ring is at least three points (x, y), not an array of {list(ring.shape)}")
        if not np.isfinite(ring).all() or np.abs(ring).max() > 2 * max(height, width) + 1:
            raise MaskCodeError(f"a ring has coordinates that are not finite or far outside of {width} x {height}")
        edges.append(np.concatenate([ring, np.roll(ring, -1, axis=0)], axis=1))
    x0, y0, x1, y1 = np.concatenate(edges).T if edges else np.zeros((4, 0))
    flips = np.zeros((height, width + 1), np.int32)
    # every row of pixel centres is crossed by edges at certain x; what lies right of an odd number of them is inside
    low, high = np.minimum(y0, y1), np.maximum(y0, y1)
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(high - 0.5), 0, height).astype(np.int64)
    crossed = last - first
    edge = np.repeat(np.arange(len(crossed)), crossed)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    at = x0[edge] + (rows + 0.5 - y0[edge]) * slope
    columns = np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)
    np.add.at(flips, (rows, columns), 1)
    return np.cumsum(flips[:, :width], axis=1) % 2 == 1
