"""What ``ovseg segment`` writes of each result: pictures and files per photo, COCO and CSV for all together."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg import SegmentationResult

FORMATS = {"overlay": ".png", "labels": ".png", "coco": ".json", "geojson": ".geojson", "csv": ".csv"}
"""Formats and the ending of their files."""
TOGETHER = ("coco", "csv")
"""Formats of one file for all photos."""


@dataclass(frozen=True)
class Source:
    """Where a result comes from.

    Attributes:
        name: of the photo, relative to what all photos lie in; for a frame, of the frame.
        target: the overlay's file; others are named after it.
        frame, seconds: number and time of a frame in its film; ``None`` for a photo.
    """

    name: str
    target: Path
    frame: int | None = None
    seconds: float | None = None


class Writer(Protocol):
    """Writes results one after the other, in bounded memory."""

    def write(self, source: Source, result: SegmentationResult) -> Path | None:
        """Write one; returns the file, where it has one of its own."""

    def close(self) -> Path | None:
        """Finish; returns the file that holds all, where there is one."""


def label_file(target: Path) -> Path:
    """The file of the class indices beside an overlay."""
    return target.with_name(f"{target.stem}_labels.png")


class PerPhoto:
    """A file for each photo.

    Args:
        kind: ``'overlay'``, ``'labels'`` or ``'geojson'``.
        alpha: opacity of overlays.
        alone: the only format, and a file was named for it: this takes the name as it is.
    """

    def __init__(self, kind: str, alpha: float, alone: bool) -> None:
        self.kind, self.alpha, self.alone = kind, alpha, alone

    def write(self, source: Source, result: SegmentationResult) -> Path:
        path = source.target
        if self.kind == "overlay":
            result.save(path, alpha=self.alpha)
        elif self.kind == "labels":
            path = path if self.alone and source.frame is None else label_file(path)
            result.save_labels(path)
        else:
            from ovseg.datasets.files import write_json

            path = path.with_suffix(".geojson")
            write_json(path, result.to_geojson())
        return path

    def close(self) -> None:
        """Nothing is left to do."""


class Coco:
    """One COCO file of all photos, written as they come."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        from ovseg.datasets.files import atomic_path
        from ovseg.results.coco import DatasetWriter

        self.path, self._stack = path, contextlib.ExitStack()
        self._out = DatasetWriter(self._stack.enter_context(atomic_path(path)), names)

    def write(self, source: Source, result: SegmentationResult) -> None:
        self._out.add(source.name, result.labels.shape, result.to_coco())

    def close(self) -> Path:
        self._out.close()
        self._stack.close()
        return self.path


class Areas:
    """One CSV of the classes' areas in all photos: a row for every class that occurs in one."""

    COLUMNS = ("photo", "frame", "seconds", "class", "index", "pixels", "share", "confidence")

    def __init__(self, path: Path) -> None:
        from ovseg.datasets.files import atomic_path

        self.path, self._stack = path, contextlib.ExitStack()
        temporary = self._stack.enter_context(atomic_path(path))
        self._file = self._stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
        self._rows = csv.writer(self._file)
        self._rows.writerow(self.COLUMNS)

    def write(self, source: Source, result: SegmentationResult) -> None:
        seconds = "" if source.seconds is None else f"{source.seconds:.3f}"
        for row in result.table():
            sure = f"{row['confidence']:.4f}" if "confidence" in row else ""
            found = (row["name"], row["class"], row["pixels"], f"{row['share']:.6f}", sure)
            self._rows.writerow((source.name, "" if source.frame is None else source.frame, seconds, *found))

    def close(self) -> Path:
        self._stack.close()
        return self.path


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats that ``--format`` names.

    Raises:
        SetupError: for an unknown one.

    >>> parse_formats("overlay, coco")
    ('overlay', 'coco')
    """
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if unknown := [name for name in found if name not in FORMATS] or ([""] if not found else []):
        raise SetupError(f"--format {text!r}: {unknown[0]!r} is none; there are {', '.join(FORMATS)}")
    return found


def writers_of(
    formats: Sequence[str], names: Sequence[str], alpha: float, place: Path, several: bool
) -> dict[str, Writer]:
    """The writers of the formats.

    Args:
        formats: of :data:`FORMATS`.
        names: one name per class.
        alpha: opacity of overlays.
        place: the folder of several photos' files, or the file of one photo.
        several: which of the two.

    Raises:
        SetupError: for a file named for one photo whose ending belongs to none of the formats.
    """
    if not several and place.suffix.lower() in (".json", ".geojson", ".csv") and len(formats) > 1:
        raise SetupError(f"--out {place}: several formats get files of several endings; name it like a picture (.png)")
    alone = not several and len(formats) == 1
    found: dict[str, Writer] = {}
    for kind in formats:
        if kind not in TOGETHER:
            found[kind] = PerPhoto(kind, alpha, alone)
            continue
        ending = FORMATS[kind]
        if several:
            path = place / ("coco.json" if kind == "coco" else "areas.csv")
        elif alone and place.suffix.lower() == ending:
            path = place
        else:
            path = place.with_name(place.stem + ("_coco.json" if kind == "coco" else "_areas.csv"))
        found[kind] = Coco(path, names) if kind == "coco" else Areas(path)
    return found
