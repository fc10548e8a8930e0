"""Measures the operators' two sides: time in turn, memory each in a process of its own."""

from __future__ import annotations

import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

from tools.benchmarking.clock import Clock, PeakMemory, interleaved, median_ratio
from tools.benchmarking.naive import build_case, warm_libraries

SIDES = ("naive", "fused")


@dataclass
class Comparison:
    """Figures of one case.

    Attributes:
        name, title: the case.
        difference: how far the two results are apart, see ``Case.measure``.
        difference_text: the same in words.
        seconds: of every repeat, by side.
        memory: bytes that a side needs beyond its inputs, by side; 0 where memory was not measured.
    """

    name: str
    title: str
    difference: float
    difference_text: str
    seconds: dict[str, list[float]]
    memory: dict[str, int]

    def median(self, side: str) -> float:
        return statistics.median(self.seconds[side])

    @property
    def speed(self) -> float:
        """How many times faster ovseg's side is: median of the ratios within each repeat."""
        return median_ratio(self.seconds["naive"], self.seconds["fused"])

    @property
    def memory_ratio(self) -> float:
        """How many times less memory ovseg's side needs; at least 1 MiB is counted for it."""
        return self.memory["naive"] / max(self.memory["fused"], 2**20)


def compare_case(name: str, full: bool, repeats: int, clock: Clock, memory: bool = True) -> Comparison:
    """Run both sides of a case.

    Args:
        name: of :data:`tools.benchmarking.naive.CASES`.
        full: the sizes of the real methods.
        repeats: timed runs of each side, in turn, after one that also gives the difference.
        clock: what time is.
        memory: also measure peaks, in a fresh process per side.
    """
    peaks = {side: growth_of(name, side, full, torch.get_num_threads()) if memory else 0 for side in SIDES}
    with torch.no_grad():
        case = build_case(name, full)
        results = [case.naive(), case.fused()]  # also warms both up
        value, text = case.measure(*results), case.difference(*results)
        del results
        seconds = interleaved({side: getattr(case, side) for side in SIDES}, repeats, clock)
    return Comparison(name, case.title, value, text, seconds, peaks)


def growth_of(name: str, side: str, full: bool, threads: int) -> int:
    """Bytes that one side adds to a fresh process in its first call, results included, inputs and weights not."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_growth, name, side, full, threads).result()


def _growth(name: str, side: str, full: bool, threads: int) -> int:
    torch.set_num_threads(threads)
    with torch.no_grad():
        warm_libraries()
        case = build_case(name, full)
        return PeakMemory().growth(getattr(case, side))
