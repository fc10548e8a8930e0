"""MAFT+'s losses: masks and classes, CLIP's scores as judges of masks, and what CLIP must not forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.registry import LOSSES
from ovseg.training import mask_loss
from ovseg.training.mask_loss import MaskSetLoss

if TYPE_CHECKING:
    from ovseg.decoders import Prediction

SCALES = (1, 2, 4)
"""Parts per side of the pooled features that are compared with the teacher's."""


@LOSSES.register_module()
class MaskAwareLoss(MaskSetLoss):
    """Mask2Former's loss and the two of MAFT+ (Jiao et al., ECCV 2024, sections 3.2 and 3.4).

    Args:
        mask_aware_weight: of ``loss_mask_aware``: a mask's probability of a class shall be how well it covers the
            class, see :func:`mask_aware`.
        compensation_weight: of ``loss_compensation``: pooled features shall stay those of the untouched CLIP, see
            :func:`representation_compensation`.
        **masks: see :class:`MaskSetLoss`.
    """

    def __init__(self, mask_aware_weight: float = 1.0, compensation_weight: float = 0.1, **masks: float) -> None:
        super().__init__(**masks)
        self.mask_aware_weight, self.compensation_weight = float(mask_aware_weight), float(compensation_weight)

    def forward(self, prediction: Prediction, labels: Tensor, ignore_index: int) -> dict[str, Tensor]:
        """As in the base class, with ``loss_mask_aware`` and ``loss_compensation``.

        Args:
            prediction: in ``extras`` besides: ``content_logits`` ``[B, Q, T]``, ``last_features`` and
                ``teacher_features``, both ``[B, C, h, w]``.
            labels, ignore_index: see there.
        """
        losses = super().forward(prediction, labels, ignore_index)
        extras = prediction.extras
        masks, classes = mask_loss.targets(labels, extras["content_logits"].shape[-1], ignore_index)
        with torch.autocast(labels.device.type, enabled=False):
            aware = mask_aware(prediction.maps.float(), extras["content_logits"].float(), masks, classes)
            kept = representation_compensation(extras["last_features"].float(), extras["teacher_features"].float())
        return {
            **losses,
            "loss_mask_aware": self.mask_aware_weight * aware,
            "loss_compensation": self.compensation_weight * kept,
        }


def mask_aware(masks: Tensor, logits: Tensor, targets: list[Tensor], classes: list[Tensor]) -> Tensor:
    """How far class probabilities of masks are from how well the masks cover the classes (smooth L1, a mean).

    For each target the masks' soft IoU with it, scaled to 0..1 over the masks of the image, is what their probabilities
    of its class should be.

    Args:
        masks: ``[B, Q, h, w]`` logits; no gradient is given to them.
        logits: ``[B, Q, T]``.
        targets, classes: for each image ``[n, H, W]`` masks of 0 and 1, and ``[n]`` int64 classes.
    """
    found, wanted = [], []
    for mask, scores, target, index in zip(masks.detach(), logits, targets, classes, strict=True):
        if not len(index):
            continue
        cover = F.interpolate(mask.sigmoid()[None], size=target.shape[-2:], mode="bilinear", align_corners=False)[0]
        cover, target = cover.flatten(1), target.flatten(1)
        shared = target @ cover.T
        overlap = shared / (target.sum(1)[:, None] + cover.sum(1) - shared + 1e-7)
        low, high = overlap.amin(1, keepdim=True), overlap.amax(1, keepdim=True)
        wanted.append((overlap - low) / (high - low + 1e-8))
        found.append(scores.softmax(-1)[:, index].T)
    if not found:
        return logits.sum() * 0
    return F.smooth_l1_loss(torch.cat(found), torch.cat(wanted))


def representation_compensation(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between sums over rows and columns of pooled features, at several scales.

    Args:
        student, teacher: ``[B, C, h, w]``; negative values count as zero. Maps that are not square are resized
            (bilinear) to the square of the longer side, and pooled with windows of ``w // scale`` cells.
    """
    height, width = student.shape[-2:]
    profiles = []
    for features in (student, teacher):
        features = features.relu()
        if height != width:
            side = (max(height, width),) * 2
            features = F.interpolate(features, size=side, mode="bilinear", align_corners=False)
        pooled = [F.avg_pool2d(features, max(1, width // scale)) for scale in SCALES]
        profiles.append(torch.cat([p.sum(axis).flatten() for p in pooled for axis in (2, 3)]))
    return F.smooth_l1_loss(*profiles)
