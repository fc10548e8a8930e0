"""Tokens that speak for the photo instead of their place: found, and replaced by what lies around them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.structures import Block

KINDS = ("lof", "class_attention", "norm")
ROW_ELEMENTS = 1 << 22
"""Bound on the distances or logits held at once."""


def local_outlier_factor(tokens: Tensor, neighbours: int = 30) -> Tensor:
    """How much sparser the surroundings of each token are than those of its neighbours (SC-CLIP's rule).

    With ``d_i`` the squared distance of token i to its ``neighbours``-th nearest other token:
    ``mean over the nearest j of d_i / d_j``. This is the local outlier factor of Breunig et al. (SIGMOD 2000) with the
    reach distance as SC-CLIP's code takes it, ``max(|x_i - x_j|^2, d_i)``, which is always ``d_i``.

    Args:
        tokens: ``[B, N, d]``.
        neighbours: at most N - 1 are taken.

    Returns:
        float32 ``[B, N]``, about 1 for tokens like all others; 1 everywhere where there are fewer than two tokens.
    """
    tokens = tokens.float()
    count = tokens.shape[1]
    neighbours = min(neighbours, count - 1)
    if neighbours < 1:
        return tokens.new_ones(tokens.shape[:2])
    step = max(1, ROW_ELEMENTS // count)
    factors = []
    for x in tokens:
        nearest, reach = [], []
        for start in range(0, count, step):
            rows = x[start : start + step]
            # the expanded square |a|^2 - 2ab + |b|^2 loses digits that decide who the neighbours are
            distance = torch.cdist(rows, x, compute_mode="donot_use_mm_for_euclid_dist").square()
            distance[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = torch.inf
            found = distance.topk(neighbours, dim=1, largest=False)
            nearest.append(found.indices)
            reach.append(found.values[:, -1])
        reach = torch.cat(reach).clamp_min(torch.finfo(torch.float32).tiny)  # equal tokens are no outliers
        factors.append((reach[:, None] / reach[torch.cat(nearest)]).mean(1))
    return torch.stack(factors)


def class_and_self_attention(block: Block, x: Tensor, grid: tuple[int, int], num_prefix: int) -> tuple[Tensor, Tensor]:
    """How much the class token attends to each patch of a block, and each patch to itself: means over the heads.

    Args:
        block: the block.
        x: ``[B, P + N, d]`` tokens that enter it.
        grid: of the patches.
        num_prefix: P, at least 1.

    Returns:
        two tensors float32 ``[B, N]`` of probabilities.

    Raises:
        ValueError: for towers without a class token.
    """
    if num_prefix < 1:
        raise ValueError("this CLIP has no class token whose attention could tell outliers; choose outliers='lof'")
    q, k, _ = block.qkv(block.norm1(x), grid)
    q, k = q.float() * block.scale, k.float()
    of_class = (q[:, :, :1] @ k.mT).softmax(-1)[:, :, 0, num_prefix:].mean(1)
    q = q[:, :, num_prefix:]
    own = (q * k[:, :, num_prefix:]).sum(-1)
    step = max(1, ROW_ELEMENTS // (k.shape[0] * k.shape[1] * k.shape[2]))
    total = torch.cat([(rows @ k.mT).logsumexp(-1) for rows in q.split(step, dim=2)], dim=2)
    return of_class, (own - total).exp().mean(1)


def beyond_quantile(factors: Tensor, quantile: float = 0.95) -> Tensor:
    """bool like ``factors [B, N]``: those above the quantile of their sample (linear interpolation)."""
    return factors > torch.quantile(factors, quantile, dim=1, keepdim=True)


def largest(values: Tensor, count: int, candidates: Tensor | None = None) -> Tensor:
    """bool like ``values [B, N]``: the ``count`` largest of each sample, of the ``candidates`` (bool) where given."""
    allowed = torch.ones_like(values, dtype=torch.bool) if candidates is None else candidates
    order = values.masked_fill(~allowed, -torch.inf).topk(min(count, values.shape[1]), dim=1).indices
    return torch.zeros_like(allowed).scatter_(1, order, True) & allowed


def repair(tokens: Tensor, outliers: Tensor, grid: tuple[int, int], keep_alone: bool = True) -> Tensor:
    """Outliers become the mean of those of their 8 neighbours on the grid that are none.

    Args:
        tokens: ``[B, N, d]`` patches, row by row.
        outliers: bool ``[B, N]``.
        grid: ``(h, w)`` with ``h * w = N``.
        keep_alone: outliers among outliers keep their value (SC-CLIP); ``False``: they become 0 (SFP).

    Returns:
        ``[B, N, d]``.
    """
    kept = (~outliers).to(tokens.dtype)[..., None]

    def around(x: Tensor) -> Tensor:
        image = x.transpose(1, 2).unflatten(2, grid)
        summed = F.avg_pool2d(image, 3, stride=1, padding=1, divisor_override=1)
        return summed.flatten(2).transpose(1, 2)

    count = around(kept)
    mean = around(tokens * kept) / count.clamp_min(1)
    replaced = outliers[..., None] & (count > 0) if keep_alone else outliers[..., None]
    return torch.where(replaced, mean, tokens)
