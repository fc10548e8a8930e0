"""Counters, gauges and histograms in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of a histogram of times."""


class Counter:
    """Grows; one value per label."""

    def __init__(self, name: str, text: str, label: str) -> None:
        self._name, self._text, self._label = name, text, label
        self._values: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, label: str, value: float = 1) -> None:
        """Grow."""
        with self._lock:
            self._values[label] = self._values.get(label, 0) + value

    def lines(self) -> list[str]:
        """Of the page of metrics."""
        with self._lock:
            rows = [f'{self._name}{{{self._label}="{key}"}} {value:g}' for key, value in sorted(self._values.items())]
        return [*_head(self._name, self._text, "counter"), *rows]


class Gauge:
    """A number as it is now."""

    def __init__(self, name: str, text: str, value: Callable[[], float]) -> None:
        self._name, self._text, self._value = name, text, value

    def lines(self) -> list[str]:
        """Of the page of metrics."""
        return [*_head(self._name, self._text, "gauge"), f"{self._name} {self._value():g}"]


class Histogram:
    """How often values were at most each bound."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name, self._text, self._bounds = name, text, tuple(bounds)
        self._counts, self._sum = [0] * (len(bounds) + 1), 0.0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """One more value."""
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def lines(self) -> list[str]:
        """Of the page of metrics."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        rows, below = [], 0
        for bound, count in zip((*(f"{b:g}" for b in self._bounds), "+Inf"), counts, strict=True):
            below += count
            rows.append(f'{self._name}_bucket{{le="{bound}"}} {below}')
        end = [f"{self._name}_sum {total:.6f}", f"{self._name}_count {below}"]
        return [*_head(self._name, self._text, "histogram"), *rows, *end]


def _head(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
