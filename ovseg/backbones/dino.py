"""DINO, DINOv2 and DINOv3 as guides: unit features that say which patches belong together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from timm.models.eva import Eva
from torch import Tensor, nn

from ovseg.backbones.precision import MixedPrecision
from ovseg.backbones.towers import EvaTower, TimmTower, VisionTower, check_pos_embed
from ovseg.registry import BACKBONES, GUIDES
from ovseg.structures import FeatureMap
from ovseg.weights import load_dino

PARTS = ("q", "k", "v")


@BACKBONES.register_module()
@GUIDES.register_module()
class DinoBackbone(MixedPrecision):
    """A self-supervised ViT whose patch features guide CLIP.

    It sees the very windows that CLIP sees: they come in with CLIP's normalisation, which is undone before the model's
    own mean and standard deviation are applied. Padding is therefore CLIP's mean colour, as in the official code.

    Args:
        weights: name in the weights catalogue, e.g. ``'dino/vitb8'``, ``'dinov2/vitb14'``, ``'dinov3/vitb16'``.
        checkpoint: file to read instead of the catalogue's (facebookresearch's or timm's format).
        feature: ``'tokens'``: the block's output after the final LayerNorm (ProxyCLIP, Trident); or a sum of ``'q'``,
            ``'k'``, ``'v'`` of its attention, biases included and all heads concatenated, e.g. ``'q+k'`` (CorrCLIP).
            With rotary positions (DINOv3) q and k are the rotated ones.
        block: which block, counted from 0, or from the end where negative.
        pos_embed: how positions are resized, see :meth:`ovseg.backbones.towers.VisionTower.positions`.
        precision: ``'fp32'``; ``'bf16'`` or ``'fp16'`` run the blocks under autocast, ``'int8'`` multiplies bytes in
            all but the first and the last; ``'auto'`` chooses, see :mod:`ovseg.backbones.precision`; ``None``: fp32
            unless an entry point chooses.

    Raises:
        ValueError: for an unknown feature, block, position mode or precision.
    """

    weights_argument = "weights"

    supervision = "DINO: images only"

    def __init__(
        self,
        weights: str = "dino/vitb8",
        checkpoint: str | Path | None = None,
        feature: str = "tokens",
        block: int = -1,
        pos_embed: str = "scale",
        precision: str | None = None,
    ) -> None:
        super().__init__(precision)
        if feature != "tokens" and any(part not in PARTS for part in feature.split("+")):
            raise ValueError(f"feature is {feature!r}; choose 'tokens' or a sum of q, k, v such as 'k' or 'q+k'")
        check_pos_embed(pos_embed)
        loaded = load_dino(weights, checkpoint=checkpoint)
        self.weights, self.sha256 = weights, loaded.sha256
        self.tower = trunk_tower(loaded.model.eval().requires_grad_(False))
        depth = len(self.tower.blocks)
        if not -depth <= block < depth:
            raise ValueError(f"block is {block}, but {weights} has {depth} blocks")
        self.feature, self.block = feature, block % depth
        self.pos_embed = pos_embed
        self.register_buffer("mean", torch.tensor(loaded.mean).float().view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(loaded.std).float().view(3, 1, 1) * 255, persistent=False)

    @property
    def patch_size(self) -> int:
        return self.tower.patch_size

    def forward(self, windows: Tensor, mean: Tensor, std: Tensor) -> FeatureMap:
        """Unit patch features of windows.

        Args:
            windows: ``[B, 3, H, W]`` normalised by CLIP.
            mean, std: ``[3, 1, 1]`` of that normalisation, on the scale 0..255.

        Returns:
            float32 ``[B, h * w, C]`` of unit length on the guide's grid ``(H // patch, W // patch)``; no prefix tokens.
        """
        features = self.patches((windows * std + mean - self.mean) / self.std)
        return FeatureMap(F.normalize(features.tokens, dim=-1), features.grid)

    def dense(self, photo: Tensor) -> Tensor:
        """Patch features of a whole photo, not normalised.

        Args:
            photo: uint8 RGB ``[3, H, W]``; each side is resized to the nearest multiple of the patch (halves to even),
                bilinear, after normalisation.

        Returns:
            float32 ``[C, h, w]``.
        """
        image = (photo.to(self.mean.device).float() - self.mean) / self.std
        size = [max(1, round(n / self.patch_size)) * self.patch_size for n in photo.shape[1:]]
        image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)
        return self.patches(image).as_image()[0]

    def patches(self, images: Tensor) -> FeatureMap:
        """Patch features of images ``[B, 3, H, W]`` with this model's own normalisation: float32 ``[B, N, C]``, not
        normalised."""
        grid = self.tower.grid_of(*images.shape[-2:])
        x = self.tower.embed(images, self.pos_embed)  # not under autocast: all blocks add to it, so it stays fp32
        settled = self.settled
        with settled.autocast(x.device.type):
            for i, block in enumerate(self.tower.blocks[: self.block]):
                with settled.layers(i, len(self.tower.blocks)):
                    x = block(x, grid)
            x = self._features(x, grid)
        return FeatureMap(x[:, self.tower.num_prefix :].float(), grid)

    def _features(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        block = self.tower.blocks[self.block]
        if self.feature == "tokens":
            return self.tower.post_norm(block(x, grid))
        parts = dict(zip(PARTS, block.qkv(block.norm1(x), grid), strict=True))
        return sum(parts[name] for name in self.feature.split("+")).transpose(1, 2).flatten(2)

    def describe(self) -> dict[str, object]:
        """What travels with a result."""
        return {
            "weights": self.weights,
            "sha256": self.sha256,
            "feature": self.feature,
            "block": self.block,
            "pos_embed": self.pos_embed,
            "precision": str(self.settled),
        }


def trunk_tower(trunk: nn.Module) -> VisionTower:
    """The tower interface for a bare timm ViT (DINO, DINOv2) or ``Eva`` (DINOv3)."""
    model = SimpleNamespace(trunk=trunk, head=nn.Identity())
    return EvaTower(model) if isinstance(trunk, Eva) else TimmTower(model)
