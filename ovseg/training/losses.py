"""Losses of trained decoders: a prediction and label maps in, named losses out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.describing import described
from ovseg.ops import bilinear_matrix
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
    (bilinear) to the labels. Maps of earlier stages in ``extras['auxiliary_0']``, ... have the same loss (SED).

    Args:
        ignore: leave pixels without a class out of the mean instead.
    """

    def __init__(self, ignore: bool = False) -> None:
        super().__init__()
        self.ignore = ignore

    def forward(self, prediction: Prediction, labels: Tensor, ignore_index: int) -> dict[str, Tensor]:
        """``loss_maps``, and ``accuracy_maps``: the share of labelled pixels whose largest map is their class's.

        Those of auxiliary maps are ``loss_auxiliary_0``, ...
        """
        known, words = labels != ignore_index, prediction.maps.shape[1]
        check_labels(labels[known], words)
        target = F.one_hot(labels.masked_fill(~known, words), words + 1)[..., :words].permute(0, 3, 1, 2)
        losses = {"loss_maps": self._of_maps(prediction.maps, target, known)}
        for name, maps in prediction.extras.items():
            if name.startswith("auxiliary_"):
                losses[f"loss_{name}"] = self._of_maps(maps, target, known)
        return {**losses, "accuracy_maps": accuracy(prediction.maps, labels, known)}

    def _of_maps(self, maps: Tensor, target: Tensor, known: Tensor) -> Tensor:
        logits = F.interpolate(maps, size=target.shape[2:], mode="bilinear", align_corners=False)
        target = target.to(logits.dtype)
        if not self.ignore:
            return F.binary_cross_entropy_with_logits(logits, target)
        weight = known[:, None].to(logits.dtype)
        total = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
        return total / (known.sum() * target.shape[1])


@LOSSES.register_module()
class PixelLoss(SegmentationLoss):
    """Cross-entropy over the words at every pixel that has a class; maps are resized (bilinear) to the labels.

    Args:
        logit_scale: factor of the maps.
        every: only every so many-th pixel of each row and column, with the values that it has in the resized maps: many
            words at full size are what a step of a small model costs.
        auxiliary_weight: of the same loss of maps in ``extras['auxiliary_...']`` (DenseCLIP: 0.4).

    Raises:
        ValueError: for a step below 1.
    """

    def __init__(self, logit_scale: float = 1.0, every: int = 1, auxiliary_weight: float = 1.0) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}; give a number of pixels of at least 1")
        self.logit_scale, self.every = float(logit_scale), int(every)
        self.auxiliary_weight = float(auxiliary_weight)

    def forward(self, prediction: Prediction, labels: Tensor, ignore_index: int) -> dict[str, Tensor]:
        """``loss_pixels``, and ``accuracy_pixels``: the share of labelled pixels whose largest map is their class's.

        Those of auxiliary maps are ``loss_auxiliary_...``.
        """
        losses = self._of_maps(prediction.maps, labels, ignore_index)
        for name, maps in prediction.extras.items():
            if name.startswith("auxiliary_"):
                loss = self._of_maps(maps, labels, ignore_index)["loss_pixels"]
                losses[f"loss_{name}"] = self.auxiliary_weight * loss
        return losses

    def _of_maps(self, maps: Tensor, labels: Tensor, ignore_index: int) -> dict[str, Tensor]:
        pixels = slice(self.every // 2, None, self.every)
        maps = self._at_pixels(maps, tuple(labels.shape[1:]), pixels)
        labels = labels[:, pixels, pixels]
        known = labels != ignore_index
        check_labels(labels[known], maps.shape[1])
        target = labels.masked_fill(~known, -1)
        total = F.cross_entropy(self.logit_scale * maps, target, ignore_index=-1, reduction="sum")
        loss = total / known.sum().clamp(min=1)
        return {"loss_pixels": loss, "accuracy_pixels": accuracy(maps, labels, known)}

    def _at_pixels(self, maps: Tensor, size: tuple[int, int], pixels: slice) -> Tensor:
        if self.every == 1:
            return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        rows, columns = (bilinear_matrix(n, m)[pixels].to(maps) for n, m in zip(maps.shape[2:], size, strict=True))
        return rows @ maps @ columns.T


def check_labels(labels: Tensor, words: int) -> None:
    """Raise a ``ValueError`` for labels that are no word."""
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < words:
        raise ValueError(f"labels {int(labels.min())} to {int(labels.max())} for the maps of {words} words")


@torch.no_grad()
def accuracy(maps: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Share of the ``known`` pixels whose largest map (resized) is that of their label."""
    logits = F.interpolate(maps, size=labels.shape[1:], mode="bilinear", align_corners=False)
    right = (logits.argmax(1) == labels) & known
    return right.sum() / known.sum().clamp(min=1)


@LOSSES.register_module()
class FocalDiceLoss(SegmentationLoss):
    """Every word's map on its own: focal loss of all, dice of those of words that are there (ZegCLIP, CVPR 2023).

    Focal loss (Lin et al., ICCV 2017): the mean over a map's pixels that have a class, summed over all maps; dice
    (Milletari et al., 3DV 2016): ``1 - (2 sum(p t) + 1) / (sum p + sum t + 1)``, summed over the maps of words that an
    image shows. Both over the number of the latter maps in the batch. Maps are resized (bilinear) to the labels.

    Args:
        focal_weight, dice_weight: of the two.
        alpha: share of the pixels of the word in the focal loss; those of others have ``1 - alpha``.
        gamma: exponent of how wrong a pixel is.
    """

    def __init__(
        self, focal_weight: float = 100.0, dice_weight: float = 1.0, alpha: float = 0.25, gamma: float = 2.0
    ) -> None:
        super().__init__()
        self.focal_weight, self.dice_weight = float(focal_weight), float(dice_weight)
        self.alpha, self.gamma = float(alpha), float(gamma)

    def forward(self, prediction: Prediction, labels: Tensor, ignore_index: int) -> dict[str, Tensor]:
        """``loss_focal``, ``loss_dice`` and ``accuracy_maps``, see :class:`BinaryMapLoss`."""
        known, words = labels != ignore_index, prediction.maps.shape[1]
        check_labels(labels[known], words)
        logits = F.interpolate(prediction.maps.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
        target = F.one_hot(labels.masked_fill(~known, words), words + 1)[..., :words].permute(0, 3, 1, 2).to(logits)
        weight = known[:, None].to(logits)
        there = target.flatten(2).any(dim=2)  # [B, words]
        masks = there.sum().clamp(min=1)
        probability = logits.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        wrong = probability * (1 - target) + (1 - probability) * target
        share = self.alpha * target + (1 - self.alpha) * (1 - target)
        focal = share * wrong**self.gamma * entropy * weight
        pixels = weight.sum(dim=(1, 2, 3)).clamp(min=1)
        inside = (probability * weight)[there].flatten(1), target[there].flatten(1)
        dice = 1 - (2 * (inside[0] * inside[1]).sum(1) + 1) / (inside[0].sum(1) + inside[1].sum(1) + 1)
        return {
            "loss_focal": self.focal_weight * (focal.sum(dim=(1, 2, 3)) / pixels).sum() / masks,
            "loss_dice": self.dice_weight * dice.sum() / masks,
            "accuracy_maps": accuracy(prediction.maps, labels, known),
        }
