"""Finding files, through links too, and writing them so that a reader never sees half of one, also after a crash."""

from __future__ import annotations

import fnmatch
import glob
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass
class Listing:
    """What :func:`list_files` found in a folder.

    Attributes:
        files: paths below the folder, sorted; links that lead nowhere are among them: reading them fails by name.
        hidden: files and folders whose names begin with a dot: not looked at.
        problems: links and folders that could not be followed or read, each with the reason.
    """

    files: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    problems: dict[Path, str] = field(default_factory=dict)


def list_files(folder: str | Path, recursive: bool = True) -> Listing:
    """The files of a folder. Linked files and folders count as what they lead to; a link to a folder that holds it is
    not followed but recorded.

    Args:
        folder: where to look.
        recursive: look through sub-folders too.

    Raises:
        OSError: if the folder itself cannot be read.
    """
    found = Listing()
    above = tuple((s.st_dev, s.st_ino) for p in Path(folder).resolve().parents if (s := p.stat()))
    _walk(Path(folder), above, recursive, found)
    found.files.sort()
    found.hidden.sort()
    found.problems = dict(sorted(found.problems.items()))
    return found


def _walk(folder: Path, above: tuple[tuple[int, int], ...], recursive: bool, found: Listing) -> None:
    state = folder.stat()
    here = (*above, (state.st_dev, state.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):  # parts of killed conversions, macOS' companions, notebooks' checkpoints
                found.hidden.append(path)
                continue
            try:
                state = entry.stat() if entry.is_symlink() else None  # only links can lead nowhere or back
                if not entry.is_dir():
                    found.files.append(path)
                elif state is not None and (state.st_dev, state.st_ino) in here:
                    found.problems[path] = f"a link back to {path.resolve()}, which holds it; not followed"
                elif recursive:
                    _walk(path, here, recursive, found)
            except OSError as error:
                found.problems[path] = dangling(path) or f"cannot be looked into: {error.strerror or error}"
                if entry.is_symlink():
                    found.files.append(path)


def find_files(pattern: str | Path) -> Listing:
    """The files that a path, a folder (not its sub-folders) or a glob names; ``**`` goes through linked folders too.

    Args:
        pattern: what exists under this very name is taken as it is, also with brackets in it; else a glob.

    Raises:
        OSError: if a folder cannot be read.
    """
    path = Path(pattern)
    if path.is_dir():
        return list_files(path, recursive=False)
    if os.path.lexists(path):
        return _told([path])
    parts = path.parts
    if "**" not in parts:
        return _told([Path(p) for p in glob.glob(str(pattern)) if not os.path.isdir(p)])
    # glob itself would walk through links that lead back until the system stops it
    first = parts.index("**")
    found = Listing()
    for base in sorted(glob.glob(str(Path(*parts[:first])))) if first else ["."]:
        if not os.path.isdir(base):
            continue
        listing = list_files(base)
        files = [p for p in listing.files if _fits(p.relative_to(base).parts, parts[first:])]
        found.files += files if first else [p.relative_to(".") for p in files]
        found.hidden += listing.hidden
        found.problems |= listing.problems
    return found


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _told(paths: list[Path]) -> Listing:
    problems = {path: why for path in sorted(paths) if (why := dangling(path))}
    return Listing(sorted(paths), [], problems)


def dangling(path: Path) -> str | None:
    """What is wrong with a link that leads nowhere; ``None`` if the path is no such link.

    >>> dangling(Path(__file__)) is None
    True
    """
    if not path.is_symlink() or path.exists():
        return None
    return f"a link to {os.readlink(path)}, which does not exist"


def link_folder(link: Path, target: Path) -> None:
    """Make ``link`` show what is in the folder ``target``, wherever both really lie.

    A relative link where both lie on one disk, which may be mounted elsewhere next time, else an absolute one; where
    the file system knows no links, the files are copied. What is there is kept; a link that leads nowhere is replaced.

    Raises:
        OSError: if neither can be done.
    """
    if link.exists():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    # links above `link` or `target` would make a path between the unresolved two lead elsewhere
    parent, real = link.parent.resolve(), target.resolve(strict=True)
    one_disk = parent.stat().st_dev == real.stat().st_dev
    text = os.path.relpath(real, parent) if one_disk else str(real)
    temporary = parent / f".{link.name}.{os.getpid()}.part"
    try:
        temporary.symlink_to(text, target_is_directory=True)
        os.replace(temporary, parent / link.name)
    except (OSError, NotImplementedError):
        temporary.unlink(missing_ok=True)
        _copy_folder(real, parent / link.name, temporary)


def _copy_folder(source: Path, target: Path, temporary: Path) -> None:
    if target.is_symlink():
        target.unlink()
    try:
        shutil.copytree(source, temporary)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


LABEL_SUFFIXES = (".png", ".tif", ".tiff")
"""What label maps are written as: formats that keep numbers as they are."""


def cache_folder(part: str) -> Path:
    """``$OVSEG_CACHE/part``, or ``~/.cache/ovseg/part`` where the variable is not set."""
    return Path(os.environ.get("OVSEG_CACHE") or Path.home() / ".cache" / "ovseg") / part


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an exception.

    Args:
        path: final path; its folder is made if need be. The temporary path keeps the suffix, which decides a format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def clear_parts(folder: str | Path) -> int:
    """Remove what :func:`atomic_path` left in a folder when its process was killed; returns how many files.

    Parts of processes that are running are kept.
    """
    removed = 0
    for part in Path(folder).glob(".*.part*"):
        number = re.search(r"\.(\d+)\.part(\.\w+)?$", part.name)
        if number is not None and not _is_running(int(number[1])):
            part.unlink(missing_ok=True)
            removed += 1
    return removed


def _is_running(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_json(path: str | Path, value: object) -> None:
    """``value`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_labels(path: str | Path, labels: np.ndarray, classes: int | None = None) -> None:
    """A label map as PNG or TIFF, atomically, exactly as :func:`ovseg.datasets.read_mask` gives it back.

    Args:
        path: the file; its suffix decides the format, one of :data:`LABEL_SUFFIXES`.
        labels: integers ``[H, W]``.
        classes: how many classes there are: up to 256 are written with 8 bits, more with 16. ``None``: uint8 is written
            with 8 bits, uint16 with 16.

    Raises:
        ValueError: for another suffix (JPEG changes labels, GIF renumbers them), shape or type, or for labels that do
            not fit; nothing is written then.
    """
    path = Path(path)
    if path.suffix.lower() not in LABEL_SUFFIXES:
        raise ValueError(
            f"cannot write labels to {path}: '{path.suffix}' files do not keep them exactly; use "
            f"{', '.join(LABEL_SUFFIXES)}"
        )
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "iu":
        raise ValueError(f"cannot write {labels.dtype} {list(labels.shape)} to {path}: labels are integers [H, W]")
    if classes is None and labels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"label maps are written as uint8 or uint16, not {labels.dtype}")
    dtype = labels.dtype if classes is None else np.dtype(np.uint8 if classes <= 256 else np.uint16)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > np.iinfo(dtype).max:
        raise ValueError(f"cannot write labels {low}..{high} to {path}: {dtype} holds 0..{np.iinfo(dtype).max}")
    with atomic_path(path) as temporary:
        Image.fromarray(labels.astype(dtype, copy=False)).save(temporary)
