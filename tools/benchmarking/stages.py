"""Where the time of a method goes: its components' boundaries are traced for the measurement and released after.

No model holds timing code. The tracer puts a wrapper around methods of the *instances* that make up a segmentor and
takes it off again; what a stage spends inside another one is counted there only.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from ovseg.evaluation import SegMetric
from ovseg.segmentors import OpenVocabSegmentor
from tools.benchmarking.clock import Clock, PeakMemory
from tools.benchmarking.methods import Job
from tools.benchmarking.straightforward import Straightforward

STAGES = ("load", "windows", "CLIP", "guide", "SAM", "attention", "stitch", "refine", "argmax", "metric", "rest")
"""``CLIP`` is all blocks but the last, the projection and the cosines; ``attention`` the last block in the method's
own way; ``SAM`` the photo encoder or the source of regions; ``rest`` what lies between."""


STITCHING = (
    "slide",
    "window",
    "resized",
    "support",
    "upsampled",
    "splice",
    "aggregate",
    "aggregated",
    "solve",
    "graph",
)
"""Steps of straightforward forms between a window's features and maps of the photo."""


@dataclass
class StageFigures:
    """Figures per stage of one run.

    Attributes:
        seconds: time spent in the stage itself.
        flops: multiplications and additions of matrix products, attention and convolutions.
        memory: most memory in use during the stage, in bytes beyond the start of the run.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


@dataclass
class MethodFigures(StageFigures):
    """Medians over the repeats of a method, and what they were measured with.

    Attributes:
        name: method and benchmark.
        precision: of the encoders.
        weights: ``'standin'`` or ``'real'``.
        size: ``(H, W)`` of the photo.
        roofline: FLOP/s of a large matrix product of this precision in the same run.
        repeats: timed runs.
        clock: ``'wall'`` or ``'cpu'``.
    """

    name: str = ""
    precision: str = "fp32"
    weights: str = "standin"
    size: tuple[int, int] = (0, 0)
    roofline: float = 0.0
    repeats: int = 0
    clock: str = "wall"

    @property
    def peak(self) -> int:
        """Most memory of any stage, in bytes."""
        return max(self.memory.values(), default=0)

    def roofline_share(self, stage: str | None = None) -> float:
        """FLOP/s reached in a stage (``None``: in all) as a share of the roofline."""
        flops = sum(self.flops.values()) if stage is None else self.flops.get(stage, 0)
        seconds = self.total if stage is None else self.seconds[stage]
        return flops / seconds / self.roofline if seconds and self.roofline else 0.0


class Tracer:
    """Attributes time, memory and FLOPs to the innermost stage that is running.

    Args:
        clock: what time is.
        memory: also note peaks; costs some 0.1 ms per boundary.
        flops: also count FLOPs; slows the run down, so that its times mean nothing.
    """

    def __init__(self, clock: Clock, memory: PeakMemory | None = None, flops: bool = False) -> None:
        self.clock, self.memory = clock, memory
        self.counter = FlopCounterMode(display=False, custom_mapping=flop_formulas()) if flops else None
        self._stack: list[str] = []
        self._spans: list[tuple[str, Any, Any]] = []
        self._since: Any = None
        self._flops: dict[str, int] = defaultdict(int)
        self._peaks: dict[str, int] = defaultdict(int)
        self._counted = self._start_memory = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside belongs to stage ``name``."""
        self._mark()
        self._stack.append(name)
        try:
            yield
        finally:
            self._mark()
            self._stack.pop()

    def _mark(self) -> None:
        """A boundary: what happened since the last one goes to the stage on top of the stack."""
        now = self.clock.now()
        if self._stack:
            top = self._stack[-1]
            self._spans.append((top, self._since, now))
            if self.counter is not None:
                total = self.counter.get_total_flops()
                self._flops[top] += total - self._counted
                self._counted = total
            if self.memory is not None:
                self._peaks[top] = max(self._peaks[top], self.memory.peak() - self._start_memory)
        if self.memory is not None:
            self.memory.reset()
            now = self.clock.now()  # reading memory is not part of any stage
        self._since = now

    def run(self, function: Callable[[], Any]) -> StageFigures:
        """Figures of one call; what no stage claims is ``rest``."""
        if self.memory is not None:
            self.memory.trim()
            self._start_memory = self.memory.current()
        if self.counter is not None:
            with self.counter, self.stage("rest"):
                function()
        else:
            with self.stage("rest"):
                function()
        self.clock.finish()
        seconds: dict[str, float] = defaultdict(float)
        for name, start, end in self._spans:
            seconds[name] += self.clock.between(start, end)
        return StageFigures(dict(seconds), dict(self._flops), dict(self._peaks))

    @contextmanager
    def attached(self, model: OpenVocabSegmentor | Straightforward) -> Iterator[None]:
        """The model's components report to this tracer inside the ``with`` block."""
        known = steps_of(model) if isinstance(model, Straightforward) else boundaries(model)
        points = [(owner, name, stage) for owner, name, stage in known if hasattr(owner, name)]
        undo = [self._wrap(*point) for point in points]
        try:
            yield
        finally:
            for restore in reversed(undo):
                restore()

    def _wrap(self, owner: Any, name: str, stage: str) -> Callable[[], None]:
        """Put a wrapper on ``owner.name``; returns what takes it off."""
        original, had_own = getattr(owner, name), name in vars(owner)

        @wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return original(*args, **kwargs)

        setattr(owner, name, wrapper)
        return lambda: setattr(owner, name, original) if had_own else delattr(owner, name)


def measure_stages(
    job: Job, precision: str, weights: str, repeats: int, clock: Clock, roofline: float, device: str = "cpu"
) -> MethodFigures:
    """Everything about one job: a run that counts FLOPs, one that watches memory, and timed ones.

    Args:
        job: what runs.
        precision, weights, roofline: noted with the figures.
        repeats: timed runs, of which the medians are taken.
        clock: what time is.
        device: whose memory is watched.
    """
    metric = SegMetric()
    metric.dataset_meta = dict(classes=job.model.vocabulary.names, ignore_index=255)

    def once(tracer: Tracer) -> StageFigures:
        def photo_to_metric() -> None:
            with tracer.stage("load"):
                job.load()
            labels = job.predict()
            with tracer.stage("metric"):
                sample = dict(pred_sem_seg=dict(data=labels[None]), gt_sem_seg=dict(data=labels[None]))
                metric.process(None, [sample])

        with tracer.attached(job.model):
            return tracer.run(photo_to_metric)

    flops = once(Tracer(clock, flops=True)).flops  # the first run also warms everything up
    memory = once(Tracer(clock, memory=PeakMemory(device))).memory
    runs = [once(Tracer(clock)).seconds for _ in range(repeats)]
    seconds = {s: statistics.median(run.get(s, 0.0) for run in runs) for s in STAGES if any(s in run for run in runs)}
    kind = "cuda events" if clock.cuda else clock.kind
    return MethodFigures(seconds, flops, memory, job.name, precision, weights, job.size, roofline, repeats, kind)


def boundaries(model: OpenVocabSegmentor) -> list[tuple[Any, str, str]]:
    """``(owner, method, stage)`` of a segmentor's components, as far as it has them.

    Special methods are looked up on the class, so their owner is the class of the component.
    """
    comparison = (model, "classify")  # of older trees, which are compared with this one
    if hasattr(model, "queries"):
        kind = type(model.queries)
        comparison = (kind, "products" if hasattr(kind, "products") else "cosines")
    points: list[tuple[Any, str, str]] = [
        (model, "prepare", "windows"),
        (model.windows, "cut", "windows"),
        (model.windows, "cut_ids", "windows"),
        (model.backbone, "forward", "CLIP"),
        (model.backbone, "project", "CLIP"),
        (*comparison, "CLIP"),
        (model.attention, "forward", "attention"),
        (model.attention, "again", "attention"),
        *((model.stitch, name, "stitch") for name in ("encode", "gather", "score", "merge")),
        *((getattr(model.stitch, "upsampler", None), name, "stitch") for name in ("kernels", "upsample", "lengths")),
        (model, "refine", "refine"),
        (type(model.head), "__call__", "argmax"),
    ]
    points += [(model.guide, name, "guide") for name in ("dense", "cut", "region_means")]
    points += [
        (part, "forward", stage) for part, stage in ((model.guide, "guide"), (model.photo_encoder, "SAM")) if part
    ]
    if model.regions is not None:
        points.append((type(model.regions), "__call__", "SAM"))
    points += [(refiner, name, "refine") for refiner in model.refiners for name in ("prepare", "apply")]
    points += [(kind, "__call__", "refine") for kind in {type(refiner) for refiner in model.label_refiners}]
    return [point for point in points if hasattr(point[0], point[1])]


def steps_of(form: Straightforward) -> list[tuple[Any, str, str]]:
    """``(owner, method, stage)`` of a straightforward form, in the stages of :func:`boundaries`."""
    stages = {
        **dict.fromkeys(("encode", "hidden", "encode_copies", "project"), "CLIP"),
        **dict.fromkeys(("guide", "whole_guide"), "guide"),
        "encode_photo": "SAM",
        **dict.fromkeys(("features", "attended", "features_of_photo"), "attention"),
        **dict.fromkeys(STITCHING, "stitch"),
        "refine": "refine",
        **dict.fromkeys(("classes", "decide", "cut"), "argmax"),
    }
    return [(form, name, stage) for name, stage in stages.items()]


def flop_formulas() -> dict[Any, Callable[..., int]]:
    """FLOPs of operators that torch's counter cannot look into, from the shapes of their arguments."""
    ovseg = torch.ops.ovseg

    def correlation(features, values, *_, **__) -> int:
        batch, count, width = features
        return 2 * batch * count * count * (width + values[-1])

    def self_self(q, k, v, terms, *_, **__) -> int:
        batch, heads, count, width = q
        return 2 * batch * heads * count * count * width * (len(terms) + 1)

    def decomposed(q, k, v, *_, **__) -> int:
        batch, heads, count, width = q
        return 4 * batch * heads * count * count * width

    def aggregation(q, k, v, rel_h, rel_w, scale, valid, tokens, *_, **__) -> int:
        heads, count, width = q
        cells = tokens[0]
        return 2 * heads * (count + cells) * cells * width + 2 * cells * cells * tokens[1]

    def packed_linear(x, *_, out_shape=None, **__) -> int:
        return 2 * math.prod(x) * out_shape[-1]

    formulas = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _sdpa,
        ovseg.correlation_attention: correlation,
        ovseg.self_self_attention: self_self,
        ovseg.decomposed_attention: decomposed,
        ovseg.guided_aggregation: aggregation,
    }
    for library, name in ((torch.ops.mkldnn, "_linear_pointwise"), (torch.ops.onednn, "qlinear_pointwise")):
        if hasattr(library, name):
            formulas[getattr(library, name)] = packed_linear
    return formulas


def _sdpa(query, key, value, *_, out_shape=None, **__) -> int:
    return sdpa_flop(query, key, value)
