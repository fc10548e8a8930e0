"""PAMR on CUDA: one kernel for the affinity, one launch per iteration with the weights in registers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ovseg.ops.cuda.kernels import FLOAT_TYPES, STORAGE, kernel
from ovseg.ops.cuda.launch import CudaBackend, launch
from ovseg.ops.dispatch import register

MAX_DILATIONS = 6  # more do not fit into registers
TILE_WIDTH, TILE_ROWS = 32, 8  # pixels that 256 threads cover at once
QUERIES_PER_BLOCK = 16
MAX_SHARED = 160 << 10  # bytes a block may have from sm_80 on
# Pixels per thread by number of dilations: as many weights (8 per pixel and dilation) as registers hold.
PIXELS = {1: 4, 2: 4, 3: 2, 4: 2, 5: 1, 6: 1}


def _shared(dilations: Sequence[int]) -> int:
    """Bytes of two tiles with their halo."""
    halo = max(dilations)
    rows = TILE_ROWS * PIXELS[len(dilations)] + 2 * halo
    return 2 * 4 * rows * (TILE_WIDTH + 2 * halo)


AFFINITY = kernel("pamr.cu", "pamr_affinity", 256, arguments=tuple(f"{t}, 2" for t in FLOAT_TYPES) + ("float, 6",))
APPLY = kernel(
    "pamr.cu",
    "pamr_apply",
    256,
    arguments=(
        "float, float, 2, 4",
        "__half, float, 2, 4",
        "float, __nv_bfloat16, 2, 4",
        "float, float, 1, 4",
        "float, float, 4, 2",
        "float, float, 6, 1",
    ),
    shared=_shared((8, 16)),
    note="dilations 8 and 16",
)


def _padded(dilations: Sequence[int]) -> list[int]:
    return [*dilations, *[0] * (MAX_DILATIONS - len(dilations))]


def _too_many(dilations: Sequence[int]) -> list[str]:
    return [f"{len(dilations)} dilations, at most {MAX_DILATIONS}"] if len(dilations) > MAX_DILATIONS else []


@register
class CudaPamrAffinity(CudaBackend):
    """At most `MAX_DILATIONS` dilations."""

    operator = "pamr_affinity"

    def not_supported_reasons(self, image: Tensor, dilations: Sequence[int]) -> list[str]:
        return super().not_supported_reasons(image) + _too_many(dilations)

    def run(self, image: Tensor, dilations: Sequence[int]) -> Tensor:
        batch, channels, height, width = image.shape
        affinity = torch.empty(batch, height, width, 8 * len(dilations), device=image.device)
        template = STORAGE[image.dtype], len(dilations)
        grid = -(-width // TILE_WIDTH), -(-height // TILE_ROWS), batch
        sizes = channels, height, width, *_padded(dilations)
        launch(AFFINITY, template, grid, image.contiguous(), affinity, *sizes)
        return affinity.permute(0, 3, 1, 2)


@register
class CudaPamrApply(CudaBackend):
    """At most `MAX_DILATIONS` dilations, whose halo fits into shared memory."""

    operator = "pamr_apply"

    def not_supported_reasons(
        self, affinity: Tensor, scores: Tensor, iterations: int, dilations: Sequence[int]
    ) -> list[str]:
        reasons = super().not_supported_reasons(affinity, scores) + _too_many(dilations)
        if not reasons and _shared(dilations) > MAX_SHARED:
            reasons.append(f"dilation {max(dilations)} needs {_shared(dilations)} bytes of shared memory")
        return reasons

    def run(self, affinity: Tensor, scores: Tensor, iterations: int, dilations: Sequence[int]) -> Tensor:
        if iterations == 0:
            return scores.clone()
        weights = affinity.float().permute(0, 2, 3, 1).contiguous()
        batch, queries, height, width = scores.shape
        pixels = PIXELS[len(dilations)]
        tiles = -(-width // TILE_WIDTH) * -(-height // (TILE_ROWS * pixels))
        grid = tiles * -(-queries // QUERIES_PER_BLOCK), 1, batch
        sizes = queries, QUERIES_PER_BLOCK, height, width, max(dilations), *_padded(dilations)
        source = scores.contiguous()
        # Iterations are in fp32; the last one writes the type of the scores.
        spare = [torch.empty(scores.shape, device=scores.device) for _ in range(min(iterations - 1, 2))]
        result = torch.empty(scores.shape, dtype=scores.dtype, device=scores.device)
        for iteration in range(iterations):
            target = result if iteration == iterations - 1 else spare[iteration % 2]
            template = STORAGE[source.dtype], STORAGE[target.dtype], len(dilations), pixels
            launch(APPLY, template, grid, weights, source, target, *sizes, shared=_shared(dilations))
            source = target
        return result
