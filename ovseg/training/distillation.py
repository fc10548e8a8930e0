"""Losses of DeCLIP's decoupled distillation (Wang et al., CVPR 2025, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align


def box_features(dense: Tensor, boxes: list[Tensor]) -> Tensor:
    """Mean feature of each box, by RoIAlign on one cell per box.

    Args:
        dense: ``[B, D, h, w]``.
        boxes: for each image ``[n, 4]`` x0, y0, x1, y1 as shares of its width and height.

    Returns:
        ``[sum of n, D]``.
    """
    height, width = dense.shape[2:]
    size = dense.new_tensor((width, height, width, height))
    return roi_align(dense, [b.to(dense) * size for b in boxes], output_size=1, aligned=True)[:, :, 0, 0]


def content_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - mean cosine of features of boxes with the teacher's embeddings of the boxes' crops, both ``[n, D]``."""
    return 1 - F.cosine_similarity(student, teacher, dim=-1).mean()


def context_loss(queries: Tensor, features: Tensor) -> Tensor:
    """How far the cosines of patches with each other are from a foundation model's.

    Mean over the rows of the Euclidean norm of the difference.

    Args:
        queries: ``[B, N, d]`` of the student.
        features: ``[B, N, c]`` of the foundation model.
    """
    ours, theirs = F.normalize(queries, dim=-1), F.normalize(features, dim=-1)
    return torch.linalg.vector_norm(theirs @ theirs.mT - ours @ ours.mT, dim=-1).mean()
