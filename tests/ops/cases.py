"""Random calls of every operator, and what counts as agreeing with the definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ovseg import ops

FLOAT_TYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass
class Case:
    """One call: ``function(*args, **kwargs)`` and the check ``agree(result, expected)``."""

    function: Callable
    args: tuple
    kwargs: dict = field(default_factory=dict)
    agree: Callable[[object, object], None] = torch.testing.assert_close

    def run(self, backend: str | None, device: str = "cpu"):
        """The result, on the CPU, of the call with its tensors on ``device``."""
        call = tree_map_only(Tensor, lambda t: t.to(device), (self.args, self.kwargs))
        result = self.function(*call[0], **call[1], backend=backend)
        return tree_map_only(Tensor, lambda t: t.cpu(), result)


def close(atol: float, rtol: float = 1e-4) -> Callable:
    def check(result, expected):
        torch.testing.assert_close(result, expected, atol=atol, rtol=rtol)

    return check


def tolerance(dtype: torch.dtype, fp32: float = 1e-5) -> float:
    return fp32 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps


def seeded(draw) -> torch.Generator:
    return torch.Generator().manual_seed(draw(st.integers(0, 2**31)))


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def integers(generator: torch.Generator, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=generator)


@st.composite
def pamr_affinity(draw) -> Case:
    g, dtype = seeded(draw), draw(st.sampled_from(FLOAT_TYPES))
    image = normal(g, draw(st.integers(1, 2)), 3, draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    if draw(st.booleans()):  # flat areas, where the deviation is 0
        image = image.round()
    dilations = draw(st.lists(st.integers(1, 20), min_size=1, max_size=3))
    return Case(ops.pamr_affinity, (image.to(dtype), dilations), agree=close(2e-5))


@st.composite
def pamr_apply(draw) -> Case:
    g, dtype = seeded(draw), draw(st.sampled_from(FLOAT_TYPES))
    batch, queries = draw(st.integers(1, 2)), draw(st.sampled_from((1, 5, 16, 33)))
    height, width = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    dilations = draw(st.sampled_from(((8, 16), (1,), (2, 5, 9))))
    affinity = normal(g, batch, 8 * len(dilations), height, width).softmax(1)
    scores = normal(g, batch, queries, height, width).to(dtype)
    iterations = draw(st.integers(0, 4))
    return Case(ops.pamr_apply, (affinity, scores, iterations, dilations), agree=close(tolerance(dtype)))


def query_classes(draw, g: torch.Generator, queries: int) -> tuple[Tensor, int]:
    """Arbitrary assignment of queries to classes; classes may have several queries or none."""
    classes = draw(st.sampled_from((1, 2, queries, queries + 3)))
    return integers(g, 0, classes, queries), classes


def decision(draw, g: torch.Generator, query_to_class: Tensor, classes: int) -> dict:
    kwargs: dict = dict(logit_scale=draw(st.sampled_from((1.0, 8.0, 40.0))))
    if draw(st.booleans()):
        kwargs |= dict(threshold=draw(st.sampled_from((0.05, 0.3, 0.7))), background=draw(st.integers(0, classes)))
    if draw(st.booleans()):
        allowed = integers(g, 0, 2, classes).bool()
        allowed[query_to_class[0]] = True
        kwargs["allowed"] = allowed
    return kwargs


def score_maps(draw, g: torch.Generator, queries: int, height: int, width: int) -> Tensor:
    kind = draw(st.sampled_from(("smooth", "rough", "constant", "ties")))
    scores = normal(g, queries, height, width) * 0.05 + 0.2
    if kind == "smooth":
        scores = F.avg_pool2d(scores[None], 3, 1, 1, count_include_pad=False)[0]
    elif kind == "constant":
        scores = scores[:, :1, :1].expand(-1, height, width)
    elif kind == "ties":  # duplicated queries
        scores = scores[integers(g, 0, max(1, queries // 2), queries)]
    return scores


def labels_agree(case_maps: Tensor, query_to_class: Tensor, kwargs: dict) -> Callable:
    """Equal labels wherever rounding cannot decide; ``case_maps`` are the full-size maps in float64."""
    scale, threshold = kwargs.get("logit_scale", 1.0), kwargs.get("threshold", 0.0)
    barred = ~kwargs["allowed"][query_to_class] if "allowed" in kwargs else torch.zeros(len(case_maps)).bool()
    best = case_maps.masked_fill(barred[:, None, None], -torch.inf).amax(0)
    near = (best - case_maps < 1e-6) & ~barred[:, None, None]
    classes = query_to_class[:, None, None].expand_as(near)
    lowest = classes.masked_fill(~near, 1 << 30).amin(0)
    highest = classes.masked_fill(~near, -1).amax(0)
    probability = (best * scale - (case_maps * scale).logsumexp(0)).exp()
    sure = (lowest == highest) & ((probability - threshold).abs() > 1e-5)

    def check(result: Tensor, expected: Tensor) -> None:
        assert result.dtype == expected.dtype
        assert torch.equal(result[sure], expected[sure])

    return check


@st.composite
def upsample_argmax(draw) -> Case:
    g, dtype = seeded(draw), draw(st.sampled_from(FLOAT_TYPES))
    queries = draw(st.sampled_from((1, 2, 7, 21, 60)))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    scores = score_maps(draw, g, queries, height, width).to(dtype)
    size = (draw(st.integers(1, 70)), draw(st.integers(1, 70)))
    query_to_class, classes = query_classes(draw, g, queries)
    kwargs = decision(draw, g, query_to_class, classes)
    maps = F.interpolate(scores.double()[None], size=size, mode="bilinear")[0]
    agree = labels_agree(maps, query_to_class, kwargs)
    return Case(ops.upsample_argmax, (scores, size, query_to_class, classes), kwargs, agree)


def stitched_axis(draw, g: torch.Generator, pixels: int) -> Tensor:
    """Overlapping windows of random starts on one axis: upsample each, average, resize to ``pixels``."""
    window, cells = draw(st.integers(3, 40)), draw(st.integers(1, 4))
    count = draw(st.integers(1, 4))
    length = window + (count - 1) * draw(st.integers(1, window))
    starts = torch.linspace(0, length - window, count).long().tolist()
    matrix = torch.zeros(length, count * cells)
    for i, start in enumerate(starts):
        matrix[start : start + window, i * cells : (i + 1) * cells] = ops.bilinear_matrix(cells, window)
    matrix = matrix / matrix.sum(1, keepdim=True)
    return ops.bilinear_matrix(length, pixels) @ matrix


@st.composite
def separable(draw, topk: bool) -> Case:
    g, dtype = seeded(draw), draw(st.sampled_from(FLOAT_TYPES))
    queries = draw(st.sampled_from((1, 2, 7, 21)))
    rows, columns = (stitched_axis(draw, g, draw(st.integers(1, 60))) for _ in range(2))
    scores = score_maps(draw, g, queries, rows.shape[1], columns.shape[1]).to(dtype)
    query_to_class, classes = query_classes(draw, g, queries)
    maps = torch.einsum("yi,qij,xj->qyx", rows.double(), scores.double(), columns.double())
    args = (scores, rows, columns, query_to_class, classes)
    if topk:
        k = draw(st.integers(1, classes))
        return Case(ops.separable_topk, (*args, 40.0, k), agree=lambda r, e: close(1e-4)(r[1], e[1]))
    kwargs = decision(draw, g, query_to_class, classes)
    return Case(ops.separable_argmax, args, kwargs, labels_agree(maps, query_to_class, kwargs))


@st.composite
def region_vote(draw) -> Case:
    g = seeded(draw)
    shape, classes = (draw(st.integers(1, 30)), draw(st.integers(1, 30))), draw(st.sampled_from((1, 3, 847)))
    ids = draw(st.sampled_from(((0, 1), (0, 7), (-3, 40), (0, 2**31 - 1))))
    dtype = draw(st.sampled_from((torch.int32, torch.int64)))
    regions, labels = integers(g, *ids, *shape).to(dtype), integers(g, 0, classes, *shape).to(dtype)
    skip = draw(st.sampled_from(((), (0,), (int(regions.min()), 5))))
    return Case(ops.region_vote, (labels, regions, classes, skip))


@st.composite
def region_pool(draw) -> Case:
    g, dtype = seeded(draw), draw(st.sampled_from(FLOAT_TYPES))
    height, width, d = draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(st.integers(1, 20))
    regions = integers(g, -5, draw(st.sampled_from((-4, 3, 10000))), height, width).int()
    features = normal(g, d, height, width).to(dtype)
    args = (features, regions) if draw(st.booleans()) else (features.flatten(1).t(), regions.flatten())
    return Case(ops.region_pool, args)


@st.composite
def confusion_matrix(draw) -> Case:
    g, classes = seeded(draw), draw(st.sampled_from((1, 4, 300)))
    ignore = draw(st.sampled_from((255, -1)))
    shape = (draw(st.integers(0, 20)), draw(st.integers(1, 20)))
    target = integers(g, 0, classes, *shape)
    target[integers(g, 0, 3, *shape) == 0] = ignore
    return Case(ops.confusion_matrix, (integers(g, 0, classes, *shape).int(), target, classes, ignore))


def unit_features(draw, g: torch.Generator, batch: int, count: int, d: int) -> Tensor:
    """Unit vectors around a common mean, so that limits at multiples of the mean similarity cut somewhere."""
    features = normal(g, batch, count, d) + draw(st.sampled_from((0.0, 0.5, 2.0))) * normal(g, d)
    return F.normalize(features, dim=-1)


@st.composite
def correlation_attention(draw) -> Case:
    g, dtype = seeded(draw), draw(st.sampled_from(FLOAT_TYPES))
    batch, d, dv = draw(st.integers(1, 2)), draw(st.sampled_from((1, 5, 32))), draw(st.integers(1, 9))
    count = draw(st.sampled_from((1, 2, 17, 100, 700)))
    features = unit_features(draw, g, batch, count, d).to(dtype)
    kwargs = dict(
        scale=draw(st.sampled_from((1.0, 4.0, 100.0))),
        beta=draw(st.sampled_from((0.0, 1.0, 1.2))),
        threshold=draw(st.sampled_from((-1.0, 0.0, 0.2))),
        mean_scope=draw(st.sampled_from(("sample", "batch"))),
        normaliser=draw(st.sampled_from(("softmax", "sum"))),
        empty=draw(st.sampled_from(("self", "nan"))),
    )
    if draw(st.booleans()):
        kwargs["region_ids"] = integers(g, -2, draw(st.sampled_from((-1, 4, 10000))), batch, count)
        if draw(st.booleans()):
            kwargs["unsegmented"] = kwargs["region_ids"][:, 0]
    if kwargs["normaliser"] == "sum":  # weights of both signs would make the sum arbitrarily small
        kwargs["threshold"] = max(0.0, kwargs["threshold"])
        kwargs.pop("region_ids", None)
        kwargs.pop("unsegmented", None)
    values = normal(g, batch, count, dv).to(draw(st.sampled_from((dtype, torch.bfloat16))))
    dtype = max(dtype, values.dtype, key=lambda t: torch.finfo(t).eps)  # the coarser one
    args = (features, values)
    return Case(ops.correlation_attention, args, kwargs, correlation_agrees(features, kwargs, dtype))


def correlation_agrees(features: Tensor, kwargs: dict, dtype: torch.dtype) -> Callable:
    """Close in every row that has no similarity so near to the limit that rounding decides whether it is kept."""
    similarity = features.double() @ features.double().mT
    mean = similarity.mean((1, 2), keepdim=True) if kwargs["mean_scope"] == "sample" else similarity.mean()
    distance = (similarity - kwargs["beta"] * mean - kwargs["threshold"]).abs()
    sure = distance.amin(-1) > tolerance(dtype, 1e-5)
    limit = 1e-4 if dtype == torch.float32 else 20 * torch.finfo(dtype).eps * max(1.0, kwargs["scale"] / 4)

    def check(result: Tensor, expected: Tensor) -> None:
        assert result.dtype == expected.dtype
        torch.testing.assert_close(result[sure], expected[sure], atol=limit, rtol=limit, equal_nan=True)

    return check


def heads(draw, g: torch.Generator, count: int, names: int = 3) -> list[Tensor]:
    batch, head, width = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.sampled_from((4, 16, 20)))
    return [normal(g, batch, head, count, width) for _ in range(names)]


@st.composite
def self_self_attention(draw) -> Case:
    g, dtype = seeded(draw), draw(st.sampled_from(FLOAT_TYPES))
    grid = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    tensors = heads(draw, g, grid[0] * grid[1] + draw(st.integers(0, 5)))
    kwargs = dict(
        terms=draw(st.sampled_from((("qq",), ("kk",), ("qq", "kk"), ("qq", "kk", "vv")))),
        combine=draw(st.sampled_from(("sum", "softmax"))),
        neighbour_std=draw(st.sampled_from((0.0, 0.7, 5.0))),
        scale=draw(st.sampled_from((None, 0.3))),
        grid=grid,
    )
    args = tuple(t.to(dtype) for t in tensors)
    return Case(ops.self_self_attention, args, kwargs, close(10 * tolerance(dtype), 10 * tolerance(dtype)))


@st.composite
def decomposed_attention(draw) -> Case:
    g, dtype = seeded(draw), draw(st.sampled_from(FLOAT_TYPES))
    height, width = draw(st.integers(1, 15)), draw(st.integers(1, 15))
    q, k, v = (t.to(dtype) for t in heads(draw, g, height * width))
    tables = [ops.relative_positions(normal(g, 2 * n - 1, q.shape[-1]) * 0.3, n).to(dtype) for n in (height, width)]
    limit = 10 * tolerance(dtype)
    return Case(ops.decomposed_attention, (q, k, v, *tables), agree=close(limit, limit))


@st.composite
def guided_aggregation(draw) -> Case:
    g, dtype = seeded(draw), draw(st.sampled_from(FLOAT_TYPES))
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    q, k, v = (t[0].to(dtype) for t in heads(draw, g, height * width))
    v = v + draw(st.sampled_from((0.0, 1.0, -0.5)))
    tables = [ops.relative_positions(normal(g, 2 * n - 1, q.shape[-1]) * 0.3, n).to(dtype) for n in (height, width)]
    valid = draw(st.integers(1, height)), draw(st.integers(1, width))
    tokens = normal(g, valid[0] * valid[1], draw(st.integers(1, 9))).to(dtype)
    kwargs = dict(
        valid=valid, cos_factor=draw(st.sampled_from((0.0, 1.2, 3.0))), keep_negative=draw(st.booleans()), scale=0.2
    )
    cell = torch.arange(height * width).view(height, width)[: valid[0], : valid[1]].flatten()
    unit = F.normalize(v[:, cell].double(), dim=-1)
    cosine = unit @ unit.mT
    limit = kwargs["cos_factor"] * cosine.mean((0, 2))
    # Rows where rounding decides: a cosine at the limit, or a limit at 0, where its sign matters.
    sure = (cosine - limit[:, None]).abs().amin((0, 2)) > 1e-5
    sure &= (limit.abs() > 1e-5) | kwargs["keep_negative"]
    sure &= (cosine - 0.6).abs().amin((0, 2)) > 1e-5

    def agree(result: Tensor, expected: Tensor) -> None:
        assert result.dtype == expected.dtype
        torch.testing.assert_close(result[sure], expected[sure], atol=10 * tolerance(dtype), rtol=10 * tolerance(dtype))

    return Case(ops.guided_aggregation, (q, k, v, *tables, tokens), kwargs, agree)


CASES = {
    "correlation_attention": correlation_attention(),
    "self_self_attention": self_self_attention(),
    "decomposed_attention": decomposed_attention(),
    "guided_aggregation": guided_aggregation(),
    "pamr_affinity": pamr_affinity(),
    "pamr_apply": pamr_apply(),
    "upsample_argmax": upsample_argmax(),
    "separable_argmax": separable(topk=False),
    "separable_topk": separable(topk=True),
    "region_vote": region_vote(),
    "region_pool": region_pool(),
    "confusion_matrix": confusion_matrix(),
}
