"""The attention operators on CUDA: tensors are brought into the layout of the kernels in ``attention_*.cu``."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.ops.cuda.compile import LIMITS
from ovseg.ops.cuda.kernels import STORAGE, kernel
from ovseg.ops.cuda.launch import CudaBackend, launch
from ovseg.ops.dispatch import register
from ovseg.ops.torch_attention import similarity_limits
from ovseg.ops.torch_sam import position_logits

ROWS = KEYS = WIDTH = 64  # queries and keys of a tile, depth of a score step (attention.cuh)
SLAB = 16  # value rows of a step (attention_wide.cuh)
WARPS = 8
MAX_TILES = 12  # value columns of a warp in units of 8 that its registers hold
STATIC_SHARED = 6 << 10  # bytes that the kernels with wide values declare themselves
STAGES = 3  # buffers of the ring; with 3 a block fits where it may have 99 KiB (consumer GPUs)
SCORE_PIECES = 3  # of fp32 factors whose product is compared with a limit: exact to fp32
VALUE_PIECES = 2
LOG2E = math.log2(math.e)
PRODUCTS = {1: 1, 2: 3, 3: 6}  # how many products of pieces stand for a product


@cache
def device_limits(device: torch.device) -> tuple[int, int]:
    """(multiprocessors, shared bytes that a block may have); without a GPU, as in the tests' emulation, an H100's."""
    if device.type != "cuda":
        return 132, LIMITS["sm_90"].shared_per_block
    properties = torch.cuda.get_device_properties(device)
    return properties.multi_processor_count, properties.shared_memory_per_block_optin


def pieces(x: Tensor, count: int) -> Tensor:
    """fp32 [...] -> bf16 [count, ...] whose sum it is (attention.cuh); other types: [1, ...], as they are."""
    if x.dtype != torch.float32:
        return x[None]
    parts, rest = [], x
    for _ in range(count):
        parts.append(rest.bfloat16())
        rest = rest - parts[-1]
    return torch.stack(parts)


def padded(x: Tensor, multiple: int = 8) -> Tensor:
    """Contiguous, last dimension filled up with zeros; rows of 16-bit values start at multiples of 16 bytes."""
    if extra := -x.shape[-1] % multiple:
        return F.pad(x, (0, extra)).contiguous()
    x = x.contiguous()
    return x if x.data_ptr() % 16 == 0 else x.clone()  # a view may start anywhere


def tile_bytes(rows: int, columns: int) -> int:
    return rows * (columns + 8) * 2


def wide_shared(tiles: int, value_pieces: int, resident_depth: int = 0) -> int:
    """Dynamic shared bytes of the kernels with wide values; ``resident_depth``: of queries that stay there."""
    stage = max(2 * tile_bytes(ROWS, WIDTH), tile_bytes(SLAB, 8 * WARPS * tiles))
    resident = -(-resident_depth // WIDTH) * tile_bytes(ROWS, WIDTH)
    return STAGES * stage + value_pieces * tile_bytes(ROWS, KEYS) + resident


def split_columns(
    blocks: int, columns: int, score_cost: float, value_cost: float, multiprocessors: int, max_tiles: int = MAX_TILES
) -> int:
    """Value columns per warp, in units of 8, for the fewest rounds of work with one block per multiprocessor.

    Fewer columns per block: more blocks for a small input, but each computes the scores again.

    Args:
        blocks: blocks of 64 queries.
        score_cost, value_cost: multiplications per pair for the scores, and for the product with one value column.
    """

    def rounds(tiles: int) -> float:
        width = 8 * WARPS * tiles
        return -(-blocks * -(-columns // width) // multiprocessors) * (score_cost + value_cost * width)

    return min(range(2, max_tiles + 1, 2), key=lambda tiles: (rounds(tiles), tiles))


CORRELATION = kernel(
    "attention_correlation.cu",
    "correlation_attention",
    threads=32 * WARPS,
    arguments=(
        f"__nv_bfloat16, __nv_bfloat16, 12, {STAGES}, true",
        f"__half, __half, 12, {STAGES}, true",
        f"__half, __half, 6, {STAGES}, true",
        f"__nv_bfloat16, __nv_bfloat16, 12, {STAGES}, false",
        f"__nv_bfloat16, float, 12, {STAGES}, false",
    ),
    shared=wide_shared(12, 1),
    # Queries that stay (last argument true) take 108 KiB more at d = 768.
    note="12: sums of 64 queries x 768 columns fill the registers, one block per multiprocessor",
)


@register
class CorrelationAttention(CudaBackend):
    """Features, limits in closed form, and values to one kernel (``attention_correlation.cu``)."""

    operator = "correlation_attention"

    def not_supported_reasons(self, *args: Any) -> list[str]:
        return super().not_supported_reasons(*args) + too_many("samples", args[0].shape[0])

    def run(
        self,
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
        if values.numel() == 0:
            return torch.empty_like(values)
        limits = similarity_limits(features, beta, threshold, mean_scope)
        own, width = padded(values), values.shape[2]
        left, right = pieces(padded(features), SCORE_PIECES), pieces(own, VALUE_PIECES)
        (batch, count, columns), depth = own.shape, left.shape[3]
        terms, products = PRODUCTS[len(left)], PRODUCTS[len(right)]
        blocks = -(-count // ROWS)
        multiprocessors, shared_limit = device_limits(values.device)
        tiles = split_columns(blocks * batch, columns, terms * depth, products, multiprocessors)
        shared = wide_shared(tiles, len(right), depth)
        resident = terms == 1 and shared + STATIC_SHARED <= shared_limit
        out = torch.empty_like(own)
        launch(
            CORRELATION,
            (STORAGE[left.dtype], STORAGE[own.dtype], tiles, STAGES, "true" if resident else "false"),
            (blocks, -(-columns // (8 * WARPS * tiles)), batch),
            left,
            right,
            own,
            limits,
            None if region_ids is None else region_ids.long().contiguous(),
            None if region_ids is None else unsegmented.long().contiguous(),
            out,
            batch,
            count,
            depth,
            columns,
            terms,
            float(scale),
            normaliser == "sum",
            empty == "self",
            shared=shared if resident else wide_shared(tiles, len(right)),
        )
        return out[..., :width].contiguous()


def too_many(what: str, count: int) -> list[str]:
    """A launch has at most 65,535 blocks along its second and third axis."""
    return [f"{count} {what}; at most 65535 fit into one launch"] if count > 65535 else []


# Attention of one head at a time --------------------------------------------------------------------------------------

HEAD_UNIT = 16  # widths of heads are filled up to a multiple of this
MAX_HEAD = {torch.float32: 112}  # what the registers hold; of 16-bit types 128
BIAS = {"none": 0, "neighbours": 1, "positions": 2}


def head_shared(head: int, slots: int, entries: int) -> int:
    """Dynamic shared bytes of `head_attention`: query tiles, the ring, and ``entries`` relative positions per query."""
    stride = (entries + 7) // 16 * 16 + 8
    return (slots + STAGES) * tile_bytes(ROWS, head) + (ROWS * stride * 4 if entries else 0)


HEADS = kernel(
    "attention_heads.cu",
    "head_attention",
    threads=2 * ROWS,
    arguments=(
        f"__nv_bfloat16, 64, 0, {STAGES}",
        f"__half, 64, 1, {STAGES}",
        f"__nv_bfloat16, 64, 2, {STAGES}",
        f"float, 64, 2, {STAGES}",
        f"__nv_bfloat16, 80, 2, {STAGES}",
        f"float, 112, 1, {STAGES}",
    ),
    shared=head_shared(64, 1, 128),
    note="shared memory as for SAM's grid of 64 x 64",
)


def run_heads(
    queries: Tensor,
    keys: Tensor,
    values: Tensor | None,
    *,
    dtype: torch.dtype,
    scale: float,
    bias: str = "none",
    of_row: Tensor | None = None,
    of_column: Tensor | None = None,
    grid: tuple[int, int] = (0, 1),
    falloff: float = 0.0,
) -> Tensor:
    """One launch of `head_attention`.

    Args:
        queries, keys: pieces [rounds, sources, pieces, heads, rows or count, HEAD], contiguous.
        values: pieces [pieces, heads, count, HEAD]; None: only statistics.
        dtype: of the original tensors.
        of_row, of_column: float32 [heads, rows, h] and [heads, rows, w], for bias "positions".
        grid: (h, w).

    Returns:
        [heads, rows, HEAD] of ``dtype``, or float32 [heads, rows]: log2 of each row's sum of exponentials.
    """
    rounds, sources, parts, heads, rows, head = queries.shape
    entries = sum(grid) if bias == "positions" else 0
    shape, kind = ((heads, rows, head), dtype) if values is not None else ((heads, rows), torch.float32)
    result = torch.empty(shape, dtype=kind, device=queries.device)
    launch(
        HEADS,
        (STORAGE[dtype], head, BIAS[bias], STAGES),
        (-(-rows // ROWS), heads),
        queries,
        keys,
        values,
        of_row,
        of_column,
        None if values is None else result,
        result if values is None else None,
        heads,
        rows,
        keys.shape[4],
        rounds,
        sources,
        float(scale),
        grid[0],
        grid[1],
        float(falloff),
        shared=head_shared(head, rounds * sources * parts, entries),
    )
    return result


def head_reasons(tensors: tuple[Tensor, ...], sources: int, entries: int) -> list[str]:
    """Why `head_attention` cannot take q, k, v [..., N, hd]."""
    q = tensors[0]
    head = -(-q.shape[-1] // HEAD_UNIT) * HEAD_UNIT
    reasons = too_many("heads of all samples", q.shape[:-2].numel())
    if len({t.dtype for t in tensors}) > 1:
        reasons.append("q, k and v differ in type")
    if head > (widest := MAX_HEAD.get(q.dtype, 128)):
        return [*reasons, f"heads of width {q.shape[-1]}, at most {widest} for {q.dtype}"]
    needed, (_, limit) = head_shared(head, sources * piece_count(q, VALUE_PIECES), entries), device_limits(q.device)
    if needed > limit:
        reasons.append(f"{needed} bytes of shared memory per block are needed (heads of {head}), the GPU has {limit}")
    return reasons


def piece_count(x: Tensor, of_float: int) -> int:
    return of_float if x.dtype == torch.float32 else 1


@register
class SelfSelfAttention(CudaBackend):
    """Terms of a sum are rounds of one launch; logits that are summed before softmax are sources of one round."""

    operator = "self_self_attention"

    def not_supported_reasons(self, *args: Any) -> list[str]:
        return super().not_supported_reasons(*args) + head_reasons(args[:3], len(args[3]), 0)

    def slower_reasons(self, *args: Any) -> list[str]:
        q, neighbour_std = args[0], args[7]
        if q.dtype == torch.float32 or neighbour_std > 0:
            return []
        return ["torch's fused attention takes 0.4 to 0.8 of the time in 16 bits (H100)"]

    def run(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        terms: str,
        scale: float,
        combine: str,
        grid: list[int],
        neighbour_std: float,
    ) -> Tensor:
        if v.numel() == 0:
            return torch.empty_like(v)
        parts = {
            name: pieces(padded(x, HEAD_UNIT).flatten(0, 1), VALUE_PIECES)
            for name, x in zip("qkv", (q, k, v), strict=True)
        }
        stacked = torch.stack([parts[term] for term in terms]) if len(terms) > 1 else parts[terms][None]
        stacked = stacked[None] if combine == "softmax" else stacked[:, None]
        bias: dict[str, Any] = {}
        if neighbour_std > 0:
            bias = dict(bias="neighbours", grid=tuple(grid), falloff=LOG2E / (2 * neighbour_std**2))
        out = run_heads(stacked, stacked, parts["v"], dtype=v.dtype, scale=scale, **bias)
        return out.view(*v.shape[:3], -1)[..., : v.shape[3]].contiguous()


@register
class DecomposedAttention(CudaBackend):
    """The queries' products with the position tables, [N, h + w] a head, come from torch; the rest is one launch."""

    operator = "decomposed_attention"

    def not_supported_reasons(self, *args: Any) -> list[str]:
        return super().not_supported_reasons(*args) + head_reasons(args[:3], 1, len(args[3]) + len(args[4]))

    def run(self, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
        if v.numel() == 0:
            return torch.empty_like(v)
        of_row, of_column = position_logits(q.flatten(0, 1).float(), rel_h, rel_w)
        queries, keys, values = (pieces(padded(x, HEAD_UNIT).flatten(0, 1), VALUE_PIECES) for x in (q, k, v))
        out = run_heads(
            queries[None, None],
            keys[None, None],
            values,
            dtype=v.dtype,
            scale=scale,
            bias="positions",
            of_row=of_row.contiguous(),
            of_column=of_column.contiguous(),
            grid=(len(rel_h), len(rel_w)),
        )
        return out.view(*v.shape[:3], -1)[..., : v.shape[3]].contiguous()
