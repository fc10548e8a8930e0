"""PBM, PGM and PPM: the stored numbers and their largest value (netpbm's pbm(5), pgm(5), ppm(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ovseg.datasets.formats.source import FormatError, Source

_KINDS = {b"P1": (1, True), b"P2": (1, True), b"P3": (3, True), b"P4": (1, False), b"P5": (1, False), b"P6": (3, False)}
_HEAD = 4096  # magic, three numbers and comments


@dataclass(frozen=True)
class Header:
    """Kind ``P1`` to ``P6``, size, largest value and where the numbers begin."""

    kind: bytes
    width: int
    height: int
    largest: int
    start: int

    @property
    def channels(self) -> int:
        """1 or 3."""
        return _KINDS[self.kind][0]

    @property
    def bitmap(self) -> bool:
        """PBM: two values of which 1 is black."""
        return self.kind in (b"P1", b"P4")


def matches(start: bytes) -> bool:
    """Whether a file begins so."""
    return start[:2] in _KINDS and (start[2:3].isspace() or start[2:3] == b"#")


def read_header(source: Source) -> Header:
    """Raises: FormatError: for a header without size or largest value."""
    head = source.head(_HEAD)
    kind, position, numbers = head[:2], 2, []
    pattern = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,10})")
    while len(numbers) < (2 if kind in (b"P1", b"P4") else 3):
        found = pattern.match(head, position)
        if not found:
            raise FormatError("damaged header (a PBM, PGM or PPM needs a width, a height and a largest value)")
        numbers.append(int(found[1]))
        position = found.end()
    width, height, largest = (*numbers, 1)[:3]
    if not width or not height or not 0 < largest < 65536:
        raise FormatError(f"damaged header ({width} x {height} pixels, values up to {largest})")
    if not head[position : position + 1].isspace():
        raise FormatError("damaged header (nothing separates it from the pixels)")
    return Header(kind, width, height, largest, position + 1)


def read_samples(source: Source, header: Header, alone: bool) -> np.ndarray:
    """The numbers as they are stored.

    Args:
        source: the file.
        header: its header.
        alone: refuse further data after the picture (such as a second one).

    Returns:
        ``[H, W, channels]``, uint8 or uint16.

    Raises:
        FormatError: for too few numbers, a number above the largest value, or ``alone``.
    """
    count = header.width * header.height * header.channels
    if _KINDS[header.kind][1]:
        samples, rest = _text(source, header, count)
    elif header.kind == b"P4":
        row = -(-header.width // 8)
        packed = np.frombuffer(source.read(header.start, row * header.height), np.uint8).reshape(header.height, row)
        samples, rest = np.unpackbits(packed, axis=1, count=header.width), row * header.height
    else:
        kind = np.dtype(np.uint8 if header.largest < 256 else ">u2")
        samples = np.frombuffer(source.read(header.start, count * kind.itemsize), kind).astype(kind.newbyteorder("="))
        rest = count * kind.itemsize
    if not _KINDS[header.kind][1]:
        rest = source.size - header.start - rest
    if alone and rest:
        raise FormatError("more data after its pixels (a second picture?); save each label map as a PNG of its own")
    if samples.max() > header.largest:
        raise FormatError(f"damaged: a value of {samples.max()}, its largest is {header.largest}")
    stored = samples.astype(np.uint8 if header.largest < 256 else np.uint16, copy=False)
    return stored.reshape(header.height, header.width, header.channels)


def _text(source: Source, header: Header, count: int) -> tuple[np.ndarray, int]:
    """Numbers written in digits, and how many more there are."""
    length = source.size - header.start
    if length > 16 * count + (1 << 20):
        raise FormatError(f"{length:,} bytes of text for {count:,} numbers; save it as PNG")
    text = re.sub(rb"#[^\n\r]*", b" ", source.read(header.start, length))
    digits = b"01" if header.kind == b"P1" else b"0123456789"
    if text.translate(None, digits + b" \t\n\v\f\r"):
        raise FormatError("damaged: something else than numbers among its pixels")
    if header.kind == b"P1":  # digits need not be separated
        numbers = np.frombuffer(text.translate(None, b" \t\n\v\f\r"), np.uint8) - np.uint8(48)
    else:
        numbers = np.fromstring(text, np.int64, sep=" ")
    if len(numbers) < count:
        raise FormatError(f"truncated: {len(numbers):,} of {count:,} numbers")
    return numbers[:count], len(numbers) - count
