"""SAM's attention with decomposed relative positions, and Trident's aggregation along it, in bounded memory.

Exact forms of the same logits ``q.k + q.rel_h[row, row'] + q.rel_w[column, column']``:

* *augmented*: the plain dot product of ``[q * scale, rel_h, rel_w]`` and ``[k, one-hot row, one-hot column]``, which
  torch's fused attention can take as it is, once the values are padded to the same width;
* *by heads*: the same dot product, then softmax and the product with the values, a few whole heads at a time. For
  windows: there the wider product costs little, while a bias is slow to add in pieces of 14 columns;
* *by rows*: a matrix product on top of the broadcast bias, softmax, product with the values, for rows of one head. For
  large grids: a third of the multiplications.

Which one wins depends on the hardware.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.ops.dispatch import register_function
from ovseg.processor import has_matrix_tiles

ROW_ELEMENTS = 1 << 18  # logits of one block of the aggregation: 1 MiB of fp32
BLOCK_BYTES = 2 << 20  # logits that an attention computes at once: small for the caches, large for matmul
GPU_BLOCKS = 128  # a GPU takes blocks so many times larger: small ones cost it a launch each and fill no multiprocessor
FUSED_WIDTH = 256  # widest head that the fused CUDA kernels take


def _prefers_fused(q: Tensor, width: int) -> bool:
    if q.device.type == "cuda":
        return width <= FUSED_WIDTH
    return q.dtype == torch.bfloat16 and has_matrix_tiles()


@register_function("decomposed_attention", "torch")
def decomposed_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    width = -(-(q.shape[-1] + len(rel_h) + len(rel_w)) // 16) * 16
    if _prefers_fused(q, width):
        return augmented_attention(q, k, v, rel_h, rel_w, scale)
    if q.shape[1] * q.shape[2] ** 2 <= _block_elements(q):
        return attention_by_heads(q, k, v, rel_h, rel_w, scale)
    return attention_by_rows(q, k, v, rel_h, rel_w, scale)


def _logit_type(q: Tensor) -> torch.dtype:
    """bf16 on the CPU stays bf16 (3 times the speed), else logits and softmax are in fp32."""
    return torch.bfloat16 if q.dtype == torch.bfloat16 and q.device.type == "cpu" else torch.float32


def _block_elements(q: Tensor) -> int:
    return _blocks(q.device) * BLOCK_BYTES // _logit_type(q).itemsize


def _blocks(device: torch.device) -> int:
    return GPU_BLOCKS if device.type == "cuda" else 1


def position_logits(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> tuple[Tensor, Tensor]:
    """q [B, N, hd] -> its products with the tables, [B, N, h] and [B, N, w]."""
    height, width = len(rel_h), len(rel_w)
    cells = q.unflatten(1, (height, width))
    of_row = torch.einsum("bhwc,hkc->bhwk", cells, rel_h.to(q.dtype))
    of_column = torch.einsum("bhwc,wkc->bhwk", cells, rel_w.to(q.dtype))
    return of_row.flatten(1, 2), of_column.flatten(1, 2)


def side_by_side(q: Tensor, k: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Queries and keys ``[B, heads, N, width]`` (width: the next multiple of 16) whose dot products are the logits."""
    height, width = len(rel_h), len(rel_w)
    extra = -(-(q.shape[-1] + height + width) // 16) * 16 - q.shape[-1]
    of_row, of_column = (p.unflatten(0, q.shape[:2]) for p in position_logits(q.flatten(0, 1), rel_h, rel_w))
    nothing = q.new_zeros(()).expand(*q.shape[:-1], extra - height - width)
    token = torch.arange(height * width, device=q.device)
    where = F.one_hot(token // width, extra) + F.one_hot(height + token % width, extra)
    keys = torch.cat((k, where.to(k.dtype).expand(*k.shape[:2], -1, -1)), -1)
    return torch.cat((q * scale, of_row, of_column, nothing), -1), keys


def augmented_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """Through ``scaled_dot_product_attention``; values padded to the width of the keys."""
    queries, keys = side_by_side(q, k, rel_h, rel_w, scale)
    values = F.pad(v, (0, keys.shape[-1] - v.shape[-1]))
    return F.scaled_dot_product_attention(queries, keys, values, scale=1.0)[..., : v.shape[-1]]


def attention_by_heads(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """All heads of a few samples (windows) at a time; bf16 on the CPU stays bf16, else logits and softmax are fp32."""
    batch, heads, count, _ = q.shape
    logits, out = _logit_type(q), torch.empty_like(v)
    step = max(1, _block_elements(q) // (heads * count**2))
    for start in range(0, batch, step):
        some = slice(start, start + step)
        queries, keys = side_by_side(q[some].to(logits), k[some].to(logits), rel_h, rel_w, scale)
        out[some] = torch.softmax(queries @ keys.mT, -1).to(v.dtype) @ v[some]
    return out


def attention_by_rows(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """Rows of one head at a time; bf16 on the CPU stays bf16, else logits and softmax are in fp32."""
    batch, heads, count, _ = q.shape
    logits, out = _logit_type(q), torch.empty_like(v)
    step = min(count, max(1, _block_elements(q) // count))
    for b, h in product(range(batch), range(heads)):
        queries, keys = q[b, h].to(logits).contiguous(), k[b, h].to(logits).contiguous().mT
        values = v[b, h].contiguous()
        of_row, of_column = (p[0] for p in position_logits(queries[None], rel_h, rel_w))
        queries = queries * scale
        for start in range(0, count, step):
            rows = slice(start, start + step)
            bias = (of_row[rows, :, None] + of_column[rows, None]).flatten(1)
            bias.addmm_(queries[rows], keys)  # 2-d on purpose: the bf16 baddbmm of 3-d tensors copies its operands
            weight = torch.softmax(bias, -1, out=bias)
            out[b, h, rows] = weight.to(v.dtype) @ values
    return out


@register_function("guided_aggregation", "torch")
def guided_aggregation(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_h: Tensor,
    rel_w: Tensor,
    scale: float,
    valid: Sequence[int],
    tokens: Tensor,
    cos_factor: float,
    cap: float,
    negative: float | None,
) -> Tensor:
    """A block of rows at a time, heads summed into it one by one: no [heads, N, N], no [N, N].

    Keys that count come first, so that their part of a block of weights is a view. Where the photo fills the rows of
    the grid and not its columns (portrait), that is the order column by column.
    """
    grid, valid = (len(rel_h), len(rel_w)), tuple(valid)
    if valid[0] == grid[0] and valid[1] < grid[1]:
        q, k, v = (_columns_first(t, grid) for t in (q, k, v))
        tokens = _columns_first(tokens, valid)
        flipped = guided_aggregation(q, k, v, rel_w, rel_h, scale, valid[::-1], tokens, cos_factor, cap, negative)
        return _columns_first(flipped, valid[::-1])
    cell = torch.arange(grid[0] * grid[1], device=q.device).view(grid)[: valid[0], : valid[1]].flatten()
    count, first = len(cell), slice(len(cell)) if valid[1] == grid[1] else cell
    of_row, of_column = (p[:, cell].float() for p in position_logits(q, rel_h, rel_w))
    queries, keys = q[:, cell].float() * scale, k.float().mT.contiguous()
    unit = F.normalize(v[:, cell].float(), dim=-1)
    # Mean cosine of row i over heads and columns: v_i . mean_j v_j, averaged over heads.
    limit = cos_factor * torch.einsum("hic,hc->i", unit, unit.mean(1)) / len(unit)
    if negative is not None:
        limit = torch.where(limit < 0, negative, limit)
    limit = limit.clamp(max=cap)[:, None]
    others, out = unit.mT.contiguous(), torch.empty_like(tokens)
    step = min(count, max(1, _blocks(q.device) * ROW_ELEMENTS // (grid[0] * grid[1])))
    weights, agreeing, sums = (queries.new_empty(step, n) for n in (grid[0] * grid[1], count, count))
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        weight, agree, summed = (t[: rows.stop - start] for t in (weights, agreeing, sums))
        summed.zero_()
        for head in range(len(q)):
            torch.add(of_row[head, rows, :, None], of_column[head, rows, None], out=weight.unflatten(1, grid))
            torch.softmax(weight.addmm_(queries[head, rows], keys[head]), -1, out=weight)
            torch.gt(torch.mm(unit[head, rows], others[head], out=agree), limit[rows], out=agree)
            summed.addcmul_(weight[:, first], agree)
        summed /= summed.sum(-1, keepdim=True)
        out[rows] = summed.to(tokens.dtype) @ tokens
    return out


def _columns_first(t: Tensor, grid: tuple[int, int]) -> Tensor:
    """``[..., h * w, c]`` on a grid, row by row, in the order column by column."""
    return t.unflatten(-2, grid).transpose(-3, -2).flatten(-3, -2)
