"""What an evaluation leaves for its error report: a line per photo, and small pictures of the worst.

Every process writes into a folder of its own below ``report`` in the work directory; nothing there grows in memory, and
the parts of an interrupted run, by however many processes, add up.
"""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ovseg.datasets.files import atomic_path
from ovseg.evaluation.confusion import SegSummary
from ovseg.evaluation.error_statistics import ErrorStatistics, PhotoErrors

_QUALITY = 82


@dataclass(frozen=True)
class PhotoRow:
    """A line of a photo.

    Attributes:
        index: in the data set.
        name: of the sample.
        miou, accuracy: in percent, of this photo; ``None`` where every pixel is ignored.
    """

    index: int
    name: str
    miou: float | None
    accuracy: float | None


class ReportStore:
    """The folder of one process.

    Args:
        folder: of the report; this process' is ``rank{rank}`` in it.
        rank: of the process.
        worst: photos to keep a picture of.
        examples: whether to keep a picture per class.
    """

    def __init__(self, folder: Path, rank: int, worst: int, examples: bool) -> None:
        self.folder, self.worst, self.examples = folder / f"rank{rank}", worst, examples
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lines = self.folder / "photos.jsonl"
        self._photos: list[tuple[float, int, Path]] = []  # a heap, the least bad first: (-mIoU, index, file)
        self._classes: dict[int, tuple[int, Path]] = {}
        for path in self.folder.glob("*.jpg"):
            kind, *numbers = path.stem.split("_")
            if kind == "photo":
                heapq.heappush(self._photos, (-float(numbers[0]), int(numbers[1]), path))
            else:
                self._classes[int(numbers[0])] = (int(numbers[1]), path)
        if self._lines.is_file() and not self._lines.read_bytes()[-1:] == b"\n":  # cut off by a kill
            with self._lines.open("a", encoding="utf-8") as file:
                file.write("\n")

    def add(
        self,
        index: int,
        name: str,
        found: PhotoErrors,
        summary: SegSummary,
        draw_photo: Callable[[], np.ndarray],
        draw_class: Callable[[int], np.ndarray],
    ) -> None:
        """A photo's line, and its pictures where it is among the worst.

        Args:
            index, name: see :class:`PhotoRow`.
            found: what it adds to the statistics.
            summary: of this photo alone.
            draw_photo, draw_class: make the pictures, uint8 RGB, where they are wanted.
        """
        empty = not summary.pixels.sum()
        miou, accuracy = (None, None) if empty else (summary.mIoU, summary.aAcc)
        row = {"index": index, "name": name, "miou": miou, "accuracy": accuracy, "when": time.time(), **found.plain()}
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if empty:
            return
        if self.worst and (len(self._photos) < self.worst or (-miou, index) > self._photos[0][:2]):
            path = self.folder / f"photo_{miou:.6f}_{index}.jpg"
            _write(path, draw_photo())
            heapq.heappush(self._photos, (-miou, index, path))
            if len(self._photos) > self.worst:
                heapq.heappop(self._photos)[2].unlink(missing_ok=True)
        if not self.examples:
            return
        wrong = found.wrong(len(summary.pixels))
        for label in np.flatnonzero(wrong):
            before, old = self._classes.get(int(label), (0, None))
            if wrong[label] > before:
                path = self.folder / f"class_{label}_{wrong[label]}_{index}.jpg"
                _write(path, draw_class(int(label)))
                if old is not None and old != path:
                    old.unlink(missing_ok=True)
                self._classes[int(label)] = (int(wrong[label]), path)


@dataclass(frozen=True)
class Collected:
    """What all processes left.

    Attributes:
        statistics: of all photos.
        worst: the worst photos, worst first, with their pictures.
        examples: per class the photo with most wrong pixels of it, and its picture.
    """

    statistics: ErrorStatistics
    worst: list[tuple[PhotoRow, Path]]
    examples: dict[int, tuple[PhotoRow, Path]]


def collect(folder: Path, classes: int, done: Collection[int], worst: int) -> Collected:
    """Add up what the processes left in ``folder``.

    Args:
        folder: of the report.
        classes: number of classes.
        done: indices of the samples that count; a sample that was evaluated twice counts as it was the second time.
        worst: number of photos.
    """
    places: dict[int, tuple[float, Path, int]] = {}
    for path in sorted(folder.glob("rank*/photos.jsonl")):
        for offset, row in _rows(path):
            if row["index"] in done and row["when"] >= places.get(row["index"], (0.0,))[0]:
                places[row["index"]] = (row["when"], path, offset)
    found = sorted(folder.glob("rank*/*.jpg"))
    photos = {int(p.stem.split("_")[2]): p for p in found if p.stem.startswith("photo_")}
    ranked = sorted((float(p.stem.split("_")[1]), i, p) for i, p in photos.items() if i in places)[:worst]
    best: dict[int, tuple[int, int, Path]] = {}  # wrong pixels, minus the index, picture
    for path in found:
        if path.stem.startswith("class_"):
            label, wrong, index = map(int, path.stem.split("_")[1:])
            if index in places and (wrong, -index) > best.get(label, (0, 0))[:2]:
                best[label] = (wrong, -index, path)
    wanted = {index for _, index, _ in ranked} | {-index for _, index, _ in best.values()}
    statistics, rows = ErrorStatistics(classes), {}
    with ExitStack() as stack:
        files = {path: stack.enter_context(path.open("rb")) for path in {path for _, path, _ in places.values()}}
        for index, (_, path, offset) in sorted(places.items()):  # sums do not depend on who evaluated what
            files[path].seek(offset)
            row = json.loads(files[path].readline())
            statistics.add(PhotoErrors.of(row))
            if index in wanted:
                rows[index] = PhotoRow(index, row["name"], row["miou"], row["accuracy"])
    return Collected(
        statistics,
        [(rows[index], path) for _, index, path in ranked],
        {label: (rows[-index], path) for label, (_, index, path) in sorted(best.items())},
    )


def _rows(path: Path) -> Iterator[tuple[int, dict]]:
    """The whole lines of a file with their places in it."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            try:
                yield offset, json.loads(line)
            except ValueError:  # cut off by a kill: the sample is evaluated again
                pass
            offset += len(line)


def _write(path: Path, pixels: np.ndarray) -> None:
    good, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not good:
        raise ValueError(f"{path}: OpenCV could not write the picture")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())
