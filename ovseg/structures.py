"""The few records that travel between the components of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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


ProgressCallback = Callable[[int, int], None]


def resolve_device(device: str | torch.device | None) -> torch.device:
    """``None`` or ``'auto'`` become CUDA where there is a GPU, else the CPU."""
    if device in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)
