"""Hashes of weights files, remembered so that a large file is read through only once."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from os import PathLike
from pathlib import Path

from .errors import CheckpointError

_REMEMBERED = 1000  # files whose hash is kept


def cache_dir() -> Path:
    """Where ovseg keeps weights: ``$OVSEG_CACHE``, else ``~/.cache/ovseg/weights``. It may not exist yet."""
    return Path(os.environ.get("OVSEG_CACHE") or "~/.cache/ovseg/weights").expanduser()


def file_digest(path: str | PathLike[str], algorithm: str = "sha256") -> str:
    """Hash of a file in hex, computed now. Raises :class:`CheckpointError` for what is no readable file."""
    regular_file(path)
    digest = hashlib.new(algorithm)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    except OSError as error:
        raise CheckpointError(
            path, f"cannot be read ({error.strerror})", "Check the path and its permissions"
        ) from None
    return digest.hexdigest()


def regular_file(path: str | PathLike[str]) -> os.stat_result:
    """What the system says of a file.

    Raises:
        CheckpointError: for a path without a file, and for what is none: a directory, a pipe (which would never end),
            a device.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise CheckpointError(path, "no such file", "Check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(path, f"cannot be read ({reason})", "Check the path and its permissions") from None
    if stat.S_ISDIR(status.st_mode):
        raise CheckpointError(path, "is a directory, not a checkpoint", "Give the file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(path, "is no regular file (a pipe, socket or device)", "Give a file")
    return status


def file_sha256(path: str | PathLike[str]) -> str:
    """SHA-256 of a file in hex; from memory while the path leads to the same file, unchanged as far as its size and
    times of modification and change tell (the last cannot be set by hand)."""
    status = regular_file(path)
    path = Path(path).resolve()
    memory = cache_dir() / "hashes.json"
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    entry = _read(memory).get(str(path))
    if entry is not None and entry[:-1] == stamp:
        return entry[-1]
    digest = file_digest(path)
    _remember(memory, {**_read(memory), str(path): [*stamp, digest]})
    return digest


def _read(memory: Path) -> dict[str, list]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # not there yet, or damaged: hashes are computed again
    if not isinstance(known, dict):
        return {}
    return {k: v for k, v in known.items() if isinstance(v, list) and len(v) == 5 and isinstance(v[4], str)}


def _remember(memory: Path, known: dict[str, list]) -> None:
    """Writes the file in one step, so that another process never reads half of it."""
    kept = dict(list(known.items())[-_REMEMBERED:])
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=memory.parent, prefix="hashes-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(kept, file)
        os.replace(name, memory)
    except OSError:
        pass  # a read-only cache directory costs time, nothing else
