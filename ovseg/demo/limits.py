"""What a visitor of the page may ask for, and what is refused with a sentence."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.io import HOW_TO_READ_LARGER, read_image
from ovseg.text import Vocabulary


class Refused(ValueError):
    """What a visitor asked for is not done; the message is a sentence for them, in plain text."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one visitor's question.

    Attributes:
        megabytes: of an uploaded file.
        pixels: width x height of a photo.
        classes: classes in the words.
        prompts: classes and synonyms together: what the text tower encodes.
        letters: of one name.
        queue: questions that wait; one more is told that the queue is full.
    """

    megabytes: int = 20
    pixels: int = 16_000_000
    classes: int = 200
    prompts: int = 400
    letters: int = 100
    queue: int = 16

    @property
    def text(self) -> int:
        """Letters of the whole text field."""
        return 50 * self.classes


def read_upload(path: str | os.PathLike, limits: Limits) -> tuple[bytes, np.ndarray]:
    """The bytes and the pixels (uint8 RGB ``[H, W, 3]``) of an uploaded photo.

    Raises:
        Refused: for a file that is too large or no photo. Names the visitor's file, no folder of this machine.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > limits.megabytes * 1_000_000:
        raise Refused(f"The file has {size / 1e6:.1f} MB; {limits.megabytes} MB are the most. Save it smaller.")
    data = path.read_bytes()
    try:
        return data, read_image(data, max_pixels=limits.pixels)
    except ImageReadError as error:
        raise Refused(f"{path.name} is not segmented: {error.reason.removesuffix(HOW_TO_READ_LARGER)}.") from error


def read_words(text: str, limits: Limits) -> Vocabulary:
    """The words of the text field: commas or lines between classes, semicolons between synonyms of one class.

    Unlike a command's ``--classes`` this never names a file: a visitor reads nothing of this machine.

    Raises:
        Refused: for no words, too many, one that is too long or occurs twice.

    >>> read_words("cat, sofa; couch\\ngrass,", Limits()).classes
    (('cat',), ('sofa', 'couch'), ('grass',))
    """
    if len(text) > limits.text:
        raise Refused(f"The words have {len(text):,} letters; {limits.text:,} are the most.")
    entries = [part for line in text.splitlines() for part in map(str.strip, line.split(",")) if part]
    if not entries:
        raise Refused("Write some words first, with commas between them: cat, sofa; couch, grass.")
    if len(entries) > limits.classes:
        raise Refused(f"These are {len(entries)} classes; {limits.classes} are the most.")
    long = next((name for entry in entries for name in entry.split(";") if len(name) > limits.letters), None)
    if long is not None:
        raise Refused(f"The name {long[:40]!r}... has {len(long)} letters; {limits.letters} are the most.")
    try:
        words = Vocabulary.from_list(entries, separator=";")
    except ValueError as error:
        raise Refused(f"The words are not clear: {error}.") from error
    if len(words.queries) > limits.prompts:
        raise Refused(f"These are {len(words.queries)} names with all synonyms; {limits.prompts} are the most.")
    return words
