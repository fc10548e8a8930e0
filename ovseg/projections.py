"""Query, key and value projections of CLIP's blocks: one parameter, or three of which some can be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize


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


class LowRank(nn.Module):
    """What a weight gains in training: ``weight + scale * up @ down`` (Hu et al., LoRA, ICLR 2022, section 4.1).

    Args:
        shape: ``(out, in)`` of the weight.
        rank: of the product.
        scale: of it; ``alpha / rank`` in the paper.
    """

    def __init__(self, shape: Sequence[int], rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(torch.randn(rank, shape[1]) / rank**0.5)
        self.up = nn.Parameter(torch.zeros(shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)


def add_low_rank(model: nn.Module, rank: int, alpha: float | None = None, which: str = "qv") -> None:
    """Give projections of every self-attention a :class:`LowRank` term, which begins as zero.

    The projections become parameters of their own. To train the terms alone: ``trained=["*.parametrizations.*.down",
    "*.parametrizations.*.up"]``. :func:`without_low_rank` writes weights with the terms added.

    Args:
        model: a CLIP, or one of its towers.
        rank: of the terms.
        alpha: the terms count ``alpha / rank``; ``None``: as ``rank``, so 1.
        which: projections, some of ``q``, ``k`` and ``v``.

    Raises:
        ValueError: for a rank below 1, or other letters.
    """
    if rank < 1 or not which or set(which) - set("qkv"):
        raise ValueError(f"rank is {rank} and which {which!r}: give a rank of at least 1 and some of q, k and v")
    split_projections(model)
    for attention in _attentions(model):
        for letter in which:
            name = f"{letter}_proj_weight"
            term = LowRank(getattr(attention, name).shape, rank, (alpha or rank) / rank)
            parametrize.register_parametrization(attention, name, term)


def without_low_rank(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Weights whose :class:`LowRank` terms are added to what they belong to; others as they are.

    Args:
        weights: of a model with terms.
        scale: of the terms.
    """
    plain = {}
    for key, value in weights.items():
        stem, found, rest = key.partition("parametrizations.")
        if not found:
            plain[key] = value
        elif rest.endswith(".original"):
            name = rest.removesuffix(".original")
            place = f"{stem}parametrizations.{name}.0."
            plain[stem + name] = value + scale * (weights[place + "up"] @ weights[place + "down"])
    return plain


def low_rank_scale(model: nn.Module) -> float:
    """``scale`` of a model's :class:`LowRank` terms, which all have the same; 1 where there are none."""
    return next((module.scale for module in model.modules() if isinstance(module, LowRank)), 1.0)
