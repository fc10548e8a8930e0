"""Correlation attention and self-self attention without an N x N matrix per head.

Correlation attention: all heads share one matrix, so it is built once per block of tokens and multiplied with the
values of all heads side by side. Its mean is ``|mean f|^2``, so thresholds cost no pass over all pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ovseg.ops.dispatch import register_function

BLOCK = 512  # tokens per side of a block in the symmetric CPU path: 1 MiB of fp32, stays in the L2 cache
ROW_ELEMENTS = 1 << 22  # elements of a [rows, N] block elsewhere
MAX_EXPONENT = 60.0  # exp(-60) is far from fp32 underflow: below it softmax needs no row maximum


class _Scope:
    """Which pairs of tokens of one sample are kept; for any block of them."""

    def __init__(self, limit: Tensor, region_ids: Tensor | None, unsegmented: Tensor | None):
        self.limit = limit
        self.row_ids = self.column_ids = self.loose = None
        if region_ids is not None:
            self.loose = region_ids == unsegmented
            # Different numbers for loose rows and columns: no loose token is "in the same region" as anything.
            self.row_ids = torch.unique(region_ids, return_inverse=True)[1].masked_fill(self.loose, -1)
            self.column_ids = self.row_ids.masked_fill(self.loose, -2)

    def dropped(self, similarity: Tensor, rows: slice, columns: slice) -> Tensor:
        """bool like similarity [rows, columns]: pairs that are left out."""
        if self.loose is None:
            return similarity < self.limit
        dropped = self.row_ids[rows, None] != self.column_ids[columns]
        either = self.loose[rows, None] | self.loose[columns]
        return dropped & ~(either & (similarity > self.limit))


def _limits(features: Tensor, beta: float, threshold: float, mean_scope: str) -> Tensor:
    """float32 [B]: ``beta * mean(f_i . f_j) + threshold``; the mean over all pairs is the squared norm of the mean."""
    mean = features.mean(1, dtype=torch.float32).square().sum(-1)
    if mean_scope == "batch":
        mean = mean.mean().expand_as(mean)
    return beta * mean + threshold


@register_function("correlation_attention", "torch")
def correlation_attention(
    features: Tensor,
    values: Tensor,
    scale: float,
    beta: float,
    threshold: float,
    mean_scope: str,
    region_ids: Tensor | None,
    unsegmented: Tensor | None,
    normaliser: str,
    empty: str,
) -> Tensor:
    arguments = (features, values, scale, beta, threshold, mean_scope, region_ids, unsegmented, normaliser, empty)
    if features.device.type != "cpu":
        return correlation_by_rows(*arguments)
    # Without a row maximum the matrix of weights is symmetric: half of it is enough. It needs bounded exponents.
    longest = float(features.float().square().sum(-1).max())
    if normaliser == "softmax" and not 2 * abs(scale) * longest <= MAX_EXPONENT:
        return correlation_by_rows(*arguments)
    limits = _limits(features, beta, threshold, mean_scope)
    out = torch.empty(values.shape, dtype=values.dtype)
    for index, (f, v) in enumerate(zip(features, values, strict=True)):
        ids = (None, None) if region_ids is None else (region_ids[index], unsegmented[index])
        out[index] = _symmetric(f, v, _Scope(limits[index], *ids), scale, abs(scale) * longest, normaliser, empty)
    return out


def _symmetric(
    features: Tensor, values: Tensor, scope: _Scope, scale: float, shift: float, normaliser: str, empty: str
) -> Tensor:
    """One sample, features [N, d], values [N, dv]: block (i, j) of the weights also serves as block (j, i)."""
    count = len(features)
    out = torch.zeros(count, values.shape[1])
    total = torch.zeros(count)
    used = torch.zeros(count, dtype=torch.bool)
    blocks = [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    for position, rows in enumerate(blocks):
        for columns in blocks[position:]:
            similarity = (features[rows] @ features[columns].T).float()
            dropped = scope.dropped(similarity, rows, columns)
            weight = similarity.mul_(scale)
            if normaliser == "softmax":
                weight = weight.sub_(shift).exp_()
            weight.masked_fill_(dropped, 0)
            sides = [(weight, dropped, rows, columns)]
            if columns is not rows:
                sides.append((weight.T, dropped.T, columns, rows))
            for w, d, here, there in sides:
                total[here] += w.sum(1)
                if values.dtype == torch.float32:
                    out[here].addmm_(w, values[there])
                else:
                    out[here] += w.to(values.dtype) @ values[there]
                if empty == "self":
                    used[here] |= ~d.all(1)
    if normaliser == "sum":
        total += 1e-6
    out /= total[:, None]
    if empty == "self":
        out = torch.where(used[:, None], out, values.float())
    return out


def correlation_by_rows(
    features: Tensor,
    values: Tensor,
    scale: float,
    beta: float,
    threshold: float,
    mean_scope: str,
    region_ids: Tensor | None,
    unsegmented: Tensor | None,
    normaliser: str,
    empty: str,
) -> Tensor:
    """The general path, any device and scale, differentiable (blocks are recomputed in the backward pass)."""
    limits = _limits(features.detach(), beta, threshold, mean_scope)
    out = []
    for index, (f, v) in enumerate(zip(features, values, strict=True)):
        ids = (None, None) if region_ids is None else (region_ids[index], unsegmented[index])
        scope = _Scope(limits[index], *ids)
        step = max(1, ROW_ELEMENTS // len(f))
        rows = [slice(start, min(start + step, len(f))) for start in range(0, len(f), step)]
        arguments = (scope, scale, normaliser, empty)
        out += [checkpoint(_rows, f, v, part, *arguments, use_reentrant=False) for part in rows]
    return torch.cat(out).view(values.shape)


def _rows(
    features: Tensor, values: Tensor, rows: slice, scope: _Scope, scale: float, normaliser: str, empty: str
) -> Tensor:
    similarity = (features[rows] @ features.T).float()
    dropped = scope.dropped(similarity, rows, slice(None))
    if normaliser == "softmax":
        weight = (similarity * scale).masked_fill(dropped, -torch.inf)
        if empty == "self":  # keep the softmax of empty rows finite; they are replaced below
            weight = weight.masked_fill(dropped.all(1, keepdim=True), 0)
        weight = weight.softmax(-1)
    else:
        weight = (similarity * scale).masked_fill(dropped, 0)
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-6)
    out = weight.to(values.dtype) @ values
    if empty == "self":
        out = torch.where(dropped.all(1, keepdim=True), values[rows], out)
    return out


@register_function("self_self_attention", "torch")
def self_self_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    terms: str,
    scale: float,
    combine: str,
    grid: Sequence[int],
    neighbour_std: float,
) -> Tensor:
    """One call of torch's fused attention per term; the neighbour bias is made for a block of rows at a time."""
    tensors = {"q": q, "k": k, "v": v}
    sources = [tensors[term] for term in terms]
    if combine == "softmax":
        # A sum of dot products is the dot product of the tensors side by side. The fused kernels want values of the
        # same width.
        sources = [torch.cat(sources, -1)]
    width = sources[0].shape[-1]
    values = F.pad(v, (0, width - v.shape[-1])) if width > v.shape[-1] else v
    count = q.shape[2]
    step = max(1, ROW_ELEMENTS // count) if neighbour_std > 0 else count
    parts = []
    for start in range(0, count, step):
        rows = slice(start, start + step)
        bias = _bias_rows(grid, neighbour_std, count, rows, q) if neighbour_std > 0 else None
        attended = [
            F.scaled_dot_product_attention(source[:, :, rows], source, values, attn_mask=bias, scale=scale)
            for source in sources
        ]
        parts.append(sum(attended[1:], attended[0])[..., : v.shape[-1]])
    return torch.cat(parts, 2)


def _bias_rows(grid: Sequence[int], std: float, count: int, rows: slice, like: Tensor) -> Tensor:
    """Rows of the neighbour bias: a Gaussian of two axes is the product of two small tables."""
    height, width = grid
    prefix = count - height * width

    def table(length: int) -> Tensor:
        at = torch.arange(length, device=like.device, dtype=torch.float32)
        return torch.exp(-((at[:, None] - at) ** 2) / (2 * std**2))

    token = torch.arange(count, device=like.device)[rows]
    cell = (token - prefix).clamp(min=0)
    gauss = table(height)[cell // width][:, :, None] * table(width)[cell % width][:, None]
    gauss = gauss.flatten(1).masked_fill_((token < prefix)[:, None], 0)
    return F.pad(gauss, (prefix, 0)).to(like.dtype)
