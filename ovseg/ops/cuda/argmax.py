"""Upsample + argmax on CUDA: tiles of pixels, pruned queries, running winners in registers (``argmax.cu``)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ovseg.ops.cuda.kernels import STORAGE, kernel
from ovseg.ops.cuda.launch import CudaBackend, launch
from ovseg.ops.dispatch import register
from ovseg.ops.torch_argmax import bilinear_matrix

TILE = 32
MAX_TOPK = 8  # ranks that fit into registers
FIXED_SHARED = 30_800  # bytes of `Shared` in argmax.cu
MAX_SHARED = 160 << 10  # bytes a block may have from sm_80 on

ARGMAX = kernel(
    "argmax.cu", "separable_argmax", 512, ("float", "__nv_bfloat16"), FIXED_SHARED + 4 * (64 + 128), "64 x 128 cells"
)
TOPK = kernel(
    "argmax.cu",
    "separable_topk",
    512,
    ("float, 1", "__half, 8"),
    FIXED_SHARED + 4 * (64 + 128),
    "64 x 128 cells",
)


def _shared(gy: int, gx: int) -> int:
    """Dynamic shared bytes: the fixed part, then the lists of touched cells of both axes."""
    return FIXED_SHARED + 4 * (gy + gx)


def _too_large(gy: int, gx: int) -> list[str]:
    limit = (MAX_SHARED - FIXED_SHARED) // 4
    return [f"a score grid of {gy} x {gx} cells, at most {limit} rows and columns together"] if gy + gx > limit else []


@lru_cache(maxsize=32)
def _bilinear(cells: int, pixels: int, device: torch.device) -> Tensor:
    """The same few sizes come again and again: keep their matrices on the device."""
    with torch.inference_mode(False):
        return bilinear_matrix(cells, pixels).to(device)


def _cells_first(scores: Tensor) -> Tensor:
    """[Q, gy, gx] -> [gy, gx, Q]"""
    return scores.permute(1, 2, 0).contiguous()


@register
class CudaSeparableArgmax(CudaBackend):
    """Does not look for NaN in the scores, which would need a synchronisation: NaN never wins."""

    operator = "separable_argmax"

    def not_supported_reasons(self, scores: Tensor, rows: Tensor, columns: Tensor, *others) -> list[str]:
        tensors = (scores, rows, columns, *others)
        return super().not_supported_reasons(*tensors) + _too_large(*scores.shape[1:])

    def run(
        self,
        scores: Tensor,
        rows: Tensor,
        columns: Tensor,
        query_to_class: Tensor,
        num_classes: int,
        logit_scale: float,
        threshold: float,
        background: int,
        allowed: Tensor | None,
    ) -> Tensor:
        queries, gy, gx = scores.shape
        height, width = len(rows), len(columns)
        classes = query_to_class if allowed is None else query_to_class.where(allowed[query_to_class], -1)
        # The bound of the softmax denominator that the kernel interpolates.
        normaliser = (scores.float() * logit_scale).logsumexp(0) if threshold > 0 else None
        out = torch.empty(height, width, dtype=torch.int32, device=scores.device)
        launch(
            ARGMAX,
            (STORAGE[scores.dtype],),
            (-(-width // TILE), -(-height // TILE)),
            _cells_first(scores),
            classes.int(),
            rows.float().contiguous(),
            columns.float().contiguous(),
            normaliser,
            out,
            *(queries, gy, gx, height, width),
            *(float(logit_scale), float(threshold), background),
            shared=_shared(gy, gx),
        )
        return out


@register
class CudaUpsampleArgmax(CudaSeparableArgmax):
    """The separable form with the matrices of bilinear interpolation."""

    operator = "upsample_argmax"

    def not_supported_reasons(self, scores: Tensor, height: int, width: int, *others) -> list[str]:
        return CudaBackend.not_supported_reasons(self, scores, *others) + _too_large(*scores.shape[1:])

    def run(self, scores: Tensor, height: int, width: int, *others) -> Tensor:
        rows = _bilinear(scores.shape[1], height, scores.device)
        columns = _bilinear(scores.shape[2], width, scores.device)
        return super().run(scores, rows, columns, *others)


@register
class CudaSeparableTopk(CudaBackend):
    """At most `MAX_TOPK` ranks. Classes with equal probability come in ascending order."""

    operator = "separable_topk"

    def not_supported_reasons(
        self, scores: Tensor, rows: Tensor, columns: Tensor, query_to_class: Tensor, num_classes, logit_scale, k: int
    ) -> list[str]:
        reasons = super().not_supported_reasons(scores, rows, columns, query_to_class) + _too_large(*scores.shape[1:])
        return reasons + ([f"k = {k}, at most {MAX_TOPK}"] if k > MAX_TOPK else [])

    def run(
        self,
        scores: Tensor,
        rows: Tensor,
        columns: Tensor,
        query_to_class: Tensor,
        num_classes: int,
        logit_scale: float,
        k: int,
    ) -> tuple[Tensor, Tensor]:
        queries, gy, gx = scores.shape
        classes, order = query_to_class.sort(stable=True)
        has_query = torch.zeros(num_classes, dtype=torch.int32, device=scores.device)
        has_query[classes] = 1
        empty = has_query.argsort(stable=True)  # classes without a query first, each group ascending
        labels = torch.empty(k, len(rows), len(columns), dtype=torch.int32, device=scores.device)
        probabilities = torch.empty(labels.shape, device=scores.device)
        launch(
            TOPK,
            (STORAGE[scores.dtype], k),
            (-(-len(columns) // TILE), -(-len(rows) // TILE)),
            _cells_first(scores[order]),
            classes.int(),
            empty.int(),
            rows.float().contiguous(),
            columns.float().contiguous(),
            labels,
            probabilities,
            *(queries, gy, gx, len(rows), len(columns), float(logit_scale)),
            shared=_shared(gy, gx),
        )
        return labels, probabilities
