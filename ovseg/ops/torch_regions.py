"""Counting operators: region voting, region pooling, confusion matrix. Each is one histogram or one scatter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ovseg.ops.dispatch import register_function

# Above this many (region, class) bins the histogram is built from the pairs that occur.
MAX_BINS = 1 << 24


def _compact(regions: Tensor) -> tuple[Tensor, Tensor]:
    """Arbitrary ids -> (ids [R], for each pixel the position of its id).

    Ids in a narrow range, the usual case, are only shifted: `ids` then holds values that no pixel has. A sort
    (`torch.unique`) is paid only for scattered ids.
    """
    if regions.numel():
        low, high = (int(bound) for bound in torch.aminmax(regions))
        if high - low < max(4096, regions.numel() // 4):
            return torch.arange(low, high + 1, device=regions.device), regions.long() - low
    return torch.unique(regions.long(), return_inverse=True)


@register_function("region_vote", "torch")
def region_vote(labels: Tensor, regions: Tensor, num_classes: int, skip_ids: Sequence[int]) -> Tensor:
    ids, index = _compact(regions)
    index, flat = index.flatten(), labels.flatten().long()
    code = index * num_classes + flat
    if len(ids) * num_classes <= MAX_BINS:
        winner = torch.bincount(code, minlength=len(ids) * num_classes).view(len(ids), num_classes).argmax(1)
    else:
        winner = _winner_of_pairs(code, len(ids), num_classes)
    voted = winner[index]
    if skip_ids:
        keep = torch.isin(ids, torch.tensor(list(skip_ids), device=ids.device, dtype=ids.dtype))
        voted = torch.where(keep[index], flat, voted)
    return voted.to(labels.dtype).view_as(labels)


def _winner_of_pairs(code: Tensor, num_regions: int, num_classes: int) -> Tensor:
    """Most frequent label of each region from codes region * num_classes + label; memory linear in pixels."""
    pairs, counts = torch.unique(code, return_counts=True)
    region, label = pairs // num_classes, pairs % num_classes
    # One number that orders by count, then by smaller label.
    rank = counts * num_classes + (num_classes - 1 - label)
    best = torch.zeros(num_regions, dtype=torch.int64, device=code.device)
    best.scatter_reduce_(0, region, rank, "amax")
    return num_classes - 1 - best % num_classes


@register_function("region_pool", "torch")
def region_pool(features: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    ids, index = torch.unique(regions, return_inverse=True)
    sums = torch.zeros(len(ids), features.shape[1], device=features.device)
    sums.index_add_(0, index, features.float())
    counts = torch.bincount(index, minlength=len(ids))
    return ids, sums / counts[:, None]


@register_function("confusion_matrix", "torch")
def confusion_matrix(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    prediction, target = prediction.flatten().long(), target.flatten().long()
    code = torch.where(target == ignore_index, num_classes * num_classes, target * num_classes + prediction)
    counts = torch.bincount(code, minlength=num_classes * num_classes + 1)
    return counts[:-1].view(num_classes, num_classes)
