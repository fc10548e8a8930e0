"""Text files that say which label map belongs to which photo."""

from __future__ import annotations

import re
from pathlib import Path

from ovseg.class_files import read_text


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """``(photo, label map)`` of every line, parted by a tab, comma, semicolon or blank; ``#`` begins a comment.

    Raises:
        ValueError: naming the line that is no pair, or for a file without any.
        OSError: if it cannot be read.
    """
    pairs = []
    for number, line in enumerate(re.split(r"\r\n|\n|\r", read_text(path)), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parts = [part for part in re.split(r"\s*[\t,;]\s*", line) if part]
        parts = parts if len(parts) == 2 else line.split()
        if len(parts) != 2:
            raise ValueError(f"{path}, line {number}: {line!r} is no photo and label map; part the two by a tab")
        pairs.append((parts[0], parts[1]))
    if not pairs:
        raise ValueError(f"{path} holds no pairs")
    return pairs
