"""Class names of data sets: packaged lists and files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ovseg.class_files import class_list, read_class_file

CLASSES_DIR = Path(__file__).parent / "classes"


def load_class_names(source: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Class names of a data set.

    Args:
        source: the names themselves, the name of a packaged list (``ovseg/datasets/classes/*.txt``, e.g. ``'voc21'``),
            or a class file of any kind that :mod:`ovseg.class_files` reads. Of several names of a class the first
            counts, or the one before ``:=``.

    Raises:
        ValueError: if there is no such list, or it is not clear.

    >>> load_class_names("voc21")[:3]
    ('background', 'aeroplane', 'bicycle')
    """
    return class_names(source)[0]


def class_names(source: object) -> tuple[tuple[str, ...], int | None]:
    """Names, and the number that a numbered file gives class 0."""
    if not isinstance(source, str | Path):
        found = class_list(source, "classes")
    else:
        packaged = CLASSES_DIR / f"{source}.txt"
        path = packaged if packaged.is_file() else Path(source)
        if not path.exists() and not path.is_symlink():
            known = ", ".join(sorted(p.stem for p in CLASSES_DIR.glob("*.txt") if not p.stem.endswith("_ids")))
            raise ValueError(f"no class list {str(source)!r}: neither a file nor one of the packaged lists {known}")
        found = read_class_file(path)
    names = []
    for entry, place in zip(found.entries, found.places, strict=True):
        names.append(re.split(";|:=", entry if isinstance(entry, str) else entry[0])[0].strip())
        if not names[-1]:
            raise ValueError(f"{found.source}, {found.unit} {place}: empty name")
    if not names:
        raise ValueError(f"{found.source}: no classes; a data set needs at least one")
    return tuple(names), found.first
