"""An ordinary segmenter whose classifier is frozen text: the student of MaskCLIP+."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from ovseg.decoders.base import Decoder, Encoder, Features, Prediction
from ovseg.registry import DECODERS
from ovseg.structures import Tower
from ovseg.weights import load_state_dict
from ovseg.weights.assemble import assemble

AFTER_MAPS = ("fc.", "classifier.", "conv_head.", "bn2.")
"""What timm's networks have behind their last feature map; keys of a file that begin so are not asked for."""


@DECODERS.register_module()
class DeepLabDecoder(Decoder):
    """DeepLabv2 on a network of its own; words are the weights of its last layer (MaskCLIP+, Zhou et al., 2022, 3.3).

    The sum of four dilated 3x3 convolutions with batch norm and ReLU (Chen et al., DeepLab, 2017, section 3.2) gives
    features as wide as the words, whose products with these, without norm and temperature, are the logits. CLIP's image
    tower is not used.

    Args:
        tower: CLIP's; only ``embed_dim`` is read.
        weights, checkpoint: see :class:`ovseg.decoders.Decoder`.
        network: timm's name of a network that gives feature maps (``features_only``); ``resnet50c`` and ``resnet101c``
            are those of the paper.
        network_checkpoint: timm's file of it, trained on ImageNet; ``None``: random.
        dilations: of the convolutions.
        output_stride: pixels per cell of the maps, 8, 16 or 32.
    """

    def __init__(
        self,
        tower: Tower,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
        network: str = "resnet101c",
        network_checkpoint: str | Path | None = None,
        dilations: tuple[int, ...] = (6, 12, 18, 24),
        output_stride: int = 8,
    ) -> None:
        super().__init__(tower)
        self.network = timm.create_model(network, features_only=True, output_stride=output_stride)
        width = self.network.feature_info.channels()[-1]
        if network_checkpoint is not None:
            own = self.network.state_dict()
            found = {
                k: v for k, v in load_state_dict(network_checkpoint).items() if k in own or not k.startswith(AFTER_MAPS)
            }
            assemble(self.network, found, network_checkpoint, f"timm's {network}")
        self.aspp = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, tower.embed_dim, 3, padding=d, dilation=d, bias=False),
                nn.BatchNorm2d(tower.embed_dim),
                nn.ReLU(),
            )
            for d in dilations
        )
        for branch in self.aspp:
            nn.init.normal_(branch[0].weight, std=0.01)
        self.load(weights, checkpoint)

    def features(self, frames: Tensor, backbone: Encoder) -> Features:
        """``dense`` ``[B, D, h, w]``, not normalised."""
        maps = self.network(frames)[-1]
        return {"dense": sum(branch(maps) for branch in self.aspp)}

    def forward(self, features: Features, text: Tensor) -> Prediction:
        """As in the base class; the maps are products of features and words."""
        return Prediction(torch.einsum("bdhw,qd->bqhw", features["dense"], text))
