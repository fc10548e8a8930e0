"""From masks to class scores: pooled features, comparison with words, and ensembles of two classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.decoders.mask_transformer import MaskProposals, mlp

MAX_SCALE = 100.0
"""Largest factor of the cosines with words."""


def mask_pool(features: Tensor, masks: Tensor) -> Tensor:
    """Mean of the features where a mask is positive (FC-CLIP, Yu et al., NeurIPS 2023, section 3.3).

    Args:
        features: ``[B, C, h, w]``.
        masks: ``[B, Q, h', w']`` logits, resized bilinearly to ``(h, w)``.

    Returns:
        ``[B, Q, C]``; zeros for a mask that is nowhere positive.
    """
    if masks.shape[-2:] != features.shape[-2:]:
        masks = F.interpolate(masks, size=features.shape[-2:], mode="bilinear", align_corners=False)
    inside = (masks > 0).to(features.dtype)
    total = torch.einsum("bchw,bqhw->bqc", features, inside)
    return total / (inside.sum((-2, -1))[..., None] + 1e-8)


class MaskClassEmbedding(nn.Module):
    """FC-CLIP's class vector of a mask: its query and the mask features pooled inside it, in the text space.

    Args:
        width: of queries and mask features.
        embed_dim: D, of the text space.
    """

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.pooled = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.embed = mlp(width, width, width, embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, proposals: MaskProposals) -> Tensor:
        """``[B, Q, D]``: unit vectors times the learned scale (at most :data:`MAX_SCALE`), so that products with unit
        vectors of words are logits."""
        pooled = self.pooled(mask_pool(proposals.features, proposals.masks))
        vectors = F.normalize(self.embed(pooled + proposals.queries), dim=-1)
        return vectors * self.logit_scale.exp().clamp(max=MAX_SCALE)


def class_logits(vectors: Tensor, text: Tensor, query_to_class: Tensor, num_classes: int) -> Tensor:
    """Products of masks' vectors with words, the largest over the words of a class.

    Args:
        vectors: ``[..., D]``.
        text: ``[T, D]``, or ``[B, T, D]``: other words for every ``vectors[b]``.
        query_to_class: ``[T]`` int64 class of every word.
        num_classes: C.

    Returns:
        ``[..., C]``.
    """
    products = vectors @ text.mT
    least = products.new_full((*products.shape[:-1], num_classes), -torch.inf)
    return least.scatter_reduce(-1, query_to_class.expand(products.shape), products, "amax")


def seen_classes(classes: Sequence[Sequence[str]], trained: Sequence[Sequence[str]]) -> Tensor:
    """Which classes a model was trained on: those that share a name with one of its training classes.

    >>> seen_classes([("cat", "kitty"), ("animal fur",)], [("kitty", "cats"), ("dog",)]).tolist()
    [True, False]

    Args:
        classes: names of each class that is asked for.
        trained: names of each class of the training.

    Returns:
        bool ``[C]``.
    """
    known = {name for names in trained for name in names}
    return torch.tensor([any(name in known for name in names) for names in classes])


def vocabulary_ensemble(inside: Tensor, outside: Tensor, seen: Tensor, alpha: float, beta: float) -> Tensor:
    """FC-CLIP's geometric ensemble of the trained classifier and CLIP's (section 3.3), with the void class.

    ``p_in^(1 - a) p_out^a`` with ``a`` = ``alpha`` for classes that the model was trained on and ``beta`` for others;
    normalised over the classes and scaled to what the trained classifier does not give to void.

    Args:
        inside: ``[..., C + 1]`` logits of the trained classifier, void last.
        outside: ``[..., C]`` logits of CLIP.
        seen: bool ``[C]``.
        alpha, beta: exponents of CLIP's probability.

    Returns:
        ``[..., C + 1]`` probabilities, void last.
    """
    exponent = torch.where(seen.to(inside.device), alpha, beta).to(inside.dtype)
    mixed = inside[..., :-1].log_softmax(-1) * (1 - exponent) + outside.log_softmax(-1) * exponent
    return with_void(mixed, inside)


def with_void(logits: Tensor, inside: Tensor) -> Tensor:
    """Softmax of ``logits`` ``[..., C]``, scaled to what ``inside`` ``[..., C + 1]`` leaves beside void; then void."""
    void = inside.softmax(-1)[..., -1:]
    return torch.cat([logits.softmax(-1) * (1 - void), void], dim=-1)
