"""Progress of an evaluation: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class EvalProgress:
    """Context manager that shows images done, running mIoU and time left.

    Args:
        total: images of this process.
        done: images that a resumed evaluation has behind it.
        console: where to; ``None``: nowhere.
        every: seconds between lines where the console is not a terminal.
    """

    def __init__(self, total: int, done: int = 0, console: Console | None = None, every: float = 30.0) -> None:
        self.total, self.done, self.first = total, done, done
        self.console, self.every = console, every
        self.bar: Progress | None = None
        self._start = self._last = time.monotonic()

    def __enter__(self) -> EvalProgress:
        self._start = self._last = time.monotonic()
        if self.console is not None and self.console.is_terminal:
            columns = (
                *(TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")),
                *(TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()),
            )
            self.bar = Progress(*columns, console=self.console)
            self.bar.start()
            self.task = self.bar.add_task("mIoU   -  ", total=self.total, completed=self.done)
        return self

    def wants_miou(self) -> bool:
        """Whether enough time has passed since :meth:`update` last showed an mIoU, which costs time to compute."""
        return self.console is not None and time.monotonic() - self._last > (0.5 if self.bar else self.every)

    def update(self, images: int, miou: float | None = None) -> None:
        """``images`` more are done; ``miou`` in percent where there is a new value."""
        self.done += images
        if miou is not None:
            self._last = time.monotonic()
        if self.bar is not None:
            description = {} if miou is None else {"description": f"mIoU {miou:5.2f}"}
            self.bar.update(self.task, completed=self.done, **description)
        elif miou is not None and self.console is not None:
            rate = (self.done - self.first) / max(1e-9, time.monotonic() - self._start)
            left = (self.total - self.done) / rate if rate else float("nan")
            self.console.print(
                f"{self.done}/{self.total} images, running mIoU {miou:.2f}, {rate:.2f} img/s, {left:.0f} s left"
            )

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.stop()
