"""The definition of every operator: plain fp32 torch that follows the formula, slow and memory hungry on purpose.

These functions are the oracle of the tests and the last resort of the dispatcher. Read them to learn what an
operator computes; read the ``torch_*.py`` back-ends to learn how it is computed in bounded memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.ops.dispatch import register_function


def neighbour_offsets(dilations: Sequence[int]) -> list[tuple[int, int]]:
    """(row, column) offsets of the 8 neighbours at each dilation, in PAMR's order: dilation, row, column."""
    ring = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    return [(d * dy, d * dx) for d in dilations for dy, dx in ring]


def _shifted(maps: Tensor, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """[B, C, H, W] -> [B, C, K, H, W]: the map seen from each offset, borders replicated."""
    height, width = maps.shape[-2:]
    pad = max((max(abs(dy), abs(dx)) for dy, dx in offsets), default=0)
    padded = F.pad(maps, (pad,) * 4, mode="replicate")
    views = [padded[..., pad + dy : pad + dy + height, pad + dx : pad + dx + width] for dy, dx in offsets]
    return torch.stack(views, 2)


@register_function("pamr_affinity", "reference")
def pamr_affinity(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Araslanov & Roth 2020, section 4.3: softmax over neighbours of minus the normalised colour distance."""
    image = image.float()
    neighbours = _shifted(image, neighbour_offsets(dilations))
    centres = image.unsqueeze(2).expand(-1, -1, len(dilations), -1, -1)  # the centre counts once per dilation
    deviation = torch.cat((neighbours, centres), 2).std(2, keepdim=True)
    distance = (neighbours - image.unsqueeze(2)).abs() / (1e-8 + 0.1 * deviation)
    return (-distance).mean(1).softmax(1).contiguous(memory_format=torch.channels_last)


@register_function("pamr_apply", "reference")
def pamr_apply(affinity: Tensor, scores: Tensor, iterations: int, dilations: Sequence[int]) -> Tensor:
    """``iterations`` times: every pixel takes the affinity-weighted mean of its neighbours."""
    refined = scores.float().clone()
    for _ in range(iterations):
        refined = (_shifted(refined, neighbour_offsets(dilations)) * affinity.float().unsqueeze(1)).sum(2)
    return refined.to(scores.dtype)


def _decide(
    maps: Tensor,
    query_to_class: Tensor,
    num_classes: int,
    logit_scale: float,
    threshold: float,
    background: int,
    allowed: Tensor | None,
) -> Tensor:
    """[Q, H, W] full-size maps -> int32 [H, W] labels.

    The argmax is taken on the maps: softmax is increasing and keeps their order, but would round near ties to one
    number. The threshold looks at the softmax over all queries, also those of classes that are not allowed.
    """
    classes, probability = _by_class(maps, query_to_class, num_classes, logit_scale)
    if allowed is not None:
        classes[~allowed] = -torch.inf
        probability[~allowed] = 0
    labels = classes.argmax(0)
    if threshold > 0:
        labels[probability.amax(0) < threshold] = background
    return labels.int()


def _by_class(maps: Tensor, query_to_class: Tensor, num_classes: int, logit_scale: float) -> tuple[Tensor, Tensor]:
    """Best map value and best softmax probability of each class: two tensors [num_classes, H, W]."""
    probability = (maps * logit_scale).softmax(0)
    classes = torch.full((num_classes, *maps.shape[1:]), -torch.inf, device=maps.device)
    best = torch.zeros_like(classes)
    for query, label in enumerate(query_to_class.tolist()):
        classes[label] = torch.maximum(classes[label], maps[query])
        best[label] = torch.maximum(best[label], probability[query])
    return classes, best


def _separable(scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return torch.einsum("yi,qij,xj->qyx", rows.float(), scores.float(), columns.float())


@register_function("separable_argmax", "reference")
def separable_argmax(
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
    """Labels of ``rows @ scores[q] @ columns.T``."""
    maps = _separable(scores, rows, columns)
    return _decide(maps, query_to_class, num_classes, logit_scale, threshold, background, allowed)


@register_function("separable_topk", "reference")
def separable_topk(
    scores: Tensor,
    rows: Tensor,
    columns: Tensor,
    query_to_class: Tensor,
    num_classes: int,
    logit_scale: float,
    k: int,
) -> tuple[Tensor, Tensor]:
    """The k most probable classes of each pixel and their probabilities, best first."""
    maps = _separable(scores, rows, columns)
    probability = _by_class(maps, query_to_class, num_classes, logit_scale)[1]
    best, labels = probability.topk(k, 0)
    return labels.int(), best


@register_function("upsample_argmax", "reference")
def upsample_argmax(
    scores: Tensor,
    height: int,
    width: int,
    query_to_class: Tensor,
    num_classes: int,
    logit_scale: float,
    threshold: float,
    background: int,
    allowed: Tensor | None,
) -> Tensor:
    """Labels of bilinearly upsampled scores."""
    maps = F.interpolate(scores.float()[None], size=(height, width), mode="bilinear", align_corners=False)[0]
    return _decide(maps, query_to_class, num_classes, logit_scale, threshold, background, allowed)


@register_function("region_vote", "reference")
def region_vote(labels: Tensor, regions: Tensor, num_classes: int, skip_ids: Sequence[int]) -> Tensor:
    """CorrCLIP's map correction: all pixels of a region take its most frequent label (ties: the smallest)."""
    voted = labels.clone()
    for region in regions.unique().tolist():
        if region not in skip_ids:
            inside = regions == region
            counts = torch.bincount(labels[inside].long(), minlength=num_classes)
            voted[inside] = counts.argmax().to(labels.dtype)
    return voted


@register_function("region_pool", "reference")
def region_pool(features: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted region ids [R] and the mean feature of each [R, d]."""
    ids = regions.unique()
    means = [features[regions == i].float().mean(0) for i in ids.tolist()]
    return ids, torch.stack(means) if means else features.new_zeros(0, features.shape[1], dtype=torch.float32)


@register_function("confusion_matrix", "reference")
def confusion_matrix(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """int64 [C, C]: pixels of true class i (row) that were predicted as j (column)."""
    matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=prediction.device)
    valid = target != ignore_index
    for i in target[valid].unique().tolist():
        for j in prediction[valid].unique().tolist():
            matrix[i, j] = ((target == i) & (prediction == j) & valid).sum()
    return matrix


@register_function("correlation_attention", "reference")
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
    """ProxyCLIP equations 5-7, CorrCLIP's scope, CLIP-DINOiser's pooling: see the public function."""
    similarity = features.float() @ features.float().mT
    mean = similarity.mean((1, 2), keepdim=True) if mean_scope == "sample" else similarity.mean()
    keep = similarity >= beta * mean + threshold
    if region_ids is not None:
        loose = region_ids == unsegmented[:, None]
        same = (region_ids[:, :, None] == region_ids[:, None]) & ~loose[:, None]
        keep = same | ((loose[:, :, None] | loose[:, None]) & (similarity > beta * mean + threshold))
    if normaliser == "softmax":
        weight = (similarity * scale).masked_fill(~keep, -torch.inf).softmax(-1)
    else:
        weight = (similarity * scale).masked_fill(~keep, 0)
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-6)
    if empty == "self":
        alone = torch.eye(features.shape[1], device=features.device)
        weight = torch.where(keep.any(-1, keepdim=True), weight, alone)
    return (weight @ values.float()).to(values.dtype)


@register_function("self_self_attention", "reference")
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
    """SCLIP equation 6 and its relatives; ``terms`` holds the letters of the tensors that attend to themselves."""
    tensors = {"q": q.float(), "k": k.float(), "v": v.float()}
    logits = [tensors[t] @ tensors[t].mT * scale for t in terms]
    bias = neighbour_bias(grid, neighbour_std, q.shape[2], q.device) if neighbour_std > 0 else 0.0
    if combine == "softmax":
        weight = (sum(logits) + bias).softmax(-1)
    else:
        weight = sum((term + bias).softmax(-1) for term in logits)
    return (weight @ tensors["v"]).to(v.dtype)


def neighbour_bias(grid: Sequence[int], std: float, tokens: int, device: torch.device) -> Tensor:
    """NACLIP equation 5: [N, N] Gaussian of the distance between grid cells, 0 for the prefix tokens before them."""
    height, width = grid
    row = torch.arange(height, device=device)[:, None].expand(height, width).flatten()
    column = torch.arange(width, device=device).expand(height, width).flatten()
    squared = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
    prefix = tokens - height * width
    return F.pad(torch.exp(-squared / (2 * std**2)), (prefix, 0, prefix, 0))


def decomposed_logits(q: Tensor, k: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """SAM (MViTv2 equation 4): [B, heads, N, N] of scaled q.k plus q.rel_h[row, row'] plus q.rel_w[column, column']."""
    height, width = len(rel_h), len(rel_w)
    q, k = q.float(), k.float()
    cells = q.unflatten(2, (height, width))
    of_row = torch.einsum("bnhwc,hkc->bnhwk", cells, rel_h.float())
    of_column = torch.einsum("bnhwc,wkc->bnhwk", cells, rel_w.float())
    logits = (q * scale @ k.mT).unflatten(2, (height, width)).unflatten(4, (height, width))
    return (logits + of_row[..., None] + of_column[..., None, :]).flatten(4).flatten(2, 3)


@register_function("decomposed_attention", "reference")
def decomposed_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """SAM's attention with decomposed relative positions."""
    return (decomposed_logits(q, k, rel_h, rel_w, scale).softmax(-1) @ v.float()).to(v.dtype)


@register_function("guided_aggregation", "reference")
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
    """Trident section 3.3: SAM's attention, cut where the values' cosine is low, applied to ``tokens``."""
    attention = decomposed_logits(q[None], k[None], rel_h, rel_w, scale).softmax(-1)[0]
    cell = torch.arange(q.shape[1], device=q.device).view(len(rel_h), len(rel_w))[: valid[0], : valid[1]].flatten()
    unit = F.normalize(v.float()[:, cell], dim=-1)
    cosine = unit @ unit.mT
    limit = cos_factor * cosine.mean((0, 2))[:, None]
    if negative is not None:
        limit = torch.where(limit < 0, negative, limit)
    weight = attention[:, cell][:, :, cell].masked_fill(cosine <= limit.clamp(max=cap), 0).mean(0)
    return (weight / weight.sum(-1, keepdim=True) @ tokens.float()).to(tokens.dtype)
