"""The figures the project promised, each with its target.

Ratios are taken in one run: both sides in turn, medians of the ratios within each repeat. The naive side is what the
official code does (:mod:`tools.benchmarking.naive`). Whole methods are measured by :mod:`tools.benchmarking.speed`.
"""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ovseg.ops.cuda.compile import nvrtc_reasons
from ovseg.ops.cuda.table import rows
from tools.benchmarking.clock import Clock
from tools.benchmarking.curves import ALONG_CLASSES, ALONG_PIXELS, CLASS_SIDE, curve
from tools.benchmarking.operators import compare_case


@dataclass
class Bar:
    """One figure.

    Attributes:
        name: what it is.
        value: what was measured.
        target: what was promised; a minimum unless ``at_most``.
        holds: whether it is met.
        note: times, repeats, sizes.
    """

    name: str
    value: float
    target: float
    holds: bool
    note: str = ""


def at_least(name: str, value: float, target: float, note: str = "") -> Bar:
    return Bar(name, round(value, 5), target, bool(value >= target), note)


def at_most(name: str, value: float, target: float, note: str = "") -> Bar:
    return Bar(name, round(value, 5), target, bool(value <= target), note)


@dataclass
class Plan:
    """How bars are measured.

    Attributes:
        repeats: timed runs of each side.
        clock: what time is.
        full: ``False``: small sizes, to try the tool.
    """

    repeats: int
    clock: Clock
    full: bool = True


def _times(comparison) -> str:
    memory = (f"{comparison.memory[side] / 2**20:.0f} MiB" for side in ("naive", "fused"))
    seconds = (f"{comparison.median(side):.3f} s" for side in ("naive", "fused"))
    return f"naive {', '.join((next(seconds), next(memory)))}; ovseg {', '.join((next(seconds), next(memory)))}"


def sam_bars(plan: Plan) -> Iterator[Bar]:
    """SAM ViT-B's encoder at 1024 in bf16 against segment_anything's in fp32."""
    figures = compare_case("sam-encoder", plan.full, plan.repeats, plan.clock)
    yield at_least("sam_speed", figures.speed, 8.0, _times(figures))
    yield at_most("sam_relative_error", figures.difference, 0.015)
    yield at_least("sam_memory", figures.memory_ratio, 4.0, "extra memory of the first call, weights packed in it")


def argmax847_bars(plan: Plan) -> Iterator[Bar]:
    """Upsample-argmax of 847 classes."""
    figures = compare_case("argmax847", plan.full, plan.repeats, plan.clock)
    yield at_most("argmax847_wrong_labels", figures.difference, 0, figures.difference_text)
    yield at_least("argmax847_speed", figures.speed, 10.0, _times(figures))
    yield at_least("argmax847_memory", figures.memory_ratio, 20.0)


def argmax21_bars(plan: Plan) -> Iterator[Bar]:
    """Upsample-argmax of 21 classes."""
    figures = compare_case("argmax21", plan.full, plan.repeats, plan.clock)
    yield at_most("argmax21_wrong_labels", figures.difference, 0, figures.difference_text)
    yield at_least("argmax21_speed", figures.speed, 3.0, _times(figures))


def correlation_bars(plan: Plan) -> Iterator[Bar]:
    """Correlation attention in fp32, and with bf16 inputs, against the per-head masked softmax in fp32."""
    for case, suffix in (("correlation", ""), ("correlation-bf16", "_bf16")):
        figures = compare_case(case, plan.full, plan.repeats, plan.clock)
        note = f"{_times(figures)}; relative error {figures.difference_text}"
        yield at_least(f"correlation{suffix}_speed", figures.speed, 5.0, note)
        yield at_least(f"correlation{suffix}_memory", figures.memory_ratio, 10.0)


def curve_bars(plan: Plan) -> Iterator[Bar]:
    """How memory grows: exponent in pixels (nano), factor from 1 to 1,000 classes (ViT-B/16)."""
    pixels = curve(ALONG_PIXELS if plan.full else (64, 128, 256), (), plan.clock, series=("nano",))
    points = curve((CLASS_SIDE if plan.full else 64,), ALONG_CLASSES, plan.clock, series=("ViT-B/16",))
    classes = [p for p in points if p["along"] == "classes"]
    first, last = pixels[len(pixels) // 2], pixels[-1]
    exponent = math.log(last["peak_mib"] / first["peak_mib"]) / math.log(last["value"] / first["value"])
    note = f"{first['value']} to {last['value']} pixels: {first['peak_mib']:.0f} to {last['peak_mib']:.0f} MiB"
    yield at_most("memory_exponent_in_pixels", exponent, 1.0, note)
    least, most = classes[0], classes[-1]
    note = f"{least['peak_mib']:.0f} to {most['peak_mib']:.0f} MiB for {most['value']} classes in place of one"
    yield at_most("memory_factor_of_1000_classes", most["peak_mib"] / least["peak_mib"], 2.0, note)


def kernel_bars(plan: Plan) -> Iterator[Bar]:
    """The CUDA kernels' table: how many spill registers on any architecture (compiled here, no GPU needed)."""
    if reasons := nvrtc_reasons():
        yield Bar("kernels_that_spill", -1.0, 0.0, False, f"not compiled: {'; '.join(reasons)}")
        return
    table = rows()
    spilling = [row for row in table if row.used.spill_stores or row.used.spill_loads]
    lowest = min(row.occupancy for row in table)
    note = f"{len(table)} kernels x architectures, at most {max(row.used.registers for row in table)} registers"
    yield at_most("kernels_that_spill", len(spilling), 0.0, f"{note}, occupancy at least {lowest:.0%}")


GROUPS: dict[str, Callable[[Plan], Iterator[Bar]]] = {
    "argmax847": argmax847_bars,
    "argmax21": argmax21_bars,
    "correlation": correlation_bars,
    "sam": sam_bars,
    "curves": curve_bars,
    "kernels": kernel_bars,
}
"""Groups of bars by the name that ``--only`` takes."""


def measure_bars(only: Sequence[str], plan: Plan, file: Path | None = None) -> Iterator[Bar]:
    """Measure groups, one bar after the other; each is written to ``file`` as soon as it is there.

    Bars that ``file`` already holds under other names stay in it, so that parts can be measured one by one.

    Args:
        only: names of groups; empty: all.
        plan: how.
        file: JSON list of ``{name, value, target, holds, note}``.

    Raises:
        ValueError: for an unknown group.
    """
    unknown = [name for name in only if name not in GROUPS]
    if unknown:
        raise ValueError(f"unknown bars {', '.join(unknown)}; choose from {', '.join(GROUPS)}")
    known: dict[str, dict] = {}
    if file is not None and file.is_file():
        known = {entry["name"]: entry for entry in json.loads(file.read_text())}
    for group in only or GROUPS:
        for bar in GROUPS[group](plan):
            known[bar.name] = asdict(bar)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(list(known.values()), indent=1))
            yield bar
        gc.collect()
