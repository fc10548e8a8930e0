"""SLIC superpixels: regions without any trained part and without a further dependency."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ovseg.regions.base import RegionSource, masks_of_ids
from ovseg.registry import REGIONS


@REGIONS.register_module()
class SlicRegions(RegionSource):
    """SLIC (Achanta et al., TPAMI 2012): k-means in colour (CIELAB) and place, each pixel among its 9 nearest seeds.

    Args:
        segments: about how many superpixels.
        compactness: weight of place against colour; larger is squarer.
        iterations: of k-means.
        sigma: Gaussian blur before, in pixels; 0: none.

    Raises:
        ValueError: for fewer than one segment.
    """

    def __init__(
        self, segments: int = 100, compactness: float = 10.0, iterations: int = 10, sigma: float = 1.0
    ) -> None:
        super().__init__()
        if segments < 1:
            raise ValueError(f"segments is {segments}; give at least 1")
        self.segments, self.compactness = int(segments), float(compactness)
        self.iterations, self.sigma = int(iterations), float(sigma)

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        if self.sigma:
            image = cv2.GaussianBlur(image, (0, 0), self.sigma)
        lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        return masks_of_ids(slic(lab, self.segments, self.compactness, self.iterations) + 1)

    def describe(self) -> dict[str, object]:
        return {
            **super().describe(),
            "segments": self.segments,
            "compactness": self.compactness,
            "iterations": self.iterations,
            "sigma": self.sigma,
        }


def slic(lab: np.ndarray, segments: int, compactness: float, iterations: int) -> np.ndarray:
    """Superpixel ids int32 ``[H, W]``, 0 .. n - 1, each connected.

    Args:
        lab: float32 ``[H, W, 3]`` CIELAB.
        segments, compactness, iterations: see :class:`SlicRegions`.
    """
    height, width = lab.shape[:2]
    step = max(1.0, (height * width / segments) ** 0.5)
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    points = np.dstack([lab, y * (compactness / step), x * (compactness / step)]).reshape(-1, 5)
    cell_y = np.minimum((y * rows / height).astype(int), rows - 1).ravel()
    cell_x = np.minimum((x * columns / width).astype(int), columns - 1).ravel()
    labels = cell_y * columns + cell_x
    for _ in range(iterations):
        centres = _means(points, labels, rows * columns)
        best = np.full(len(points), np.inf, np.float32)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                seed_y, seed_x = np.clip(cell_y + dy, 0, rows - 1), np.clip(cell_x + dx, 0, columns - 1)
                seed = seed_y * columns + seed_x
                distance = ((points - centres[seed]) ** 2).sum(1)
                closer = distance < best
                best[closer], labels[closer] = distance[closer], seed[closer]
    return connect(labels.reshape(height, width), least=int(step * step / 4))


def _means(points: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Mean point of every label; labels without points keep a place nobody is near to."""
    size = np.bincount(labels, minlength=count)
    sums = np.stack([np.bincount(labels, weights=p, minlength=count) for p in points.T], axis=1)
    means = sums / np.maximum(size, 1)[:, None]
    means[size == 0] = 1e6
    return means.astype(np.float32)


def connect(labels: np.ndarray, least: int) -> np.ndarray:
    """Give every connected part (4 neighbours) an id; parts below ``least`` pixels join the largest neighbour."""
    index = np.arange(labels.size).reshape(labels.shape)
    pairs = np.concatenate(
        [
            np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], 1),
            np.stack([index[:-1].ravel(), index[1:].ravel()], 1),
        ]
    )
    same = labels.ravel()[pairs[:, 0]] == labels.ravel()[pairs[:, 1]]
    inside = pairs[same]
    graph = coo_matrix((np.ones(len(inside), bool), inside.T), shape=(labels.size, labels.size))
    count, parts = connected_components(graph, directed=False)
    area = np.bincount(parts, minlength=count)
    borders = np.unique(parts[pairs[~same]].reshape(-1, 2), axis=0)
    neighbours: dict[int, set[int]] = {}
    for a, b in borders:
        neighbours.setdefault(int(a), set()).add(int(b))
        neighbours.setdefault(int(b), set()).add(int(a))
    target = np.arange(count)
    for part in np.argsort(area, kind="stable"):
        if area[part] >= least or int(part) not in neighbours:
            continue
        host = max(neighbours[int(part)], key=lambda n: (area[target[n]], -n))
        target[target == part] = target[host]
        area[target[host]] += area[part]
    return np.unique(target[parts], return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
