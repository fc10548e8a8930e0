"""From a visitor's question to pictures, a legend and files."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ovseg.demo.kept import Kept
from ovseg.demo.limits import Limits, Refused, read_upload, read_words
from ovseg.demo.models import Choice, Models
from ovseg.results import SegmentationResult
from ovseg.visualization import palette_for

SHOWN_SIDE = 1280
"""Pictures on the page have at most this many pixels on their long side; the files have the photo's own."""
SMALL_SIDE = 640
"""Smaller ones are enlarged to it."""


@dataclass(frozen=True)
class Answer:
    """One photo, segmented.

    Attributes:
        result: at the photo's size, with its confidence.
        title: method and weights.
        name: the visitor's name of the photo, without a folder and an ending.
    """

    result: SegmentationResult
    title: str
    name: str

    def picture(self) -> np.ndarray:
        """The overlay for the page, without a legend: uint8 RGB."""
        return _shown(self.result.overlay(legend=False))

    def photo(self) -> np.ndarray:
        """The photo alone, of the size of :meth:`picture`."""
        return _shown(self.result.image)

    def legend(self) -> list[dict[str, object]]:
        """Classes that occur: rows of ``SegmentationResult.table`` with a ``colour`` (#rrggbb)."""
        colours = palette_for(self.result.names)
        return [{**row, "colour": "#" + bytes(colours[row["class"]]).hex()} for row in self.result.table()]

    def pointed(self, x: float, y: float) -> str:
        """One line about the pixel at ``(x, y)`` of :meth:`picture`."""
        height, width = self.result.labels.shape
        column, row = min(int(x * self._factor), width - 1), min(int(y * self._factor), height - 1)
        line = f"{self.result.names[self.result.labels[row, column]]} at ({column}, {row})"
        if self.result.confidence is not None:
            line += f", confidence {self.result.confidence[row, column]:.0%}"
        return line

    def pixels(self) -> tuple[np.ndarray, str]:
        """For ``pointer.js``: uint8 RGB of the size of :meth:`picture` (red and green are the class, blue its
        confidence), and the names as JSON."""
        height, width = _shown(self.result.image).shape[:2]
        rows = np.minimum((np.arange(height) * self._factor).astype(int), self.result.labels.shape[0] - 1)
        columns = np.minimum((np.arange(width) * self._factor).astype(int), self.result.labels.shape[1] - 1)
        labels, sure = self.result.labels[np.ix_(rows, columns)], self.result.confidence
        blue = np.zeros(labels.shape) if sure is None else np.rint(sure[np.ix_(rows, columns)] * 255)
        coded = np.stack([labels >> 8, labels & 255, blue], axis=-1).astype(np.uint8)
        return coded, json.dumps({"names": self.result.names, "confidence": sure is not None})

    @property
    def _factor(self) -> float:
        """Pixels of the photo per pixel of the page's picture."""
        side = max(self.result.labels.shape)
        return side / _shown_side(side)

    def write(self, folder: Path) -> tuple[Path, Path, Path]:
        """Files for the visitor: label map and overlay as PNG, COCO as JSON; in a new folder below ``folder``."""
        own = Path(tempfile.mkdtemp(dir=folder))
        labels, coco, overlay = (own / f"{self.name}_{end}" for end in ("labels.png", "coco.json", "overlay.png"))
        self.result.save_labels(labels)
        self.result.save_coco(coco, file_name=self.name)
        self.result.save(overlay)
        return labels, coco, overlay


class Desk:
    """Answers the visitors' questions, one at a time per model.

    Photos are encoded once per model: other words for the same photo cost the words' side only.

    Args:
        models: the models of this machine.
        limits: what may be asked.
        memory: bytes of answers that are kept.
    """

    def __init__(self, models: Models, limits: Limits, memory: int = 500_000_000) -> None:
        self.models, self.limits = models, limits
        self._answers = Kept(memory, lambda answer: _bytes(answer.result))

    def ask(self, path: str | None, text: str, choices: Sequence[Choice]) -> list[str]:
        """Segment a photo with each choice of method and weights.

        Args:
            path: the uploaded photo.
            text: the words, see :func:`ovseg.demo.limits.read_words`.

        Returns:
            keys of the answers, for :meth:`answer`.

        Raises:
            Refused: with a sentence for the visitor.
        """
        if not path or not Path(path).is_file():  # uploads are deleted after a while
            raise Refused("Choose a photo first.")
        words = read_words(text or "", self.limits)
        data, image = read_upload(path, self.limits)
        digest, keys = hashlib.sha256(data).hexdigest(), []
        for choice in choices:
            loaded = self.models.get(choice)
            with loaded.lock:
                encoded = loaded.encoded.get(digest)
                if encoded is None:
                    encoded = loaded.segmenter.encode(image)
                    loaded.encoded.put(digest, encoded)
                result = encoded.segment(words, confidence=True)
            keys.append(secrets.token_hex(8))
            self._answers.put(keys[-1], Answer(result, " with ".join(choice), _plain_name(path)))
        return keys

    def answer(self, key: str) -> Answer:
        """An answer given before.

        Raises:
            Refused: if it is not kept any more.
        """
        found = self._answers.get(key)
        if found is None:
            raise Refused("This result is not kept any more; press Segment again.")
        return found


def _bytes(result: SegmentationResult) -> int:
    parts = (result.labels, result.image, result.confidence, result.regions)
    return sum(part.nbytes for part in parts if part is not None)


def _plain_name(path: str) -> str:
    """A name for files, of an uploaded file's."""
    return re.sub(r"[^\w-]+", "_", Path(path).stem)[:60].strip("_") or "photo"


def _shown_side(side: int) -> int:
    return min(max(side, SMALL_SIDE), SHOWN_SIDE)


def _shown(picture: np.ndarray) -> np.ndarray:
    side = max(picture.shape[:2])
    factor = _shown_side(side) / side
    if factor == 1:
        return picture
    size = [max(1, round(side * factor)) for side in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
