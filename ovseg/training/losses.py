"""Losses of trained decoders: a prediction and label maps in, named losses out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.describing import described
from ovseg.registry import LOSSES

if TYPE_CHECKING:
    from ovseg.decoders import Prediction


@described
class SegmentationLoss(nn.Module):
    """The interface of a loss."""

    def forward(self, prediction: Prediction, labels: Tensor, ignore_index: int) -> dict[str, Tensor]:
        """Named losses; those whose name contains ``loss`` are summed and minimised (MMEngine's habit).

        Args:
            prediction: of a batch.
            labels: int64 ``[B, H, W]``, a word's index or ``ignore_index``.
            ignore_index: label of pixels that have no class.
        """
        raise NotImplementedError


@LOSSES.register_module()
class BinaryMapLoss(SegmentationLoss):
    """Every word's map on its own: binary cross-entropy at the size of the labels (CAT-Seg, section 3.4).

    The mean is taken over all pixels and words; pixels without a class count, as pixels of no word. Maps are resized
    (bilinear) to the labels.

    Args:
        ignore: leave pixels without a class out of the mean instead.
    """

    def __init__(self, ignore: bool = False) -> None:
        super().__init__()
        self.ignore = ignore

    def forward(self, prediction: Prediction, labels: Tensor, ignore_index: int) -> dict[str, Tensor]:
        """``loss_maps``, and ``accuracy_maps``: the share of labelled pixels whose largest map is their class's."""
        logits = F.interpolate(prediction.maps, size=labels.shape[1:], mode="bilinear", align_corners=False)
        words = logits.shape[1]
        known = labels != ignore_index
        if labels[known].numel() and not 0 <= int(labels[known].min()) <= int(labels[known].max()) < words:
            raise ValueError(f"labels up to {int(labels[known].max())} for the maps of {words} words")
        target = F.one_hot(labels.masked_fill(~known, words), words + 1)[..., :words].permute(0, 3, 1, 2)
        weight = known[:, None].to(logits.dtype) if self.ignore else None
        losses = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), weight, reduction="none")
        count = known.sum() * words if self.ignore else losses.numel()
        with torch.no_grad():
            right = (logits.argmax(1) == labels) & known
            accuracy = right.sum() / known.sum().clamp(min=1)
        return {"loss_maps": losses.sum() / count if self.ignore else losses.mean(), "accuracy_maps": accuracy}
