"""Upsample + argmax without the [Q, H, W] maps: exact pruning of queries, then dense work on the few that are left.

The full-size map of a query is ``rows @ scores[q] @ columns.T`` with non-negative weights that sum to one, so over a
block of pixels it stays between the smallest and the largest of the scores which that block touches. A query whose
largest value lies below another's smallest wins nowhere in the block. The queries that are left are two small matrix
products and a running maximum; blocks and the maps of their queries stay in the cache. Pixels whose two best queries
are closer than float32's rounding are decided again in float64.

A threshold needs the softmax denominator of *all* queries. log-sum-exp is convex, so the interpolated log-sum-exp of
the scores bounds it from above: blocks in which every winner passes with that bound are done, others sum all queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.ops.dispatch import register_function

# Rows and columns of pixels. Small blocks keep fewer queries, large ones cost fewer calls; with many queries the first
# matters more, on a GPU the second.
BLOCK = {"few": (64, 128), "many": (32, 64), "gpu": (512, 2048)}
MANY_QUERIES = 128
WORKSPACE = {"few": 1 << 18, "many": 1 << 18, "gpu": 1 << 26}  # floats of query maps at a time; on CPU the L2 cache
# What rounding may change, relative to the largest score: pruning leaves it as a margin.
MARGIN = 1e-5
# Queries at one pixel that are closer than this, relative to the largest score, may be in the wrong order in float32
# (weights of a few cells per axis: below 1e-6) and in float64.
TIE, EXACT_TIE = 2e-6, 4e-15


@dataclass
class Strip:
    """A run of pixels on one axis: where it lies, the cells it touches, their weights [pixels, cells]."""

    pixels: slice
    cells: Tensor
    weight: Tensor

    @classmethod
    def cut(cls, matrix: Tensor, length: int) -> list[Strip]:
        """Cut an interpolation matrix [pixels, cells] into strips of at most ``length`` pixels, about equal."""
        count = -(-len(matrix) // length)
        size = -(-len(matrix) // count)
        strips = []
        for start in range(0, len(matrix), size):
            part = matrix[start : start + size].float()
            cells = (part != 0).any(0).nonzero().flatten()
            strips.append(cls(slice(start, start + len(part)), cells, part[:, cells].contiguous()))
        return strips


@dataclass
class Problem:
    """What is decided: scores [Q, gy, gx] sorted by class, and the rule."""

    scores: Tensor
    classes: Tensor  # int64 [Q], ascending
    barred: Tensor  # bool [Q]: queries that cannot win
    logit_scale: float
    threshold: float

    def __post_init__(self) -> None:
        largest = float(self.scores.abs().max())
        if not math.isfinite(largest):
            raise ValueError("scores: holds NaN or infinite values; check the features that it was computed from")
        self.margin, self.tie, self.exact_tie = MARGIN * largest, TIE * largest, EXACT_TIE * largest
        kind = "gpu" if self.scores.is_cuda else "many" if len(self.scores) > MANY_QUERIES else "few"
        self.block = BLOCK[kind]
        self.chunk = max(1, WORKSPACE[kind] // (self.block[0] * self.block[1]))
        self.codes = (self.classes[-1] + 1 - self.classes).float()  # positive, larger for lower classes
        self.normaliser = (self.scores * self.logit_scale).logsumexp(0) if self.threshold > 0 else None  # [gy, gx]


def _maps(scores: Tensor, queries: Tensor, row: Strip, column: Strip) -> Tensor:
    """Scores [Q, gy, gx] -> the maps [rows, K, columns] of K of the queries in one block of pixels."""
    touched = scores[queries[:, None], row.cells[:, None, None], column.cells]  # [Ly, K, Lx]
    lines = row.weight @ touched.flatten(1)
    maps = lines.view(-1, touched.shape[2]) @ column.weight.T
    return maps.view(len(row.weight), len(queries), len(column.weight))


def _survivors(problem: Problem, row: Strip, columns: list[Strip]) -> Iterator[Tensor]:
    """For each block of a strip of rows: the queries, ascending, that may win somewhere in it."""
    touched = problem.scores.index_select(1, row.cells)
    highest, lowest = touched.amax(1), touched.amin(1)
    highest[problem.barred] = lowest[problem.barred] = -torch.inf
    for column in columns:
        bar = lowest.index_select(1, column.cells).amin(1).max() - problem.margin
        yield (highest.index_select(1, column.cells).amax(1) >= bar).nonzero().flatten()


def _bar_repeats(scores: Tensor, barred: Tensor) -> Tensor:
    """Bar queries whose scores an earlier one, hence of the same or a lower class, has too.

    Equal numbers in different columns of a matrix product may be rounded differently; ties must not depend on it.
    """
    barred = barred.clone()
    seen: dict[float, list[int]] = {}
    for query, (total, out) in enumerate(zip(scores.sum((1, 2)).tolist(), barred.tolist(), strict=True)):
        if not out:
            alike = seen.setdefault(total, [])
            if any(torch.equal(scores[query], scores[other]) for other in alike):
                barred[query] = True
            else:
                alike.append(query)
    return barred


def _winners(problem: Problem, queries: Tensor, row: Strip, column: Strip) -> tuple[Tensor, Tensor, Tensor]:
    """At every pixel of a block: the best value among some queries, its class, and how many queries are as good.

    Where more than one is, the class is still to be decided (:func:`_decide_ties`). No boolean masks: torch's vector
    kernels for them are several times slower than those for floats.
    """
    best = labels = count = None
    for part in queries.split(problem.chunk):
        maps = _maps(problem.scores, part, row, column)
        top = maps.amax(1)
        near = maps.ge_((top - problem.tie)[:, None])  # 1 for the best and what is as good
        alike = near.sum(1)
        code = near.mul_(problem.codes[part, None]).amax(1)
        if best is None or labels is None or count is None:
            best, labels, count = top, code, alike
        else:
            labels = torch.where(top > best, code, labels)
            count = torch.where(top > best, alike, count).masked_fill_((top - best).abs_() <= problem.tie, 2)
            best = torch.maximum(best, top)
    return best, problem.classes[-1] + 1 - labels, count


def _touched(matrix: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The cells [P, m] which some pixels [P] of an interpolation matrix touch, and their float64 weights [P, m]."""
    weights = matrix.index_select(0, pixels)
    cells = (weights != 0).byte().topk(int((weights != 0).sum(1).max()), 1).indices
    return cells, weights.gather(1, cells).double()


def _decide_ties(problem: Problem, rows: Tensor, columns: Tensor, pixels: Tensor, out: Tensor) -> None:
    """Write the labels of some pixels [P, 2] from maps in float64; on equality the lowest class."""
    (y_cells, y_weights), (x_cells, x_weights) = _touched(rows, pixels[:, 0]), _touched(columns, pixels[:, 1])
    queries = (~problem.barred).nonzero().flatten()
    scores, codes = problem.scores[queries], problem.codes[queries, None].double()
    size = max(1, WORKSPACE["few"] // (len(queries) * y_cells.shape[1] * x_cells.shape[1]))
    for part in torch.arange(len(pixels), device=pixels.device).split(size):
        touched = scores[:, y_cells[part, :, None], x_cells[part, None]].double()  # [K, P, my, mx]
        maps = torch.einsum("kpyx,py,px->kp", touched, y_weights[part], x_weights[part])
        label = problem.classes[-1] + 1 - ((maps >= maps.amax(0) - problem.exact_tie) * codes).amax(0)
        out[pixels[part, 0], pixels[part, 1]] = label.to(out.dtype)


def _log_sum_exp(problem: Problem, row: Strip, column: Strip) -> Tensor:
    """Of the logits of all queries at every pixel of a block."""
    total = None
    for part in torch.arange(len(problem.scores), device=row.cells.device).split(problem.chunk):
        maps = _maps(problem.scores, part, row, column)
        top = maps.amax(1)
        sums = maps.sub_(top[:, None]).mul_(problem.logit_scale).exp_().sum(1)
        part_total = sums.log_().add_(top, alpha=problem.logit_scale)
        total = part_total if total is None else torch.logaddexp(total, part_total)
    return total


def _below_threshold(problem: Problem, best: Tensor, row: Strip, column: Strip) -> Tensor | None:
    """bool: the winner's softmax probability over all queries is below the threshold; None: nowhere."""
    logit = best * problem.logit_scale
    bound = row.weight @ problem.normaliser[row.cells[:, None], column.cells] @ column.weight.T
    if float((logit - bound).min()) >= math.log(problem.threshold) + 1e-3:
        return None
    return (logit - _log_sum_exp(problem, row, column)).exp_() < problem.threshold


@register_function("separable_argmax", "torch")
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
    classes, order = query_to_class.sort(stable=True)
    if not torch.equal(classes, query_to_class):
        scores = scores[order]
    scores = scores.float()
    barred = torch.zeros_like(classes, dtype=torch.bool) if allowed is None else ~allowed[classes]
    problem = Problem(scores, classes, _bar_repeats(scores, barred), logit_scale, threshold)
    out = torch.empty(len(rows), len(columns), dtype=torch.int32, device=scores.device)
    ties: list[Tensor] = []
    column_strips = Strip.cut(columns, problem.block[1])
    for row in Strip.cut(rows, problem.block[0]):
        for column, queries in zip(column_strips, _survivors(problem, row, column_strips), strict=True):
            block = out[row.pixels, column.pixels]
            if len(queries) == 1 and threshold == 0:
                block.copy_(classes[queries])
                continue
            best, labels, count = _winners(problem, queries, row, column)
            block.copy_(labels)
            if threshold > 0 and (below := _below_threshold(problem, best, row, column)) is not None:
                block.masked_fill_(below, background)
                count.masked_fill_(below, 1)
            if float(count.amax()) > 1:
                ties.append(
                    (count > 1).nonzero() + torch.tensor([row.pixels.start, column.pixels.start], device=out.device)
                )
    if ties:
        _decide_ties(problem, rows.float(), columns.float(), torch.cat(ties), out)
    return out


@register_function("upsample_argmax", "torch")
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
    rows = bilinear_matrix(scores.shape[1], height).to(scores.device)
    columns = bilinear_matrix(scores.shape[2], width).to(scores.device)
    return separable_argmax(
        scores, rows, columns, query_to_class, num_classes, logit_scale, threshold, background, allowed
    )


@register_function("separable_topk", "torch")
def separable_topk(
    scores: Tensor,
    rows: Tensor,
    columns: Tensor,
    query_to_class: Tensor,
    num_classes: int,
    logit_scale: float,
    k: int,
) -> tuple[Tensor, Tensor]:
    """Probabilities need every query at every pixel: nothing to prune, but a block of pixels at a time."""
    scores = scores.float() * logit_scale
    queries = torch.arange(len(scores), device=scores.device)
    single = torch.equal(query_to_class, torch.arange(num_classes, device=scores.device))
    labels = torch.empty(k, len(rows), len(columns), dtype=torch.int32, device=scores.device)
    best = torch.empty(labels.shape, device=scores.device)
    kind = "gpu" if scores.is_cuda else "few"
    column_strips = Strip.cut(columns, BLOCK[kind][1])
    for row in Strip.cut(rows, max(1, WORKSPACE[kind] // (len(scores) * BLOCK[kind][1]))):
        for column in column_strips:
            probability = _maps(scores, queries, row, column).softmax(1)
            if not single:
                merged = probability.new_zeros(len(probability), num_classes, probability.shape[2])
                for query, label in enumerate(query_to_class.tolist()):
                    torch.maximum(merged[:, label], probability[:, query], out=merged[:, label])
                probability = merged
            value, label = probability.topk(k, 1)
            best[:, row.pixels, column.pixels] = value.transpose(0, 1)
            labels[:, row.pixels, column.pixels] = label.transpose(0, 1)
    return labels, best


@lru_cache(maxsize=256)
def bilinear_matrix(cells: int, pixels: int, align_corners: bool = False) -> Tensor:
    """Bilinear interpolation along one axis as a matrix: float32 [pixels, cells], on the CPU.

    It is torch's own interpolation of unit vectors, so that weights are torch's to the bit. Cached: do not write to it.
    """
    with torch.inference_mode(False):  # kept for callers inside and outside of it
        unit = torch.eye(cells, dtype=torch.float32, device="cpu")[None]
        return F.interpolate(unit, size=pixels, mode="linear", align_corners=align_corners)[0].T.contiguous()
