"""CLIPs with a ConvNeXt as image tower: feature maps at four strides, and the step into the text space."""

from __future__ import annotations

from pathlib import Path

import torch
from open_clip.timm_model import TimmModel
from timm.models import ConvNeXt
from torch import Tensor, nn

from ovseg.backbones.precision import MixedPrecision
from ovseg.registry import BACKBONES
from ovseg.weights import load_clip

MAX_SCALE = 100.0
"""Largest factor of the cosines that CLIP's ``logit_scale`` stands for."""


class ConvNextTower(nn.Module):
    """timm's ConvNeXt inside open_clip's ``TimmModel``.

    Attributes:
        channels: of the feature maps at strides 4, 8, 16 and 32.
        embed_dim: of the space shared with the text.

    Raises:
        TypeError: for another image tower.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        trunk = getattr(visual, "trunk", visual)
        if not isinstance(visual, TimmModel) or not isinstance(trunk, ConvNeXt):
            raise TypeError(f"image tower {type(trunk).__name__} is not a ConvNeXt: use ClipBackbone for a ViT")
        self.visual = visual
        self.channels = tuple(info["num_chs"] for info in trunk.feature_info)
        with torch.no_grad():
            self.embed_dim = self.project(trunk.head.norm.weight.new_zeros(1, self.channels[-1])).shape[-1]

    def forward(self, images: Tensor) -> list[Tensor]:
        """The stages' outputs, before any norm: ``[B, 3, H, W]`` to ``[B, C, H / s, W / s]`` for the four strides."""
        return self.visual.trunk.forward_intermediates(images, norm=False, intermediates_only=True)

    def project(self, vectors: Tensor) -> Tensor:
        """Features of the last stage ``[..., C]``, of cells or means of them, into the text space: the trunk's last
        norm and CLIP's projection, ``[..., D]``, not normalised."""
        cells = self.visual.trunk.head.norm(vectors.reshape(-1, vectors.shape[-1], 1, 1)).flatten(1)
        return self.visual.head(cells).unflatten(0, vectors.shape[:-1])


@BACKBONES.register_module()
class ConvNextClip(MixedPrecision):
    """An open_clip CLIP with a ConvNeXt, as FC-CLIP, MAFT+ and SED use it.

    Args:
        weights: name in the weights catalogue, e.g. ``'laion2b_s29b_b131k_ft_soup/convnext_large_d_320'``, or of a
            trained segmenter, whose CLIP is read, e.g. ``'fcclip/convnext_large'``.
        checkpoint: file to read instead of the catalogue's.
        precision: ``'fp32'``; ``'bf16'``, ``'fp16'`` (the stages under autocast) or ``'auto'``, see
            :mod:`ovseg.backbones.precision`. The step into the text space and everything after stay in fp32.

    Raises:
        TypeError: if the CLIP has another image tower.
        ValueError: for int8.
    """

    weights_argument = "weights"
    pos_embed = "none"
    """There are no positions to resize."""

    def __init__(self, weights: str, checkpoint: str | Path | None = None, precision: str | None = None) -> None:
        super().__init__(precision)
        loaded = load_clip(weights, checkpoint=checkpoint)
        self.weights, self.sha256 = weights, loaded.sha256
        self.clip = loaded.model.eval().requires_grad_(False)
        self.tokenizer, self.words = loaded.tokenizer, loaded.words
        self.tower = ConvNextTower(self.clip.visual)
        # 0..255 scale, as the official pipelines normalise
        self.register_buffer("mean", torch.tensor(loaded.mean).float().view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(loaded.std).float().view(3, 1, 1) * 255, persistent=False)

    @property
    def scale(self) -> Tensor:
        """Factor of the cosines with words: CLIP's own, at most :data:`MAX_SCALE`."""
        return self.clip.logit_scale.exp().clamp(max=MAX_SCALE)

    def normalise(self, image: Tensor) -> Tensor:
        """RGB ``[3, H, W]`` in 0..255 to float32, CLIP's mean and standard deviation."""
        return (image.to(self.mean.device).float() - self.mean) / self.std

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images ``[B, 3, H, W]`` to float32 maps ``[B, C, H / s, W / s]``, strides s = 4, 8, 16, 32."""
        settled = self.settled
        if settled.int8:
            raise ValueError("precision is 'int8', which a ConvNeXt has no products for: choose auto, bf16 or fp32")
        with settled.autocast(images.device.type):
            maps = self.tower(images)
        return [features.float() for features in maps]
