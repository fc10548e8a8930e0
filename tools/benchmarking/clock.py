"""Time, memory and the roofline of a machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CLOCKS = ("wall", "cpu")


class Clock:
    """Moments on the host or on the current CUDA stream.

    Args:
        kind: ``'wall'``, or ``'cpu'``: processor seconds of this process, for a machine that others use as well.
            On CUDA events are used and ``kind`` does not matter.
        device: where the work runs.
    """

    def __init__(self, kind: str = "wall", device: str | torch.device = "cpu") -> None:
        if kind not in CLOCKS:
            raise ValueError(f"clock is {kind!r}; choose one of {', '.join(CLOCKS)}")
        self.cuda, self.kind = torch.device(device).type == "cuda", kind
        self._read = time.perf_counter if kind == "wall" else time.process_time

    def now(self) -> Any:
        """A moment; on CUDA an event that is recorded and not waited for."""
        if not self.cuda:
            return self._read()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def finish(self) -> None:
        """Wait until all moments lie in the past."""
        if self.cuda:
            torch.cuda.synchronize()

    def between(self, start: Any, end: Any) -> float:
        """Seconds between two moments, after :meth:`finish`."""
        return start.elapsed_time(end) / 1e3 if self.cuda else end - start

    def time(self, function: Callable[[], Any]) -> float:
        """Seconds that a call takes."""
        start = self.now()
        function()
        end = self.now()
        self.finish()
        return self.between(start, end)


class PeakMemory:
    """Largest memory in use since the last :meth:`reset`.

    On CUDA what torch has allocated; else the resident set of the process, by the kernel's own high-water mark
    (Linux). Memory that the allocator keeps is given back first, so that a growth is a growth.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.cuda = torch.device(device).type == "cuda"
        self.available = self.cuda or os.access("/proc/self/clear_refs", os.W_OK)

    def trim(self) -> None:
        """Give unused memory back to the system."""
        if not self.cuda and platform.system() == "Linux":
            with contextlib.suppress(OSError, AttributeError):  # another C library than glibc has no malloc_trim
                ctypes.CDLL(None).malloc_trim(0)

    def current(self) -> int:
        """Bytes in use now; 0 where it cannot be said."""
        if self.cuda:
            return torch.cuda.memory_allocated()
        return _status("VmRSS") if self.available else 0

    def reset(self) -> None:
        """Begin anew from what is in use now."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        elif self.available:
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """Bytes; 0 where it cannot be said."""
        if self.cuda:
            return torch.cuda.max_memory_allocated()
        return _status("VmHWM") if self.available else 0

    def growth(self, function: Callable[[], Any]) -> int:
        """Bytes that a call needs beyond what is in use before it."""
        self.trim()
        self.reset()
        before = self.current()
        function()
        return max(0, self.peak() - before)


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) * 1024


def matmul_roofline(dtype: torch.dtype, clock: Clock, device: str | torch.device = "cpu", repeats: int = 5) -> float:
    """FLOP/s of a large matrix product of this type on this machine, the best of ``repeats`` runs."""
    side = 8192 if torch.device(device).type == "cuda" else 1536
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    a @ b  # the first call prepares
    return 2 * side**3 / min(clock.time(lambda: a @ b) for _ in range(repeats))


def interleaved(sides: dict[str, Callable[[], Any]], repeats: int, clock: Clock) -> dict[str, list[float]]:
    """Seconds of every repeat of every side, in turn, so that other work on the machine disturbs all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            seconds[name].append(clock.time(side))
    return seconds


def median_ratio(slow: list[float], quick: list[float]) -> float:
    """Median of the ratios within each repeat."""
    return statistics.median(a / b for a, b in zip(slow, quick, strict=True))


def machine() -> dict[str, str | int]:
    """What a figure must name: processor or GPU, cores, threads, versions."""
    facts: dict[str, str | int] = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        flags = info.read_text()
        extra = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags]
        if names:
            return " ".join([names[0], *extra])
    return platform.processor() or platform.machine()
