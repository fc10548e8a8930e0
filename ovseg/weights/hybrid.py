"""CLIPs whose image tower starts with a convolutional stem: open_clip's ViT over the features of a timm network.

A hybrid tower keeps everything that a method of ovseg needs (tokens, blocks, last block, projection); only the patch
convolution is another one. CLIPs of this kind: ViTamin (arXiv:2404.02132), MobileCLIP (arXiv:2311.17049).
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor, nn


class StemPatches(nn.Module):
    """Patch embedding by a convolutional network, in the place of a ViT's ``conv1``.

    The network's stage of stride 16 and its last feature map of stride 32, bilinearly enlarged, are joined per cell by
    one linear layer.

    Args:
        arch: timm's name of a network of the EfficientNet family.
        width: width of the tokens.
    """

    stride = 16

    def __init__(self, arch: str, width: int) -> None:
        super().__init__()
        self.stem = timm.create_model(arch, pretrained=False, num_classes=0)
        #: Last stage of each stride: stride -> (index of the stage, channels); the last one goes on to ``conv_head``.
        self.stages = {
            info["reduction"]: (int(info["module"].removeprefix("blocks.")), info["num_chs"])
            for info in self.stem.feature_info
        }
        if self.stride not in self.stages:
            raise ValueError(f"timm's {arch} has no stage of stride {self.stride}")
        self.channels = (self.stages[self.stride][1], self.stem.num_features)
        self.join = nn.Conv2d(sum(self.channels), width, 1)
        self.out_channels = width

    @property
    def weight(self) -> Tensor:
        """The joining layer's: tells the tower's dtype, as ``conv1.weight`` does elsewhere."""
        return self.join.weight

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The two feature maps.

        Args:
            images: normalised, ``[B, 3, H, W]``.

        Returns:
            Stride 16 ``[B, c, ceil(H / 16), ceil(W / 16)]`` and stride 32 ``[B, C, ceil(H / 32), ceil(W / 32)]``.
        """
        maps = self.maps(images)
        return maps[self.stride], maps[2 * self.stride]

    def maps(self, images: Tensor) -> dict[int, Tensor]:
        """Feature maps of all strides: ``{stride: [B, C, ceil(H / stride), ceil(W / stride)]}``."""
        stem, maps = self.stem, {}
        strides = {index: stride for stride, (index, _) in self.stages.items()}
        x = stem.bn1(stem.conv_stem(images.contiguous(memory_format=torch.channels_last)))
        for i, stage in enumerate(stem.blocks):
            x = stage(x)
            if i in strides:
                maps[strides[i]] = x
        maps[max(maps)] = stem.bn2(stem.conv_head(x))
        return maps

    def joined(self, images: Tensor) -> Tensor:
        """Both maps on the grid of stride 16, before the linear layer: ``[B, c + C, H // 16, W // 16]``."""
        rows, columns = images.shape[-2] // self.stride, images.shape[-1] // self.stride
        images = images[..., : rows * self.stride, : columns * self.stride]
        return self.combine(*self.features(images))

    @staticmethod
    def combine(fine: Tensor, coarse: Tensor) -> Tensor:
        """The coarse map at twice its size beside the fine one, which is smaller by a row where that is odd."""
        coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.cat([fine, coarse[..., : fine.shape[-2], : fine.shape[-1]].to(fine.dtype)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` normalised images to ``[B, width, H // 16, W // 16]``."""
        return self.join(self.joined(images))


def build_clip(model_config: dict[str, Any]) -> CLIP:
    """An untrained CLIP from a config in open_clip's format, with or without a stem.

    Args:
        model_config: ``embed_dim``, ``vision_cfg`` and ``text_cfg``; ``vision_cfg["stem"]`` names the network of
            :class:`StemPatches`; without it open_clip's own patch convolution stays.

    Raises:
        ValueError: a stem with a patch size other than its stride.
    """
    vision = dict(model_config["vision_cfg"])
    stem = vision.pop("stem", None)
    model = CLIP(**{**model_config, "vision_cfg": vision})
    if stem is not None:
        if vision["patch_size"] != StemPatches.stride:
            raise ValueError(f"a stem has cells of {StemPatches.stride} px; patch_size is {vision['patch_size']}")
        model.visual.conv1 = StemPatches(stem, vision["width"])
    return model
