"""PAMR in bounded memory.

The neighbours of a pixel are at fixed offsets, so one iteration is a weighted sum of gathered rows when the map is
stored as [H * W, queries]: exactly ``embedding_bag(mode="sum")``, for which torch has a vectorised kernel on CPU and
on CUDA. Nothing of size [queries, neighbours, H, W] is ever built (the usual im2col form needs 16 times the scores).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.ops.dispatch import register_function
from ovseg.ops.reference import neighbour_offsets

# Queries per pass on CPU: with 16 floats per pixel the rows that a dilation of 16 reaches stay in the L2 cache.
CPU_QUERIES = 16
# Pixels per pass of the affinity.
BLOCK_PIXELS = 1 << 17
# Neighbours per gather: bounds the index of one call (int32).
BLOCK_NEIGHBOURS = 16 * BLOCK_PIXELS


@register_function("pamr_affinity", "torch")
def pamr_affinity(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """[B, C, H, W] -> [B, K, H, W], stored with K innermost, which is the layout that `pamr_apply` reads."""
    batch, _, height, width = image.shape
    offsets = neighbour_offsets(dilations)
    samples = len(offsets) + len(dilations)
    affinity = image.new_empty(batch, height, width, len(offsets), dtype=torch.float32)
    pad = max(dilations)
    block = max(1, BLOCK_PIXELS // width)
    for index, picture in enumerate(image):
        padded = F.pad(picture.float()[None], (pad,) * 4, mode="replicate")[0]
        for top in range(0, height, block):
            rows = min(block, height - top)
            centre = padded[:, pad + top : pad + top + rows, pad : pad + width]
            differences = [
                padded[:, pad + top + dy : pad + top + dy + rows, pad + dx : pad + dx + width] - centre
                for dy, dx in offsets
            ]
            # Variance from differences to the centre, whose own difference is 0 (once per dilation): of all samples
            # at least one in nine is 0, so the subtraction below loses at most a factor of nine in precision.
            total, squares = torch.zeros_like(centre), torch.zeros_like(centre)
            for difference in differences:
                total += difference
                squares.addcmul_(difference, difference)
            variance = squares.addcmul_(total, total, value=-1 / samples).clamp_(min=0) / (samples - 1)
            weight = (variance.sqrt_() * 0.1 + 1e-8).reciprocal_()
            out = affinity[index, top : top + rows]
            for k, difference in enumerate(differences):
                torch.mean(difference.abs_().mul_(weight), 0, out=out[..., k])
    return torch.softmax(affinity.neg_(), -1).permute(0, 3, 1, 2)


@register_function("pamr_apply", "torch")
def pamr_apply(affinity: Tensor, scores: Tensor, iterations: int, dilations: Sequence[int]) -> Tensor:
    """[B, K, H, W] affinity, [B, Q, H, W] scores -> refined scores; iterates in fp32."""
    weights = affinity.float().permute(0, 2, 3, 1).contiguous()
    step = CPU_QUERIES if scores.device.type == "cpu" else max(1, scores.shape[1])
    offsets = neighbour_offsets(dilations)
    refined = torch.empty_like(scores)
    for index, picture in enumerate(scores):
        for first in range(0, len(picture), step):
            part = picture[first : first + step]
            refined[index, first : first + step] = weighted_neighbours(weights[index], part, offsets, iterations)
    return refined


def weighted_neighbours(
    weights: Tensor, scores: Tensor, offsets: Sequence[tuple[int, int]], iterations: int = 1
) -> Tensor:
    """Every pixel becomes the weighted sum of its neighbours, ``iterations`` times; borders are replicated.

    Args:
        weights: float32 [H, W, K], one per offset.
        scores: floating point [Q, H, W]; Q near `CPU_QUERIES` is fastest on the CPU.
        offsets: K pairs of rows and columns.

    Returns:
        float32 [Q, H, W].
    """
    queries, height, width = scores.shape
    pad = max(max(abs(dy), abs(dx)) for dy, dx in offsets)
    block = min(height, max(1, BLOCK_NEIGHBOURS // (width * len(offsets))))
    gather = _block_indices(block, width, offsets, pad, scores.device)
    # Two buffers [pad + H + pad, W, Q], read and written in turn; rows above and below repeat the border row.
    source = torch.empty(height + 2 * pad, width, queries, device=scores.device)
    target = torch.empty_like(source)
    source[pad : pad + height] = scores.permute(1, 2, 0)
    for _ in range(iterations):
        source[:pad] = source[pad]
        source[pad + height :] = source[pad + height - 1]
        for top in range(0, height, block):
            rows = min(block, height - top)
            summed = F.embedding_bag(
                gather[: rows * width],
                source[top : top + rows + 2 * pad].view(-1, queries),
                per_sample_weights=weights[top : top + rows].reshape(rows * width, -1),
                mode="sum",
            )
            target[pad + top : pad + top + rows] = summed.view(rows, width, queries)
        source, target = target, source
    return source[pad : pad + height].permute(2, 0, 1)


def _block_indices(rows: int, width: int, offsets: Sequence[tuple[int, int]], pad: int, device: torch.device) -> Tensor:
    """int32 [rows * width, K]: where each pixel's neighbours lie in a row-padded block, columns clamped."""
    dy, dx = torch.tensor(offsets, device=device, dtype=torch.int32).unbind(1)
    row = torch.arange(rows, device=device, dtype=torch.int32)[:, None, None] + pad + dy
    column = (torch.arange(width, device=device, dtype=torch.int32)[:, None] + dx).clamp_(0, width - 1)
    return (row * width + column).view(rows * width, len(dy))
