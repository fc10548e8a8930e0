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
from timm.layers import Conv2dSame
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """timm's ``Conv2dSame`` (TensorFlow's "same" padding) at stride 2 with an odd kernel.

    The padding is a constant plus what the side leaves over by 2: in these terms a graph exported for windows of
    any size stays simple (timm's own kept ``torch.export`` busy for more than seven minutes).
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> SameConv2d:
        """With the parameters of another one."""
        made = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        made.weight, made.bias = conv.weight, conv.bias
        return made

    def forward(self, x: Tensor) -> Tensor:
        height, width = (size // 2 for size in self.kernel_size)
        rows, columns = x.shape[-2] % 2, x.shape[-1] % 2
        x = F.pad(x, (width - 1 + columns, width, height - 1 + rows, height))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


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
        for name, part in list(self.stem.named_modules()):
            if isinstance(part, Conv2dSame):
                if (
                    part.stride != (2, 2)
                    or part.dilation != (1, 1)
                    or not all(n % 2 and n > 1 for n in part.kernel_size)
                ):
                    raise ValueError(f"timm's {arch} has a convolution that is not known here: {name}, {part}")
                self.stem.set_submodule(name, SameConv2d.of(part))
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
        size = (2 * coarse.shape[-2], 2 * coarse.shape[-1])  # not a scale factor: an exported graph would round floats
        coarse = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        if torch.compiler.is_exporting():  # a slice would fix whether the patches are odd in number
            for dim in (-2, -1):
                coarse = coarse.index_select(dim, torch.arange(fine.shape[dim], device=fine.device))
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
