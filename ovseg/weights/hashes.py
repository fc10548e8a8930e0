"""Hashes of weights files, remembered so that a large file is read through only once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from os import PathLike
from pathlib import Path

from .errors import CheckpointError

_REMEMBERED = 1000  # files whose hash is kept


def cache_dir() -> Path:
    """Where ovseg keeps weights: ``$OVSEG_CACHE``, else ``~/.cache/ovseg/weights``. It may not exist yet."""
    return Path(os.environ.get("OVSEG_CACHE") or "~/.cache/ovseg/weights").expanduser()


def file_digest(path: str | PathLike[str], algorithm: str = "sha256") -> str:
    """Hash of a file in hex, computed now."""
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


def file_sha256(path: str | PathLike[str]) -> str:
    """SHA-256 of a file in hex; from memory while path, size and modification time are unchanged."""
    path = Path(path).resolve()
    try:
        stat = path.stat()
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror})", "Check the path") from None
    memory = cache_dir() / "hashes.json"
    stamp = [stat.st_size, stat.st_mtime_ns]
    known = _read(memory)
    entry = known.get(str(path))
    if entry is not None and entry[:2] == stamp:
        return entry[2]
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
    return {k: v for k, v in known.items() if isinstance(v, list) and len(v) == 3 and isinstance(v[2], str)}


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
