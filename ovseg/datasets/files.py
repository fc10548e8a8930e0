"""Writing files so that a reader never sees half of one, also after a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image


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


def write_json(path: str | Path, value: object) -> None:
    """``value`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_labels(path: str | Path, labels: np.ndarray) -> None:
    """A label map as PNG or TIFF, atomically; uint8 is written with 8 bits, uint16 with 16.

    Raises:
        ValueError: for another dtype, which Pillow would truncate or refuse.
    """
    if labels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"label maps are written as uint8 or uint16, not {labels.dtype}")
    with atomic_path(path) as temporary:
        Image.fromarray(labels).save(temporary)
