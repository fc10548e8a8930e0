"""The speed table: every method in every precision, beside its straightforward form, and what the precision costs.

Bars are shares of this machine's own best rate, so that they mean the same on every CPU: the work of a method (FLOPs of
its fp32 run) over its time, over the speed of one large matrix product in the fastest of fp32 and bf16.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from torch import Tensor

from ovseg.backbones.int8 import int8_reasons
from ovseg.backbones.precision import set_precision
from ovseg.cli.nano import evaluation_config
from ovseg.engine.runner import set_short_side
from ovseg.evaluation.confusion import confusion_update, summarise
from ovseg.registry import DATASETS, MODELS
from ovseg.segmentors import OpenVocabSegmentor
from tools.benchmarking.clock import Clock, PeakMemory, interleaved, matmul_roofline, median_ratio
from tools.benchmarking.frontier import Lposs, ResClip, ScClip, SegEarth
from tools.benchmarking.methods import Job, build_job
from tools.benchmarking.own_words import DinoTxt, RadSeg, Talk2Dino, Vip
from tools.benchmarking.stages import Tracer
from tools.benchmarking.straightforward import STRAIGHTFORWARD, Straightforward
from tools.benchmarking.whole_photo import CorrClipV2, ProxyClipOfPhoto, SclipOfPhoto

FORMS: dict[str, type[Straightforward]] = {
    **STRAIGHTFORWARD,
    "scclip": ScClip,
    "sfp": ScClip,
    "lposs": Lposs,
    "resclip": ResClip,
    "resclip-sclip": ResClip,
    "corrclipv2": CorrClipV2,
    "corrclipv2-bank": CorrClipV2,
    "dinotxt": DinoTxt,
    "vip": Vip,
    "talk2dino": Talk2Dino,
    "radseg": RadSeg,
    "segearth": SegEarth,
    "sclip-photo": SclipOfPhoto,
    "proxyclip-photo": ProxyClipOfPhoto,
}
"""Methods with a straightforward form; those with ``-bank`` and ``-photo`` are variants that
:data:`tools.benchmarking.methods.VARIANTS` makes."""
TARGETS = {"trident": 0.6}
"""Share of the best rate that a method should reach in its fastest precision, where that is not :data:`TARGET`."""
TARGET = 0.85
LONG = 20.0
"""A side whose first run takes more seconds is not run again: its one run counts, and its row says so."""
SHOWN = ("windows", "CLIP", "guide", "SAM", "attention", "stitch", "refine", "argmax", "rest")
"""Stages whose milliseconds a row gives for both sides."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass
class Rates:
    """FLOP/s of a large matrix product.

    Attributes:
        fp32, bf16: in these types.
    """

    fp32: float
    bf16: float

    @classmethod
    def measured(cls, clock: Clock, device: str = "cpu") -> Rates:
        """On this machine, now."""
        return cls(**{name: matmul_roofline(dtype, clock, device) for name, dtype in DTYPES.items()})

    @property
    def best(self) -> float:
        """The larger one."""
        return max(self.fp32, self.bf16)


def precisions_here(wanted: Sequence[str], device: str = "cpu") -> list[str]:
    """Those of ``wanted`` that this machine has, fp32 first, which the others are compared with."""
    no_int8 = torch.device(device).type != "cpu" or int8_reasons()
    return ["fp32", *(p for p in wanted if p != "fp32" and not (p == "int8" and no_int8))]


def speed_rows(
    config: Path,
    photo: Path,
    precisions: Sequence[str],
    repeats: int,
    clock: Clock,
    rates: Rates,
    device: str = "cpu",
) -> Iterator[dict[str, object]]:
    """A row per precision of one method on one photo, all sides measured in turn.

    Args:
        config: of a method with a straightforward form; the file's name begins with the method's.
        photo: what is segmented.
        precisions: from :func:`precisions_here`. The straightforward form runs in fp32, and under bf16 autocast, too,
            where there are more than fp32.
        repeats: timed runs of a side after one that warms up.
        clock: what time is.
        rates: of this machine, measured in the same process.
        device: where both sides run.

    Raises:
        ValueError: for a method without a straightforward form.
    """
    method = next((name for name in FORMS if config.stem.startswith(f"{name}_")), None)
    if method is None:
        raise ValueError(f"no straightforward form of {config.stem}; there are {', '.join(FORMS)}")
    jobs = {p: build_job(config, photo, p, device=device) for p in precisions}
    exact = jobs["fp32"]
    slow = FORMS[method](exact.model)
    labels: dict[str, Tensor] = {}
    sides = {p: Side(job.model, partial(_ours, job, labels, p), clock) for p, job in jobs.items()}
    types = DTYPES if len(precisions) > 1 else {"fp32": torch.float32}
    for name, dtype in types.items():
        run = partial(_naive, slow, exact, dtype, labels, f"naive_{name}")
        sides[f"naive_{name}"] = Side(slow, run, clock)
    first = interleaved(sides, 1, clock)
    again = {name: side for name, side in sides.items() if first[name][0] < LONG}
    for side in again.values():
        side.seen.clear()
    runs = first | interleaved(again, repeats, clock)
    memory = PeakMemory(device)
    peaks = {name: memory.growth(sides[name].run) for name in (*jobs, "naive_fp32")}
    ms = {name: statistics.median(values) * 1e3 for name, values in runs.items()}
    naive = {name: ms[f"naive_{name}"] for name in types}
    quicker = min(naive, key=naive.__getitem__)
    gflop = _gflop(exact, clock)
    agreement, seen, difference = _agreement_with_naive(method, exact, labels)
    for p, job in jobs.items():
        rate = gflop / ms[p] * 1e12
        yield dict(
            method=exact.name,
            precision=p,
            computed_in=str(job.model.backbone.settled),
            ms=round(ms[p], 1),
            gflop=round(gflop, 4),
            share_of_best_rate=round(rate / rates.best, 4),
            target_share=(target := TARGETS.get(method, TARGET)),
            holds=rate / rates.best >= target,
            fp32_over_this=round(ms["fp32"] / ms[p], 3),
            naive_fp32_over_this=round(ratio_of(runs["naive_fp32"], runs[p]), 3),
            naive_best_over_this=round(ratio_of(runs[f"naive_{quicker}"], runs[p]), 3),
            agreement_with_fp32=round(_agreement(labels[p], labels["fp32"]), 5),
            agreement_with_naive=round(agreement if p == "fp32" else _agreement(labels[p], labels["naive_fp32"]), 5),
            labels_compared=seen,
            largest_score_difference=difference,
            naive_fp32_ms=round(naive["fp32"], 1),
            naive_bf16_ms=round(naive["bf16"], 1) if "bf16" in naive else "",
            peak_mib=round(peaks[p] / 2**20, 1),
            naive_fp32_peak_mib=round(peaks["naive_fp32"] / 2**20, 1),
            **_stage_columns("", sides[p]),
            **_stage_columns("naive_fp32_", sides["naive_fp32"]),
            repeats=len(runs[p]),
            naive_repeats=min(len(runs[f"naive_{name}"]) for name in types),
            fp32_gflops=round(rates.fp32 / 1e9, 1),
            bf16_gflops=round(rates.bf16 / 1e9, 1),
            clock="cuda events" if clock.cuda else clock.kind,
        )


@dataclass
class Side:
    """One way to compute a method, whose stages are noted at every call.

    Attributes:
        model: what the tracer follows.
        run: computes labels.
        clock: what time is.
        seen: seconds per stage of every call.
    """

    model: OpenVocabSegmentor | Straightforward
    run: Callable[[], None]
    clock: Clock
    seen: list[dict[str, float]] = field(default_factory=list)

    def __call__(self) -> None:
        tracer = Tracer(self.clock)
        with tracer.attached(self.model):
            self.seen.append(tracer.run(self.run).seconds)


def ratio_of(slow: Sequence[float], quick: Sequence[float]) -> float:
    """Median of the ratios within each repeat; of medians, where one side ran fewer times."""
    if len(slow) == len(quick):
        return median_ratio(list(slow), list(quick))
    return statistics.median(slow) / statistics.median(quick)


def _stage_columns(prefix: str, side: Side) -> dict[str, float]:
    """Median milliseconds of every stage that either side of a method may have; 0 where there is none."""
    return {
        f"{prefix}{stage}_ms": round(statistics.median(run.get(stage, 0.0) for run in side.seen) * 1e3, 1)
        for stage in SHOWN
    }


def _agreement_with_naive(method: str, exact: Job, labels: dict[str, Tensor]) -> tuple[float, int, float | str]:
    """Share of pixels on which both fp32 forms agree, and how many different labels there are.

    Agreement of one label proves nothing: where thresholds make all pixels one label, labels without them are compared;
    where there is one label all the same, the scores of all maps, whose largest difference is the third figure.
    """
    ours, theirs, head = labels["fp32"], labels["naive_fp32"], exact.model.head
    if len(ours.unique()) == 1 and (head.threshold or head.area_threshold):
        kept = head.threshold, head.area_threshold
        head.threshold = head.area_threshold = 0.0
        try:
            again: dict[str, Tensor] = {}
            _ours(exact, again, "fp32")
            _naive(FORMS[method](exact.model), exact, torch.float32, again, "naive_fp32")
        finally:
            head.threshold, head.area_threshold = kept
        ours, theirs = again["fp32"], again["naive_fp32"]
    seen = len(ours.unique())
    return _agreement(ours, theirs), seen, _score_difference(method, exact) if seen == 1 else ""


@torch.no_grad()
def _score_difference(method: str, job: Job) -> float:
    """Largest difference between both forms' scores at the photo's size, for methods that average maps of windows."""
    model, item = job.model, job.item
    photo = model.prepare(item["inputs"], job.size, item.get("original"), item.get("regions"))
    ours = model.score_map(model.encode([photo])[0], model.wording()).block()
    slow = FORMS[method](model)
    theirs = slow.resized(slow.slide(photo.image, None), job.size)
    return round(float((ours - theirs).abs().max()), 7)


def _ours(job: Job, labels: dict[str, Tensor], name: str) -> None:
    labels[name] = job.predict()


def _naive(slow: Callable[..., Tensor], job: Job, dtype: torch.dtype, labels: dict[str, Tensor], name: str) -> None:
    device = job.model.text.device
    image, original, regions = (_on(device, job.item.get(key)) for key in ("inputs", "original", "regions"))
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        labels[name] = slow(image, job.size, original, regions)


def _on(device: torch.device, tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.to(device)


def _agreement(labels: Tensor, other: Tensor) -> float:
    return float((labels == other).float().mean())


def _gflop(job: Job, clock: Clock) -> float:
    tracer = Tracer(clock, flops=True)
    with tracer.attached(job.model):
        return sum(tracer.run(job.predict).flops.values()) / 1e9


def accuracy_rows(
    method: str, precisions: Sequence[str], images: int | None, split: str = "scenes"
) -> Iterator[dict[str, object]]:
    """What a precision costs: nano's labels and mIoU on its own scenes, a row per precision.

    Args:
        method: name of a method with a nano config.
        precisions: from :func:`precisions_here`.
        images: how many of the split's images; ``None``: all.
        split: of the embedded mini benchmark.
    """
    init_default_scope("ovseg")
    config = evaluation_config(method, split, Path("."), images, 0)
    set_short_side(config)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    model = MODELS.build(config.model).eval()
    classes = len(dataset.metainfo["classes"])
    matrices = {p: torch.zeros(classes, classes, dtype=torch.int64) for p in precisions}
    agreement: dict[str, list[float]] = {p: [] for p in precisions}
    for item in dataset:
        size = tuple(item["data_samples"].ori_shape[:2])
        truth = item["data_samples"].gt_sem_seg.data
        found: dict[str, Tensor] = {}
        for p in precisions:
            set_precision(model, p)
            photo = model.prepare(item["inputs"], size, item.get("original"), item.get("regions"))
            found[p] = model.predict([photo])[0]
            confusion_update(matrices[p], found[p], truth)
            agreement[p].append(_agreement(found[p], found["fp32"]))
    miou = {p: summarise(matrix).mIoU for p, matrix in matrices.items()}
    for p in precisions:
        yield dict(
            method=method,
            split=split,
            precision=p,
            images=len(dataset),
            mIoU=round(miou[p], 3),
            difference=round(miou[p] - miou["fp32"], 3),
            agreement=round(statistics.mean(agreement[p]), 5),
            least_agreement=round(min(agreement[p]), 5),
        )
