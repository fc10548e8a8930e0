"""A conversion is a list of files to be made: resumable, atomic, one broken file does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ovseg.datasets.files import write_labels


class ConversionError(ValueError):
    """What a converter needs is missing or is not what it should be; the message names the path and says what to do."""


@dataclass(frozen=True)
class Job:
    """One file to be made.

    Attributes:
        source: the official file, named in error reports.
        target: the file to be written.
        make: from ``source`` to a label map, uint8 or uint16 ``[H, W]``.
        write: how the result is written, atomically; default: as a label map.
    """

    source: Path
    target: Path
    make: Callable[[Path], np.ndarray]
    write: Callable[[Path, np.ndarray], None] = write_labels


def run_jobs(jobs: Sequence[Job], force: bool = False, console: Console | None = None) -> dict[str, str]:
    """Make the files that do not exist yet.

    Args:
        jobs: what to make.
        force: make also those that exist.
        console: where the progress bar is shown; ``None``: nowhere.

    Returns:
        ``{source: reason}`` of the files that failed.
    """
    todo = [job for job in jobs if force or not job.target.exists()]
    failures: dict[str, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console is None) as progress:
        task = progress.add_task("converting", total=len(jobs), completed=len(jobs) - len(todo))
        for job in todo:
            try:
                job.write(job.target, job.make(job.source))
            except (OSError, ValueError, KeyError, TypeError, IndexError, SyntaxError) as error:
                failures[str(job.source)] = f"{type(error).__name__}: {error}"
            progress.advance(task)
    return failures


def require(path: Path, hint: str) -> Path:
    """``path``, if it exists.

    Raises:
        ConversionError: naming it, with ``hint``.
    """
    if not path.exists():
        raise ConversionError(f"{path} does not exist. {hint}")
    return path


def read_names(path: Path) -> list[str]:
    """The non-empty lines of a split file, first word each."""
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def lookup_table(mapping: dict[int, int], size: int, default: int, dtype: type = np.uint8) -> np.ndarray:
    """``table[label] = mapping.get(label, default)`` for labels ``0..size - 1``."""
    table = np.full(size, default, dtype)
    for label, target in mapping.items():
        table[label] = target
    return table
