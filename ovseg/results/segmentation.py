"""The labels of one image with the words they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovseg.results.images import write_image


@dataclass
class SegmentationResult:
    """Labels of one image with the words they stand for.

    Attributes:
        labels: ``[H, W]`` uint16 class indices into ``names``.
        names: one name per class.
        image: ``[H, W, 3]`` uint8 RGB, the photo itself (for :meth:`overlay`).
    """

    labels: np.ndarray
    names: tuple[str, ...]
    image: np.ndarray

    def areas(self) -> dict[str, float]:
        """Share of the image (0..1) of every class that occurs, largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
        return {self.names[i]: counts[i] / self.labels.size for i in order}

    def mask(self, name: str) -> np.ndarray:
        """``[H, W]`` bool mask of one class.

        Raises:
            KeyError: if ``name`` is not one of the classes.
        """
        if name not in self.names:
            raise KeyError(f"no class {name!r}; the vocabulary holds {', '.join(self.names[:10])}...")
        return self.labels == self.names.index(name)

    def overlay(self, alpha: float = 0.5, legend: bool = True) -> np.ndarray:
        """The photo with coloured classes and a legend, uint8 RGB (wider than the photo where there is a legend)."""
        from ovseg.visualization import draw_overlay

        return draw_overlay(self.image, self.labels, self.names, alpha=alpha, legend=legend)

    def save(self, path: str | Path, alpha: float = 0.5) -> None:
        """Write :meth:`overlay` to ``path`` (format by suffix).

        Raises:
            OSError: naming the path, when it cannot be written.
        """
        write_image(path, self.overlay(alpha))

    def save_labels(self, path: str | Path) -> None:
        """Write the class indices as a PNG: 8 bit up to 256 classes, else 16 bit."""
        wide = len(self.names) > 256
        write_image(path, self.labels.astype(np.uint16 if wide else np.uint8))
