"""PNG files, verified before they are decoded (W3C PNG, third edition).

Every chunk's checksum, the order of the chunks, the checksum and the exact length of the decompressed data and the
filter of every row are checked. Decoders then get a file that is rebuilt of what makes the picture and nothing else: no
animation, no text, no colour profile. Bytes after the end of the picture are ignored.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

import numpy as np

from ovseg.datasets.formats.source import FormatError, Source

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 1 << 20


@dataclass(frozen=True)
class Header:
    """The IHDR chunk."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @property
    def bits(self) -> int:
        """Bits per pixel."""
        return self.depth * _CHANNELS[self.colour]

    def passes(self) -> list[tuple[int, int]]:
        """Rows and bytes per row (filter included) of each pass, in the order of the file."""
        steps = _ADAM7 if self.interlaced else ((0, 0, 1, 1),)
        sizes = [(-(-(self.width - x) // dx), -(-(self.height - y) // dy)) for x, y, dx, dy in steps]
        return [(h, 1 + -(-w * self.bits // 8)) for w, h in sizes if w > 0 and h > 0]


@dataclass
class Png:
    """A verified file.

    Attributes:
        header: size and kind of the pixels.
        palette: uint8 ``[N, 3]``, or ``None``.
        transparency: the tRNS chunk, or ``None``.
        animated: whether it is an APNG; what is read is the picture that other viewers show.
        exif: the eXIf chunk, or ``None``.
        data: the IDAT chunks' content.
    """

    header: Header
    palette: np.ndarray | None = None
    transparency: bytes | None = None
    animated: bool = False
    exif: bytes | None = None
    data: bytearray = field(default_factory=bytearray, repr=False)

    def rebuilt(self, colour: int | None = None, transparency: bool = True) -> bytes:
        """The file with the chunks that make the picture only.

        Args:
            colour: another colour type; the same stored samples then mean something else.
            transparency: whether the tRNS chunk stays.
        """
        head = self.header
        kind = head.colour if colour is None else colour
        flags = struct.pack(">IIBBBBB", head.width, head.height, head.depth, kind, 0, 0, head.interlaced)
        parts = [SIGNATURE, *_chunk(b"IHDR", flags)]
        if kind == PALETTE:
            grey = np.repeat(np.arange(1 << head.depth, dtype=np.uint8)[:, None], 3, axis=1)
            parts += _chunk(b"PLTE", (grey if self.palette is None else self.palette).tobytes())
        if transparency and self.transparency is not None:
            parts += _chunk(b"tRNS", self.transparency)
        parts += [*_chunk(b"IDAT", self.data), *_chunk(b"IEND", b"")]
        return b"".join(parts)


def _bad(reason: str) -> FormatError:
    return FormatError(f"damaged or truncated PNG file ({reason})")


def _chunk(kind: bytes, content: bytes | bytearray) -> tuple[bytes, ...]:
    return struct.pack(">I", len(content)), kind, content, struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def read_header(source: Source) -> Header:
    """Size and kind of the pixels.

    Raises:
        FormatError: for a header that no PNG has, or whose checksum is wrong.
    """
    start = source.read(0, 33)
    if start[8:16] != b"\0\0\0\rIHDR":
        raise _bad("the first chunk is no IHDR")
    if zlib.crc32(start[12:29]) != int.from_bytes(start[29:33], "big"):
        raise _bad("the checksum of chunk IHDR is wrong")
    width, height, depth, colour, compression, filters, interlaced = struct.unpack(">IIBBBBB", start[16:29])
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise _bad(f"it says {width} x {height} pixels")
    if depth not in _DEPTHS.get(colour, ()) or compression or filters or interlaced > 1:
        raise _bad(f"colour type {colour} with {depth} bits, or an unknown compression")
    return Header(width, height, depth, colour, bool(interlaced))


def read_png(source: Source, header: Header) -> Png:
    """Walk through the whole file and keep what makes the picture.

    Raises:
        FormatError: for a file that is damaged or truncated anywhere before its end chunk.
    """
    png, rows = Png(header), _Rows(header)
    position, before, ended = 33, b"IHDR", False
    seen: set[bytes] = set()
    while not ended:
        start = source.read(position, 8)
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        if not kind.isalpha() or length >= 2**31:
            raise _bad(f"no chunk begins at byte {position:,}")
        keep = _keep(kind, length, seen, before, header)
        content = _content(source, position + 8, length, kind, rows if kind == b"IDAT" else None, png, keep)
        if kind == b"PLTE":
            png.palette = np.frombuffer(content, np.uint8).reshape(-1, 3)
        elif kind == b"tRNS":
            png.transparency = content
        elif kind == b"eXIf":
            png.exif = content
        png.animated |= kind == b"acTL"
        ended = kind == b"IEND"
        position, before = position + 12 + length, kind
        seen.add(kind)
    rows.finish()
    if header.colour == PALETTE and png.palette is None:
        raise _bad("its palette is missing")
    return png


def _keep(kind: bytes, length: int, seen: set[bytes], before: bytes, header: Header) -> bool:
    """Whether a chunk's content is needed; order and length of those that make the picture are checked."""
    wrong = None
    if kind in (b"IHDR", b"PLTE", b"tRNS") and (kind in seen or kind == b"IHDR" or b"IDAT" in seen):
        wrong = "comes twice or too late"
    elif kind == b"IDAT" and kind in seen and before != kind:
        wrong = "comes after other chunks"
    elif kind == b"PLTE" and (length % 3 or not 0 < length <= 768 or header.colour in (GREY, GREY_ALPHA)):
        wrong = "does not belong here"
    elif kind == b"tRNS" and not _transparency_fits(length, header, seen):
        wrong = "does not belong here"
    elif kind == b"IEND" and (length or b"IDAT" not in seen):
        wrong = "comes before the pixels"
    elif kind[0] < 97 and kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):  # an upper-case letter: critical
        wrong = "is unknown and critical"
    if wrong:
        raise _bad(f"chunk {kind.decode()} {wrong}")
    return kind in (b"PLTE", b"tRNS") or (kind == b"eXIf" and length < _PIECE)


def _transparency_fits(length: int, header: Header, seen: set[bytes]) -> bool:
    if header.colour == PALETTE:
        return b"PLTE" in seen and 0 < length <= 256
    return length == {GREY: 2, RGB: 6}.get(header.colour)


def _content(
    source: Source, start: int, length: int, kind: bytes, rows: _Rows | None, png: Png, keep: bool
) -> bytes | None:
    """Read a chunk piece by piece and check it; its content where it is to be kept."""
    end, crc, kept = start + length, zlib.crc32(kind), b""
    while start < end:
        piece = source.read(start, min(_PIECE, end - start))
        start, crc = start + len(piece), zlib.crc32(piece, crc)
        if rows is not None:
            png.data += piece
            rows.add(piece, len(png.data))
        elif keep:
            kept += piece
    if crc != int.from_bytes(source.read(end, 4), "big"):
        raise _bad(f"the checksum of chunk {kind.decode()} is wrong")
    return kept if keep else None


class _Rows:
    """Decompresses in pieces and counts the rows; keeps none."""

    def __init__(self, header: Header) -> None:
        self._passes = header.passes()
        self._zlib = zlib.decompressobj()
        self._total = sum(rows * row for rows, row in self._passes)
        self._done = self._offset = 0  # bytes in all, and in the present pass

    def add(self, piece: bytes, compressed: int) -> None:
        if self._zlib.eof:
            raise _bad("more compressed data than its pixels")
        if compressed > 2 * self._total + _PIECE:
            raise _bad("compressed data far beyond its pixels")
        while piece and not self._zlib.eof:
            try:
                rows = self._zlib.decompress(piece, _PIECE)
            except zlib.error as error:
                raise _bad(f"its compressed data: {error}") from None
            self._count(rows)
            piece = self._zlib.unconsumed_tail
        if self._zlib.unused_data:
            raise _bad("more compressed data than its pixels")

    def _count(self, data: bytes) -> None:
        self._done += len(data)
        if self._done > self._total:
            raise _bad("more rows than its header says")
        rest = np.frombuffer(data, np.uint8)
        while rest.size:
            rows, row = self._passes[0]
            part, rest = rest[: rows * row - self._offset], rest[rows * row - self._offset :]
            filters = part[-self._offset % row :: row]
            if filters.size and filters.max() > 4:
                raise _bad(f"a row with filter {filters.max()}")
            self._offset += part.size
            if self._offset == rows * row:
                self._passes, self._offset = self._passes[1:], 0

    def finish(self) -> None:
        while not self._zlib.eof and self._done < self._total + 1:  # what zlib still holds back
            rows = self._zlib.decompress(self._zlib.unconsumed_tail, _PIECE)
            if not rows:
                break
            self._count(rows)
        if self._done < self._total:
            raise _bad("fewer rows than its header says")
        if not self._zlib.eof:
            raise _bad("its compressed data has no end and no checksum")
