"""A conversion is a list of files to be made: resumable, atomic, one broken file does not stop the others."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ovseg.class_files import read_text
from ovseg.datasets.files import clear_parts, dangling, list_files, write_labels
from ovseg.datasets.fingerprint import in_order

# The machine's faults, not the file's: every other file would meet them too.
_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class ConversionError(ValueError):
    """What a converter needs is missing or is not what it should be; the message names the path and says what to do."""


@dataclass(frozen=True)
class Job:
    """One file to be made.

    Attributes:
        source: the official file, named in error reports.
        target: the file to be written; the source itself where nothing can be made of it (:func:`broken`).
        make: from ``source`` to a label map, uint8 or uint16 ``[H, W]``.
        write: how the result is written, atomically; default: as a label map.
    """

    source: Path
    target: Path
    make: Callable[[Path], np.ndarray]
    write: Callable[[Path, np.ndarray], None] = write_labels


def broken(source: Path, reason: str) -> Job:
    """A job for an entry that is known to be unusable: it fails, so that :func:`run_jobs` records it by name."""
    return Job(source, source, partial(_refuse, reason=reason))


def _refuse(_: Path, reason: str) -> np.ndarray:
    raise ValueError(reason)


def run_jobs(
    jobs: Sequence[Job], force: bool = False, console: Console | None = None, workers: int = 1
) -> dict[str, str]:
    """Make the files that do not exist yet; what killed runs left half done is removed.

    Args:
        jobs: what to make.
        force: make also those that exist.
        console: where the progress bar is shown; ``None``: nowhere.
        workers: threads; the files made do not depend on it.

    Returns:
        ``{source: reason}`` of the files that failed, also of those that another source of the list is written over.

    Raises:
        ConversionError: if a file cannot be written, because the disk is full or read-only, say: the others could not
            be written either.
    """
    failures: dict[str, str] = {}
    claimed: dict[Path, Job] = {}
    for job in jobs:
        first = claimed.setdefault(job.target, job)
        if first is not job:
            failures[str(job.source)] = f"its result {job.target} is that of {first.source} too; rename one of them"
    todo = [job for job in claimed.values() if force or job.target == job.source or not job.target.exists()]
    for folder in {job.target.parent for job in claimed.values()}:
        clear_parts(folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console is None) as progress:
        task = progress.add_task("converting", total=len(claimed), completed=len(claimed) - len(todo))
        for job, reason in zip(todo, in_order(_run, todo, workers), strict=True):
            if reason is not None:
                failures[str(job.source)] = reason
            progress.advance(task)
    return failures


def _run(job: Job) -> str | None:
    """Make one file; why it could not be made, if it is the file's own fault."""
    try:
        made = job.make(job.source)
    except MemoryError as error:
        error.add_note(f"while converting {job.source}")
        raise
    except Exception as error:  # decoders raise nearly anything on foreign files: one must not stop the others
        if isinstance(error, OSError) and error.errno in _MACHINE:
            raise ConversionError(f"cannot convert {job.source}: {error.strerror}") from error
        return f"{type(error).__name__}: {error}"
    try:
        job.write(job.target, made)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return f"OSError: {error}"
        raise ConversionError(f"cannot write {job.target}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError) as error:  # an array that the format cannot hold
        return f"{type(error).__name__}: {error}"
    return None


def require(path: Path, hint: str) -> Path:
    """``path``, if it exists.

    Raises:
        ConversionError: naming it, with ``hint``.
    """
    if not path.exists():
        link = dangling(path)
        raise ConversionError(f"{path} does not exist{f' (it is {link})' if link else ''}. {hint}")
    return path


def find(folder: Path, ending: str, start: str = "", recursive: bool = True) -> tuple[list[Path], list[Job]]:
    """Files of a folder by start and ending of their names (in any case), through links; and a broken job for each link
    or folder that leads nowhere.

    Raises:
        ConversionError: if the folder cannot be read.
    """
    try:
        listing = list_files(folder, recursive)
    except OSError as error:
        raise ConversionError(f"{folder} cannot be looked into: {error.strerror or error}") from error
    files = [
        path
        for path in listing.files
        if path.name.lower().endswith(ending.lower()) and path.name.startswith(start) and path not in listing.problems
    ]
    return files, [broken(path, problem) for path, problem in listing.problems.items()]


def read_names(path: Path) -> list[str]:
    """The non-empty lines of a split file, first word each.

    Raises:
        ConversionError: for a file that is no UTF-8 text; names the line.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ConversionError(f"split file: {error}") from error
    return [line.split()[0] for line in re.split(r"[\r\n]+", text) if line.strip()]


def read_json(path: Path) -> object:
    """What a JSON file holds, with or without byte order mark.

    Raises:
        ConversionError: naming the file, for anything that is not JSON: a web page, a cut file, an empty one.
    """
    try:
        data = path.read_bytes()
        return json.loads(data)
    except OSError as error:
        raise ConversionError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        start = data[:200].lstrip(b"\xef\xbb\xbf \r\n\t")
        if not data:
            fault = "is empty"
        elif start.startswith(b"<"):
            fault = "is a web page, not JSON: the server answered something else than the file"
        else:
            fault = f"is not whole JSON ({error})"
        raise ConversionError(f"{path} {fault}; download it again") from None


def lookup_table(mapping: dict[int, int], size: int, default: int, dtype: type = np.uint8) -> np.ndarray:
    """``table[label] = mapping.get(label, default)`` for labels ``0..size - 1``."""
    table = np.full(size, default, dtype)
    for label, target in mapping.items():
        table[label] = target
    return table
