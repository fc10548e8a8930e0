"""SED: a cost volume of every prompt is refined while a decoder brings it up from a ConvNeXt's coarsest cells.

Xie et al., "SED: A Simple Encoder-Decoder for Open-Vocabulary Semantic Segmentation", CVPR 2024. Each step refines
every word's map in space and the words among each other at every cell, then doubles the size with the encoder's
finer maps as guidance. With early rejection words that win nowhere are dropped on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from ovseg.decoders.base import Decoder, Features, Prediction
from ovseg.decoders.cost_layers import ClassLayer, UpBlock, in_parts
from ovseg.registry import DECODERS

PIECE_VALUES = 2**22
"""Bound on the numbers that a layer is given at once in inference; results do not depend on it."""
WIDTHS, GUIDES, OUT = (128, 64, 32), (32, 16, 8), (64, 32, 16)
HEADS = 4


class FusionStep(nn.Module):
    """Refine in space and among the words, then double the size with two guides (section 3.3).

    Args:
        width: channels of a word's map.
        guide: channels of each of the two guides.
        out: channels after the step.
    """

    def __init__(self, width: int, guide: int, out: int) -> None:
        super().__init__()
        self.cnext = ConvNeXtBlock(width, kernel_size=9, ls_init_value=1.0)
        self.attention = ClassLayer(width, 0, padded=0, heads=HEADS)
        self.enlarge = UpBlock(width, guide, out, word_dim=guide)

    def refine(self, maps: Tensor, pool: int) -> Tensor:
        """``[T, width, h, w] -> [T, width, h, w]``; in inference piece by piece, in the place of ``maps``."""
        maps = in_parts(self.cnext, maps, 0, PIECE_VALUES)
        if pool > 1:
            small = self._among_words(F.avg_pool2d(maps, pool))
            return maps + F.interpolate(small, size=maps.shape[2:], mode="bilinear", align_corners=True)
        if torch.is_grad_enabled():
            return maps + self._among_words(maps)
        step = max(1, PIECE_VALUES // maps[:, :, 0].numel())
        for top in range(0, maps.shape[2], step):
            maps[:, :, top : top + step] += self._among_words(maps[:, :, top : top + step])
        return maps

    def _among_words(self, maps: Tensor) -> Tensor:
        cells = maps.flatten(2).permute(2, 0, 1)  # [h * w, T, width]
        return self.attention(cells, cells.new_zeros(1, 0)).permute(1, 2, 0).unflatten(2, maps.shape[2:])


@DECODERS.register_module()
class GradualFusionDecoder(Decoder):
    """SED's decoder beside a ConvNeXt CLIP; texts are given for every template apart.

    Args:
        tower: of a ConvNeXt CLIP (:class:`ovseg.backbones.ConvNextTower`); its ``channels`` are read.
        weights, checkpoint: see :class:`ovseg.decoders.Decoder`.
        templates: number of templates.
        early_rejection: at every size classes stay that are among so many best at some cell; the others' probability is
            0 (section 3.4). ``None``: all stay.
        training_pool: classes look at each other on cells so many times as large per axis in training.
    """

    def __init__(
        self,
        tower: nn.Module,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
        templates: int = 80,
        early_rejection: int | None = None,
        training_pool: int = 2,
    ) -> None:
        super().__init__(tower)
        if early_rejection is not None and early_rejection < 1:
            raise ValueError(f"early_rejection is {early_rejection}; give how many classes stay per cell, at least 1")
        self.early_rejection, self.training_pool = early_rejection, int(training_pool)
        self.conv1 = nn.Conv2d(templates, WIDTHS[0], 7, padding=3)
        finer = tuple(tower.channels)[-2::-1]
        self.decoder_guidance_projection = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, guide, 3, padding=1), nn.ReLU())
            for channels, guide in zip(finer, GUIDES, strict=True)
        )
        self.decoder_corr_guidance_projection = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(before, guide, 2, stride=2), nn.ReLU())
            for before, guide in zip((templates, *GUIDES), GUIDES, strict=False)
        )
        self.decoder1, self.decoder2, self.decoder3 = map(FusionStep, WIDTHS, GUIDES, OUT)
        self.head0, self.head1, self.head2 = (nn.Conv2d(width, 1, 3, padding=1) for width in WIDTHS)
        self.head = nn.Conv2d(OUT[-1], 1, 3, padding=1)
        self.load(weights, checkpoint)

    def features(self, frames: Tensor, backbone: Callable[[Tensor], list[Tensor]]) -> Features:
        """``dense`` ``[B, D, h, w]`` unit vectors at stride 32; ``guide1`` to ``guide3`` at strides 16, 8 and 4.

        Args:
            frames: ``[B, 3, H, W]`` normalised; H and W multiples of 32.
            backbone: the encoder.
        """
        maps = backbone(frames)
        dense = F.normalize(backbone.tower.project(maps[-1].permute(0, 2, 3, 1)), dim=-1).permute(0, 3, 1, 2)
        finer = zip(self.decoder_guidance_projection, maps[-2::-1], strict=True)
        # the encoder is not trained through the guidance
        return {"dense": dense, **{f"guide{i}": project(m.detach()) for i, (project, m) in enumerate(finer, start=1)}}

    def forward(self, features: Features, text: Tensor) -> Prediction:
        """As in the base class; logits are -inf for classes that were rejected.

        In training ``extras`` hold the maps of the three sizes before the last, ``auxiliary_0`` to ``auxiliary_2``.

        Args:
            text: ``[Q, P, D]`` unit vectors, P templates apart.

        Raises:
            ValueError: for another number of templates.
        """
        if text.ndim != 3 or text.shape[1] != self.conv1.in_channels:
            raise ValueError(
                f"text has shape {tuple(text.shape)}; this decoder reads [Q, {self.conv1.in_channels} templates, D]; "
                "set templates_apart=True and as many templates in model"
            )
        images = range(len(features["dense"]))
        batch = [self._decode({k: v[i : i + 1] for k, v in features.items()}, text) for i in images]
        maps, *earlier = (torch.stack(parts) for parts in zip(*batch, strict=True))
        return Prediction(maps, extras={f"auxiliary_{i}": m for i, m in enumerate(earlier)})

    def _decode(self, features: Features, text: Tensor) -> list[Tensor]:
        """Logits ``[Q, 8h, 8w]`` of one image; in training those of the smaller sizes after them."""
        cost = torch.einsum("qpd,dhw->qphw", text, features["dense"][0])
        x, auxiliary = self.conv1(cost), []
        kept = torch.arange(len(text), device=text.device)
        steps = (self.decoder1, self.decoder2, self.decoder3)
        for index, (step, early) in enumerate(zip(steps, (self.head0, self.head1, self.head2), strict=True)):
            if self.training:
                auxiliary.append(early(x.detach())[:, 0])
            elif self.early_rejection is not None:
                best = early(x)[:, 0].topk(min(self.early_rejection, len(x)), dim=0).indices.unique()
                kept, x, cost = kept[best], x[best], cost[best]
            x = step.refine(x, self.training_pool if self.training else 1)
            x = self._enlarged(index, step, x, features[f"guide{index + 1}"], cost)
        logits = x.new_full((len(text), *x.shape[2:]), -torch.inf)
        return [logits.index_copy(0, kept, x[:, 0]), *auxiliary]

    def _enlarged(self, index: int, step: FusionStep, x: Tensor, guide: Tensor, cost: Tensor) -> Tensor:
        """A step's enlargement, after the last one the head too: words are independent of each other here."""

        def enlarge(words: Tensor) -> Tensor:
            cost_guide = cost[words]
            for project in self.decoder_corr_guidance_projection[: index + 1]:
                cost_guide = project(cost_guide)
            maps = step.enlarge(x[words], guide, cost_guide)
            return self.head(maps) if index == len(WIDTHS) - 1 else maps

        return in_parts(enlarge, torch.arange(len(x), device=x.device), 0, PIECE_VALUES * len(x) // x.numel())
