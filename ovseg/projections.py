"""Query, key and value projections of CLIP's blocks: one parameter, or three of which some can be trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def in_projection(x: Tensor, attention: nn.MultiheadAttention) -> Tensor:
    """q, k and v side by side, ``[..., d] -> [..., 3 d]``, whether their weights are one parameter or three."""
    weight = attention.in_proj_weight
    if weight is None:
        weight = torch.cat([attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight])
    return F.linear(x, weight, attention.in_proj_bias)


def split_projections(model: nn.Module) -> None:
    """Give every self-attention of a model three weights in place of ``in_proj_weight``; it computes the same.

    ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight`` are torch's own names for them. An optimiser can then
    train and decay some of them and leave the others alone. The joint bias stays.
    """
    for attention in _attentions(model):
        if attention.in_proj_weight is not None:
            trained = attention.in_proj_weight.requires_grad
            for name, part in zip("qkv", attention.in_proj_weight.detach().chunk(3), strict=True):
                setattr(attention, f"{name}_proj_weight", nn.Parameter(part.clone(), requires_grad=trained))
            attention.in_proj_weight, attention._qkv_same_embed_dim = None, False


def _attentions(model: nn.Module) -> list[nn.MultiheadAttention]:
    return [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
