"""Correlation attention and self-self attention without an N x N matrix per head.

Correlation attention: all heads share one matrix, so it is built once per block of tokens and multiplied with the
values of all heads side by side. Its mean is ``|mean f|^2``, so thresholds cost no pass over all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ovseg.ops.dispatch import register_function

BLOCK = 512  # tokens per side of a block in the symmetric CPU path: 1 MiB of fp32, stays in the L2 cache
REGION_BLOCK = 128  # the same with regions: of smaller blocks more lie between regions
ROW_ELEMENTS = 1 << 22  # elements of a [rows, N] block elsewhere
MAX_EXPONENT = 60.0  # exp(-60) is far from fp32 underflow: below it softmax needs no row maximum
SMALLEST_SCALE = 1e-30  # so that exponents over the scale are still fp32 numbers
# Products of fp32 blocks by single rows of the values pay where few pairs are kept and a row of the values is long.
SPARSE_SHARE = 0.15
SPARSE_WIDTH = 512


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

    def apart(self, rows: slice, columns: slice) -> bool:
        """Whether region ids alone say that no pair of this block is kept; tokens are in the order of `_by_region`."""
        if self.loose is None or bool(self.loose[rows].any() or self.loose[columns].any()):
            return False
        one, other = self.row_ids[rows], self.row_ids[columns]
        return bool(one[-1] < other[0] or other[-1] < one[0])


def similarity_limits(features: Tensor, beta: float, threshold: float, mean_scope: str) -> Tensor:
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
    if features.device.type != "cpu":
        return correlation_by_rows(
            features, values, scale, beta, threshold, mean_scope, region_ids, unsegmented, normaliser, empty
        )
    limits = similarity_limits(features, beta, threshold, mean_scope)
    longest = torch.linalg.vector_norm(features, dim=-1, dtype=torch.float32).amax(1)
    out = torch.empty_like(values)
    for index, shift in enumerate((scale * longest.square()).tolist()):
        f, v, limit, arguments = features[index], values[index], limits[index], (scale, normaliser, empty)
        ids, loose = (None, None) if region_ids is None else (region_ids[index], unsegmented[index])
        # Without a row maximum the matrix of weights is symmetric: half of it is enough. It needs bounded exponents,
        # and a positive scale so that similarities and exponents are in the same order.
        if not (scale > SMALLEST_SCALE and (normaliser == "sum" or 2 * shift <= MAX_EXPONENT)):
            out[index] = _by_rows(f, v, _Scope(limit, ids, loose), *arguments)
        elif ids is None:
            out[index] = _symmetric(f, v, _Scope(limit, None, None), shift, *arguments)
        else:
            order = _by_region(ids, loose)
            scope = _Scope(limit, ids[order], loose)
            out[index, order] = _symmetric(f[order], v[order], scope, shift, *arguments)
    return out


def _by_region(region_ids: Tensor, unsegmented: Tensor) -> Tensor:
    """Indices of the tokens of one sample, region by region, unsegmented ones last: most blocks are `_Scope.apart`."""
    _, rank = torch.unique(region_ids, return_inverse=True)
    return rank.masked_fill(region_ids == unsegmented, len(rank)).argsort(stable=True)


def _symmetric(
    features: Tensor, values: Tensor, scope: _Scope, shift: float, scale: float, normaliser: str, empty: str
) -> Tensor:
    """One sample, features [N, d], values [N, dv]: block (i, j) of the weights also serves as block (j, i).

    Passes over a block cost as much as its products once there are several. So the limit is two operations in place,
    row sums are products with ones, and a row of exponentials (never 0 here) that keeps a pair is known by its sum.
    """
    softmax, regions = normaliser == "softmax", scope.loose is not None
    count = len(features)
    values = values.contiguous()
    out = torch.zeros(count, values.shape[1])
    side = REGION_BLOCK if regions else BLOCK
    total, kept, ones = torch.zeros(count), torch.zeros(count), torch.ones(side)
    below = float(torch.nextafter(scope.limit, scope.limit.new_tensor(-torch.inf)))  # x > below says x >= limit
    # exp is several times slower on -inf than on numbers: dropped pairs get an exponent that no kept one has.
    stand_in = (shift - MAX_EXPONENT - 20) / scale if softmax else 0.0
    blocks = [slice(start, min(start + side, count)) for start in range(0, count, side)]
    for position, rows in enumerate(blocks):
        for columns in blocks[position:]:
            if scope.apart(rows, columns):
                continue
            weight, dropped = (features[rows] @ features[columns].T).float(), None
            if softmax and not regions:
                F.threshold_(weight, below, stand_in)
            else:
                dropped = scope.dropped(weight, rows, columns)
            weight.mul_(scale)
            if softmax:
                weight.sub_(shift).exp_()  # at most 1, also in fp16
            if dropped is None:
                F.threshold_(weight, math.exp(-MAX_EXPONENT - 10), 0.0)
            else:
                weight.masked_fill_(dropped, 0)
            present = None if softmax else (~dropped).float()
            sparse = _is_sparse(weight, values)
            factor = weight.to(values.dtype)
            for mirrored in (False,) if columns is rows else (False, True):
                here, there = (columns, rows) if mirrored else (rows, columns)
                total[here].addmv_(weight.T if mirrored else weight, ones[: there.stop - there.start])
                if present is not None:
                    kept[here].addmv_(present.T if mirrored else present, ones[: there.stop - there.start])
                _add_product(out[here], factor.T if mirrored else factor, values[there], sparse)
    if not softmax:
        total += 1e-6
    out /= total[:, None]
    if empty == "self":
        alone = ~((total if softmax else kept) > 0)
        out[alone] = values[alone].float()
    return out.to(values.dtype)


def _is_sparse(weight: Tensor, values: Tensor) -> bool:
    """Whether so few weights are left that `_add_product` is faster by single rows; every eighth row tells."""
    if values.dtype != torch.float32 or values.shape[1] < SPARSE_WIDTH:
        return False
    sample = weight[::8]
    return int(torch.count_nonzero(sample)) < SPARSE_SHARE * sample.numel()


def _add_product(out: Tensor, weight: Tensor, values: Tensor, sparse: bool) -> None:
    """``out += weight @ values`` for fp32 out [m, dv], weight [m, n], values [n, dv]."""
    if sparse:
        weight = weight.contiguous()
        left = weight != 0
        at = left.view(-1).nonzero()[:, 0]
        columns, counts = at % weight.shape[1], left.sum(1)
        starts = counts.cumsum(0) - counts
        factors = weight.view(-1).index_select(0, at)
        out += F.embedding_bag(columns, values, starts, mode="sum", per_sample_weights=factors)
    elif values.dtype == torch.float32:
        out.addmm_(weight, values)
    else:
        out += weight @ values


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
    limits = similarity_limits(features.detach(), beta, threshold, mean_scope)
    out = []
    for index, (f, v) in enumerate(zip(features, values, strict=True)):
        ids = (None, None) if region_ids is None else (region_ids[index], unsegmented[index])
        out.append(_by_rows(f, v, _Scope(limits[index], *ids), scale, normaliser, empty))
    return torch.stack(out)


def _by_rows(features: Tensor, values: Tensor, scope: _Scope, scale: float, normaliser: str, empty: str) -> Tensor:
    """One sample, a block of rows at a time."""
    count = len(features)
    step = max(1, ROW_ELEMENTS // count)
    rows = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    arguments = (scope, scale, normaliser, empty)
    parts = [checkpoint(_rows, features, values, part, *arguments, use_reentrant=False) for part in rows]
    return torch.cat(parts)


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
