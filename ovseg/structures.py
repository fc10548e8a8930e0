"""The few records that travel between the components of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ovseg.backbones.towers import VisionTower


@dataclass
class FeatureMap:
    """Token features of a batch of windows on a regular grid.

    Attributes:
        tokens: ``[B, P + h * w, C]``; ``P`` prefix tokens (CLS, registers) first, then the patches row by row.
        grid: ``(h, w)`` in patches.
        num_prefix: ``P``.
        affinity: ``[B, P + N, P + N]`` how much the tokens belong together, where a method reports it for later steps
            (CLIPtrase, CLIPer).
        objectness: ``[B, N]`` in 0..1, how likely a patch shows an object and not background (CLIP-DINOiser).
    """

    tokens: Tensor
    grid: tuple[int, int]
    num_prefix: int = 0
    affinity: Tensor | None = None
    objectness: Tensor | None = None

    @property
    def patches(self) -> Tensor:
        """``[B, h * w, C]``: the tokens without their prefix."""
        return self.tokens[:, self.num_prefix :]

    def as_image(self) -> Tensor:
        """``[B, C, h, w]``: the patch tokens laid out on their grid."""
        return self.patches.transpose(1, 2).unflatten(2, self.grid)


@dataclass
class AttentionContext:
    """Everything a last-block attention may look at.

    Attributes:
        x: ``[B, P + N, d]`` tokens that enter the last block.
        grid: ``(h, w)`` with ``h * w = N``.
        tower: the vision tower; ``tower.blocks[-1]`` is the block to be replaced.
        inputs: ``{i: tokens [B, P + N, d] that entered block i}`` for the blocks the attention asked for through
            ``needs_inputs`` (0-based).
        guide: features of the guide for the same windows, or ``None``.
        regions: ``[B, H, W]`` int region ids of the windows in pixels, or ``None``.
        images: ``[B, 3, H, W]`` the normalised windows themselves.
        groups: ``[B]`` index of the image that each window comes from.
    """

    x: Tensor
    grid: tuple[int, int]
    tower: VisionTower
    inputs: dict[int, Tensor] = field(default_factory=dict)
    guide: FeatureMap | None = None
    regions: Tensor | None = None
    images: Tensor | None = None
    groups: Tensor | None = None

    @property
    def num_prefix(self) -> int:
        return self.tower.num_prefix


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


def write_image(path: str | Path, array: np.ndarray) -> None:
    """Write an image array, creating parent folders.

    Raises:
        OSError: naming the path and the reason, when it cannot be written.
    """
    from PIL import Image

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    except (OSError, ValueError) as error:
        raise OSError(f"cannot write image {path}: {error}. Check the folder's permissions and the suffix.") from error


ProgressCallback = Callable[[int, int], None]


def resolve_device(device: str | torch.device | None) -> torch.device:
    """``None`` or ``'auto'`` become CUDA where there is a GPU, else the CPU."""
    if device in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)
