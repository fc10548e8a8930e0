"""ResCLIP's feedback: which patches belong together by the labels of a first prediction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STD = 5.0
KERNEL = 31
"""Largest kernel of the smoothing, in patches."""


def feedback_matrix(labels: Tensor) -> Tensor:
    """The matrix that is added to the last block's logits (Yang et al., CVPR 2025, "ResCLIP", section 3.3).

    1 where the labels of two patches agree; if the straight way between them leaves the label, ``exp(-s / m)`` with s
    the Chebyshev distance and m the largest of the grid. Every row is then smoothed by a Gaussian along the flattened
    index, divided by its sum, and all by the largest value.

    Quirks of the official code that are kept: the way between near patches is tested on its first ``s / m`` only; the
    smoothing runs over the ends of rows; the result is rounded to half precision.

    Args:
        labels: ``[h, w]`` integer, one per patch.

    Returns:
        float32 ``[h * w, h * w]`` in 0..1.
    """
    smooth = smoothed_agreement(labels)
    return (smooth / smooth.max()).half().float()


def smoothed_agreement(labels: Tensor) -> Tensor:
    """:func:`feedback_matrix` before its division and rounding: float32 ``[N, N]``, rows sum to 1."""
    agree = (labels.flatten()[:, None] == labels.flatten()).float()
    agree = agree * _apart(labels)
    count = len(agree)
    size = min(count, KERNEL)
    size -= 1 - size % 2
    place = torch.arange(size, device=labels.device) - size // 2
    kernel = torch.exp(-(place.float() ** 2) / (2 * STD**2))
    smooth = F.conv1d(agree[:, None], (kernel / kernel.sum())[None, None], padding=size // 2)[:, 0]
    return smooth / (smooth.sum(-1, keepdim=True) + 1e-8)


def _apart(labels: Tensor) -> Tensor:
    """``[N, N]``: 1 for pairs whose way keeps the label of its start, else ``exp(-steps / most steps)``."""
    height, width = labels.shape
    most = max(height, width) - 1
    if most == 0:
        return torch.ones(1, 1, device=labels.device)
    row = torch.arange(height, device=labels.device).repeat_interleave(width)
    column = torch.arange(width, device=labels.device).repeat(height)
    steps = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
    start = labels.flatten()[:, None]
    clear = torch.ones_like(steps, dtype=torch.bool)
    share = torch.linspace(0, 1, most + 1, device=labels.device)
    for k, t in enumerate(share):
        # a point's row depends on the rows of both ends only, its column on their columns
        y, x = (
            torch.round(n[:, None].float() * (1 - t) + n.float() * t).long()
            for n in (torch.arange(height, device=labels.device), torch.arange(width, device=labels.device))
        )
        passed = labels[y[row[:, None], row], x[column[:, None], column]]
        clear &= (passed == start) | (k > steps)
    return torch.where(clear, 1.0, torch.exp(-steps.float() / most))
