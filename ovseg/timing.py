"""How long a model takes for a photo, stage by stage, on this machine."""

from __future__ import annotations

import contextlib
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ovseg.apis import Segmenter
from ovseg.arguments import whole_number
from ovseg.datasets.given import Picture, as_rgb

PARTS = {
    "regions": "regions",
    "guide": "guide",
    "CLIP": "backbone",
    "attention": "attention",
    "photo encoder": "photo_encoder",
}
"""Stages that are calls of a part of the model, and the part's attribute. CLIP: all blocks but the last."""
READ, OTHER, LABELS = "read", "resize, windows, projection, stitch", "scores, refiners, labels"


@dataclass(frozen=True)
class StageTimes:
    """Times of a model for one photo.

    Attributes:
        stages: milliseconds of every stage, median over the repeats: reading the photo, the :data:`PARTS` the model
            has, and what is left of encoding it and of making labels.
        total_ms: a photo from file to labels, of every repeat.
        first_ms: the first photo, which also prepares what is kept for the next ones.
        words_ms: embedding the words, or reading them from the cache: once per vocabulary, no part of a photo.
        peak_mib: the most memory the process has held so far; on CUDA the most that torch allocated for these photos.
        windows: passes through CLIP (before those of views); 0: the method did without.
        size: ``(H, W)`` of the photo in pixels.
        precision, device, threads: what it was measured with.
    """

    stages: dict[str, float]
    total_ms: tuple[float, ...]
    first_ms: float
    words_ms: float
    peak_mib: float
    windows: int
    size: tuple[int, int]
    precision: str
    device: str
    threads: int


class StageClock:
    """Seconds of stages; what a stage spends inside another one counts for that one only.

    Args:
        device: on CUDA it has finished what was asked of it at every change of stage.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device, self._stack, self._last = device, [], 0.0

    def enter(self, name: str) -> None:
        """The stage ``name`` begins."""
        self._account()
        self._stack.append(name)

    def leave(self) -> None:
        """The stage that began last ends."""
        self._account()
        self._stack.pop()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside is the stage ``name``."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    @contextlib.contextmanager
    def parts(self, model: nn.Module) -> Iterator[None]:
        """Inside, calls of the model's :data:`PARTS` that are modules are stages."""
        handles = []
        for name, attribute in PARTS.items():
            module = getattr(model, attribute, None)
            if isinstance(module, nn.Module):
                handles.append(module.register_forward_pre_hook(lambda *_, name=name: self.enter(name)))
                handles.append(module.register_forward_hook(lambda *_: self.leave()))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _account(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._last
        self._last = now


def time_stages(model: Segmenter, image: Picture, repeats: int = 5) -> StageTimes:
    """Segment a photo again and again and measure where the time goes.

    Args:
        model: with its words set.
        image: as in :meth:`ovseg.Segmenter.segment`.
        repeats: photos measured after a first one, which is told apart.

    Raises:
        ValueError: for a number of repeats that is none, or as :meth:`ovseg.Segmenter.segment`.
    """
    repeats = whole_number("repeats", repeats, example=5)
    inner = model.model
    device, vocabulary = inner.backbone.mean.device, inner.require_vocabulary()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    words = StageClock(device)
    with words.stage("words"):
        inner.embed_words(vocabulary)
    runs = []
    for _ in range(repeats + 1):
        clock = StageClock(device)
        with clock.parts(inner):
            with clock.stage(READ):
                array = as_rgb(image)
            with clock.stage(OTHER):
                encoded = model.encode(array)
            with clock.stage(LABELS):
                encoded.segment()
        runs.append(dict(clock.seconds))
    first, *measured = runs
    layout = encoded.opened()[1].layout
    return StageTimes(
        {name: 1e3 * statistics.median(run.get(name, 0.0) for run in measured) for name in first},
        tuple(1e3 * sum(run.values()) for run in measured),
        1e3 * sum(first.values()),
        1e3 * sum(words.seconds.values()),
        _peak_bytes(device) / 2**20,
        0 if layout is None else len(layout),
        encoded.size,
        str(inner.backbone.settled),
        torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        torch.get_num_threads(),
    )


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
