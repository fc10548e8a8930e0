"""Focal and dice loss of masks, as SAM is trained with them (Kirillov et al., ICCV 2023, appendix A)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017, equation 5), mean over the last two axes; targets may lie between 0 and 1."""
    probability = logits.sigmoid()
    right = probability * target + (1 - probability) * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    entropy = F.softplus(logits) - logits * target
    return (weight * (1 - right) ** gamma * entropy).mean(dim=(-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss (Milletari et al., 3DV 2016) over the last two axes, one cell added to both parts of the fraction."""
    probability = logits.sigmoid()
    both = (probability * target).sum(dim=(-2, -1))
    return 1 - (2 * both + 1) / (probability.sum(dim=(-2, -1)) + target.sum(dim=(-2, -1)) + 1)
