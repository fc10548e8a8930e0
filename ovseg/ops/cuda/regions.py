"""Region voting, region pooling and the confusion matrix on CUDA (``regions.cu``), the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovseg.ops import torch_regions
from ovseg.ops.cuda.kernels import FLOAT_TYPES, INTEGERS, STORAGE, kernel
from ovseg.ops.cuda.launch import CudaBackend, launch
from ovseg.ops.dispatch import register

THREADS = 256
MEAN_LANES = 32  # features per block of region_mean
SHARED_BINS = 4096  # 16 KiB: up to 64 classes are counted in shared memory
PIXELS_PER_THREAD = 16
MAX_BLOCKS = 1024

COUNT = kernel(
    "regions.cu",
    "count_pairs",
    THREADS,
    ("int64_t, int32_t, true", "int32_t, int64_t, false", "uint8_t, uint8_t, true"),
    4 * SHARED_BINS,
    "64 classes",
)
PICK = kernel("regions.cu", "pick_winners", THREADS)
WRITE = kernel("regions.cu", "write_winners", THREADS, ("int32_t, int32_t", "int64_t, int64_t"))
MEAN = kernel("regions.cu", "region_mean", THREADS, FLOAT_TYPES)


def _type_reasons(**tensors: Tensor) -> list[str]:
    supported = sorted(str(t).removeprefix("torch.") for t in INTEGERS)
    return [
        f"{name} have type {tensor.dtype}, supported are {supported}"
        for name, tensor in tensors.items()
        if tensor.dtype not in INTEGERS
    ]


def _blocks(count: int, per_thread: int = 1) -> int:
    return min(MAX_BLOCKS, -(-count // (THREADS * per_thread)))


def _count_pairs(
    first: Tensor, second: Tensor, rows: int, columns: int, offset: int = 0, ignored: int | None = None
) -> Tensor:
    """int64 [rows, columns]: how often ``first - offset`` and ``second`` meet; pairs outside are not counted."""
    counts = torch.zeros(rows, columns, dtype=torch.int64, device=first.device)
    if first.numel() == 0:
        return counts
    in_shared = counts.numel() <= SHARED_BINS
    launch(
        COUNT,
        (INTEGERS[first.dtype], INTEGERS[second.dtype], str(in_shared).lower()),
        (_blocks(first.numel(), PIXELS_PER_THREAD),),
        first.contiguous(),
        second.contiguous(),
        counts,
        *(np.int64(first.numel()), np.int64(offset), columns, counts.numel()),
        *(ignored is not None, np.int64(ignored or 0)),
        shared=4 * counts.numel() if in_shared else 0,
    )
    return counts


@register
class CudaRegionVote(CudaBackend):
    """A histogram of (region, label). Ids in a narrow range, the usual case, are not sorted."""

    operator = "region_vote"

    def not_supported_reasons(
        self, labels: Tensor, regions: Tensor, num_classes: int, skip_ids: Sequence[int]
    ) -> list[str]:
        reasons = super().not_supported_reasons(labels, regions)
        return reasons + _type_reasons(labels=labels, regions=regions)

    def slower_reasons(self, *args: Any) -> list[str]:
        return ["torch's sort takes half the time (H100)"]

    def run(self, labels: Tensor, regions: Tensor, num_classes: int, skip_ids: Sequence[int]) -> Tensor:
        if labels.numel() == 0:
            return labels.clone()
        low, high = (int(bound) for bound in torch.aminmax(regions))
        if high - low < max(4096, regions.numel() // 4):
            ids, index = torch.arange(low, high + 1, device=regions.device), regions
        else:
            ids, index = torch.unique(regions, return_inverse=True)
            low = 0
        if len(ids) * num_classes > torch_regions.MAX_BINS:  # the table would be larger than a list of the pairs
            return torch_regions.region_vote(labels, regions, num_classes, skip_ids)
        labels, index = labels.contiguous(), index.contiguous()
        counts = _count_pairs(index, labels, len(ids), num_classes, offset=low)
        winner = torch.empty(len(ids), dtype=torch.int32, device=labels.device)
        launch(PICK, (), (-(-len(ids) * 32 // THREADS),), counts, winner, len(ids), num_classes)
        if skip_ids:
            skipped = torch.isin(ids, torch.tensor(list(skip_ids), device=ids.device, dtype=ids.dtype))
            winner.masked_fill_(skipped, -1)
        out = torch.empty_like(labels)
        template = INTEGERS[labels.dtype], INTEGERS[index.dtype]
        launch(
            WRITE,
            template,
            (_blocks(labels.numel()),),
            *(labels, index, winner, out),
            *(np.int64(labels.numel()), np.int64(low)),
        )
        return out


@register
class CudaRegionPool(CudaBackend):
    """Tokens are listed region by region (one sort); means are summed in that order, without atomics."""

    operator = "region_pool"

    def run(self, features: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        ids, index = torch.unique(regions, return_inverse=True)
        members = index.argsort(stable=True)
        starts = torch.searchsorted(index[members], torch.arange(len(ids) + 1, device=index.device))
        d = features.shape[1]
        means = torch.empty(len(ids), d, device=features.device)
        grid = len(ids), -(-d // MEAN_LANES)
        launch(MEAN, (STORAGE[features.dtype],), grid, features.contiguous(), members, starts, means, d)
        return ids, means


@register
class CudaConfusionMatrix(CudaBackend):
    """A histogram of (target, prediction)."""

    operator = "confusion_matrix"

    def not_supported_reasons(
        self, prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int
    ) -> list[str]:
        reasons = super().not_supported_reasons(prediction, target)
        reasons += _type_reasons(predictions=prediction, targets=target)
        if num_classes**2 > torch_regions.MAX_BINS:
            reasons.append(f"{num_classes} classes, at most {int(torch_regions.MAX_BINS**0.5)}")
        return reasons

    def run(self, prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
        return _count_pairs(target, prediction, num_classes, num_classes, ignored=ignore_index)
