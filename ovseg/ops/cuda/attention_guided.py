"""Trident's aggregation along SAM's last attention on CUDA: row sums by `run_heads`, then ``attention_guided.cu``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.ops.cuda.attention import (
    HEAD_UNIT,
    PRODUCTS,
    ROWS,
    SCORE_PIECES,
    STAGES,
    VALUE_PIECES,
    WARPS,
    device_limits,
    head_reasons,
    padded,
    pieces,
    run_heads,
    split_columns,
    wide_shared,
)
from ovseg.ops.cuda.kernels import STORAGE, kernel
from ovseg.ops.cuda.launch import CudaBackend, launch
from ovseg.ops.dispatch import register
from ovseg.ops.torch_sam import position_logits

MAX_GUIDED_TILES = 8  # beside the sums the registers hold a tile of weights

GUIDED = kernel(
    "attention_guided.cu",
    "guided_aggregation",
    threads=32 * WARPS,
    arguments=(
        f"__nv_bfloat16, __nv_bfloat16, {MAX_GUIDED_TILES}, {STAGES}",
        f"float, float, {MAX_GUIDED_TILES}, {STAGES}",
        f"__half, __half, 4, {STAGES}",
    ),
    shared=wide_shared(MAX_GUIDED_TILES, 1),
    note="512 columns",
)


@register
class GuidedAggregation(CudaBackend):
    """Two launches: each row's sum of exponentials over all keys, then weights and aggregation over the valid cells."""

    operator = "guided_aggregation"

    def not_supported_reasons(self, *args: Any) -> list[str]:
        return super().not_supported_reasons(*args) + head_reasons(args[:3], 1, len(args[3]) + len(args[4]))

    def slower_reasons(self, *args: Any) -> list[str]:
        return ["torch in blocks of 128 MiB takes 0.6 to 0.8 of the time (H100)"]

    def run(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rel_h: Tensor,
        rel_w: Tensor,
        scale: float,
        valid: list[int],
        tokens: Tensor,
        cos_factor: float,
        cap: float,
        negative: float | None,
    ) -> Tensor:
        if tokens.numel() == 0:
            return torch.empty_like(tokens)
        height, width = len(rel_h), len(rel_w)
        cell = torch.arange(height * width, device=q.device).view(height, width)[: valid[0], : valid[1]].flatten()
        of_row, of_column = (p[:, cell].contiguous() for p in position_logits(q.float(), rel_h, rel_w))
        queries, keys = (pieces(padded(x, HEAD_UNIT), VALUE_PIECES) for x in (q, k))
        queries = queries[:, :, cell].contiguous()
        positions = dict(bias="positions", of_row=of_row, of_column=of_column, grid=(height, width))
        statistics = run_heads(queries[None, None], keys[None, None], None, dtype=q.dtype, scale=scale, **positions)

        own = v[:, cell]
        unit = F.normalize(own.float(), dim=-1)
        inverse_length = 1 / own.float().norm(dim=-1).clamp(min=1e-12)
        # Mean cosine of row i over heads and columns: v_i . mean_j v_j, averaged over heads.
        limits = cos_factor * torch.einsum("hic,hc->i", unit, unit.mean(1)) / len(unit)
        if negative is not None:
            limits = torch.where(limits < 0, negative, limits)
        limits = limits.clamp(max=cap)

        values, filled = pieces(padded(own, HEAD_UNIT), SCORE_PIECES), padded(tokens)
        right = pieces(filled, VALUE_PIECES)
        (heads, count, depth), columns = values.shape[1:], filled.shape[1]
        blocks = -(-count // ROWS)
        multiprocessors, _ = device_limits(q.device)
        score_cost = heads * depth * (PRODUCTS[len(values)] + PRODUCTS[len(queries)])
        tiles = split_columns(
            blocks, columns, score_cost, PRODUCTS[len(right)], multiprocessors, max_tiles=MAX_GUIDED_TILES
        )
        out = torch.empty_like(filled)
        launch(
            GUIDED,
            (STORAGE[q.dtype], STORAGE[tokens.dtype], tiles, STAGES),
            (blocks, -(-columns // (8 * WARPS * tiles))),
            queries,
            keys[:, :, cell].contiguous(),
            values,
            inverse_length,
            limits,
            of_row,
            of_column,
            statistics,
            right,
            out,
            heads,
            count,
            depth,
            columns,
            float(scale),
            height,
            width,
            valid[1],
            shared=wide_shared(tiles, len(right)),
        )
        return out[:, : tokens.shape[1]].contiguous()
