"""The convolutional stem of a hybrid CLIP as a guide: its features say which cells belong together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.registry import BACKBONES, GUIDES
from ovseg.structures import FeatureMap
from ovseg.weights import load_clip
from ovseg.weights.hybrid import StemPatches


@BACKBONES.register_module()
@GUIDES.register_module()
class StemGuide(nn.Module):
    """Feature maps of several strides, side by side on the finest one's grid.

    Features after a ReLU all point one way, so each map is centred over its window first; then every map's vector of a
    cell has unit length, so that all strides count the same.

    Args:
        weights: name of a CLIP with a stem in the weights catalogue.
        checkpoint: file to read instead of the catalogue's.
        strides: which maps, of 2, 4, 8, 16 and 32 px; the smallest is the guide's grid.

    Raises:
        ValueError: for a CLIP without a stem, or a stride that its stem has not.
    """

    supervision = "stem: ImageNet classes"

    def __init__(
        self,
        weights: str = "nano-photo",
        checkpoint: str | Path | None = None,
        strides: Sequence[int] = (16, 32),
    ) -> None:
        super().__init__()
        loaded = load_clip(weights, checkpoint=checkpoint)
        patches = getattr(loaded.model.visual, "conv1", None)
        if not isinstance(patches, StemPatches):
            raise ValueError(
                f"{weights!r} is a CLIP without a convolutional stem: StemGuide needs one, as nano-photo's"
            )
        unknown = sorted(set(strides) - set(patches.stages))
        if unknown or not strides:
            raise ValueError(f"strides is {tuple(strides)}; choose some of {', '.join(map(str, patches.stages))}")
        self.weights, self.sha256, self.strides = weights, loaded.sha256, tuple(sorted(strides))
        self.patches = patches.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(loaded.mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(loaded.std).view(3, 1, 1) * 255, persistent=False)

    @property
    def patch_size(self) -> int:
        return self.strides[0]

    def forward(self, windows: Tensor, mean: Tensor, std: Tensor) -> FeatureMap:
        """Unit features of windows.

        Args:
            windows: ``[B, 3, H, W]`` normalised by CLIP.
            mean, std: ``[3, 1, 1]`` of that normalisation, on the scale 0..255.

        Returns:
            float32 ``[B, h * w, C]`` of unit length on the grid of the smallest stride; no prefix tokens.

        Raises:
            ValueError: for windows smaller than one cell.
        """
        grid = (windows.shape[-2] // self.patch_size, windows.shape[-1] // self.patch_size)
        if 0 in grid:
            raise ValueError(
                f"windows of {tuple(windows.shape[-2:])} px are smaller than a cell of {self.patch_size} px"
            )
        windows = windows[..., : grid[0] * self.patch_size, : grid[1] * self.patch_size]
        maps = self.patches.maps((windows * std + mean - self.mean) / self.std)
        parts = []
        for stride in self.strides:
            x = maps[stride].float()
            x = F.normalize(x - x.mean(dim=(2, 3), keepdim=True), dim=1)
            # Enlarged by the strides' ratio: the last row or column of a coarse map may stick out.
            scale = stride // self.patch_size
            if scale > 1:
                x = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
            parts.append(x[..., : grid[0], : grid[1]])
        return FeatureMap(F.normalize(torch.cat(parts, dim=1).flatten(2).mT, dim=-1), grid)

    def dense(self, photo: Tensor) -> Tensor:
        """Unit features of a whole photo, for :class:`ovseg.backbones.PhotoGuide`.

        Args:
            photo: uint8 RGB ``[3, H, W]``; each side is resized (bilinear) to the nearest multiple of the largest
                stride.

        Returns:
            float32 ``[C, h, w]``.
        """
        step = self.strides[-1]
        size = [max(1, round(n / step)) * step for n in photo.shape[1:]]
        image = photo.to(self.mean.device).float()[None]
        image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        return self(image, torch.zeros_like(self.mean), torch.ones_like(self.std)).as_image()[0]

    def describe(self) -> dict[str, object]:
        """What travels with a result."""
        return {"weights": self.weights, "sha256": self.sha256, "strides": list(self.strides)}
