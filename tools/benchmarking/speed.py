"""The speed table: every method in every precision, beside its straightforward form, and what the precision costs.

Bars are shares of this machine's own best rate, so that they mean the same on every CPU: the work of a method (FLOPs of
its fp32 run) over its time, over the speed of one large matrix product in the fastest of fp32 and bf16.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from tools.benchmarking.clock import Clock, interleaved, matmul_roofline
from tools.benchmarking.frontier import FRONTIER
from tools.benchmarking.methods import Job, build_job
from tools.benchmarking.stages import Tracer
from tools.benchmarking.straightforward import STRAIGHTFORWARD, Straightforward

FORMS: dict[str, type[Straightforward]] = {**STRAIGHTFORWARD, **FRONTIER}
"""Methods with a straightforward form."""
TARGETS = {"trident": 0.6}
"""Share of the best rate that a method should reach in its fastest precision, where that is not :data:`TARGET`."""
TARGET = 0.85
LONG = 20.0
"""A side whose first run takes more seconds is not run again: its one run counts, and its row says so."""
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
        precisions: from :func:`precisions_here`.
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
    sides: dict[str, Callable[[], None]] = {p: partial(_ours, job, labels, p) for p, job in jobs.items()}
    sides |= {f"naive_{name}": partial(_naive, slow, exact, dtype, labels, name) for name, dtype in DTYPES.items()}
    first = interleaved(sides, 1, clock)
    again = {name: side for name, side in sides.items() if first[name][0] < LONG}
    runs = first | interleaved(again, repeats, clock)
    ms = {name: statistics.median(values) * 1e3 for name, values in runs.items()}
    naive = {name: ms[f"naive_{name}"] for name in DTYPES}
    gflop = _gflop(exact, clock)
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
            naive_fp32_over_this=round(naive["fp32"] / ms[p], 3),
            naive_best_over_this=round(min(naive.values()) / ms[p], 3),
            agreement_with_fp32=round(_agreement(labels[p], labels["fp32"]), 5),
            agreement_with_naive=round(_agreement(labels[p], labels["naive_fp32"]), 5),
            naive_fp32_ms=round(naive["fp32"], 1),
            naive_bf16_ms=round(naive["bf16"], 1),
            repeats=len(runs[p]),
            naive_repeats=min(len(runs[f"naive_{name}"]) for name in DTYPES),
            fp32_gflops=round(rates.fp32 / 1e9, 1),
            bf16_gflops=round(rates.bf16 / 1e9, 1),
            clock="cuda events" if clock.cuda else clock.kind,
        )


def _ours(job: Job, labels: dict[str, Tensor], name: str) -> None:
    labels[name] = job.predict()


def _naive(slow: Callable[..., Tensor], job: Job, dtype: torch.dtype, labels: dict[str, Tensor], name: str) -> None:
    device = job.model.text.device
    image, original, regions = (_on(device, job.item.get(key)) for key in ("inputs", "original", "regions"))
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        labels[f"naive_{name}"] = slow(image, job.size, original, regions)


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
