"""BMP label maps: 1, 4 and 8 bits per pixel, uncompressed, as stored."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from ovseg.datasets.formats.source import FormatError, Source, unpack_bits


@dataclass(frozen=True)
class Header:
    """Size, storage and palette of a BMP file; ``bottom_up``: the last row comes first."""

    width: int
    height: int
    bottom_up: bool
    bits: int
    compression: int
    start: int
    palette: np.ndarray


def read_header(source: Source) -> Header:
    """Raises: FormatError: for headers older than Windows 3.0 and damaged ones."""
    head = source.read(0, 54)
    start, size, width, height, planes, bits, compression = struct.unpack("<10xIIiiHHI", head[:34])
    colours = struct.unpack("<I", head[46:50])[0]
    if not 40 <= size <= 256 or planes != 1 or width <= 0 or height in (0, -(2**31)):
        raise FormatError(f"damaged or old BMP header ({width} x {height} pixels); save label maps as PNG")
    palette = np.zeros((0, 3), np.uint8)
    if bits in (1, 4, 8) and not compression:
        colours = colours or 1 << bits
        if colours > 1 << bits or 14 + size + 4 * colours > start:
            raise FormatError("damaged BMP header (its palette does not fit)")
        stored = np.frombuffer(source.read(14 + size, 4 * colours), np.uint8).reshape(-1, 4)
        palette = stored[:, 2::-1]
    return Header(width, abs(height), height > 0, bits, compression, start, palette)


def read_indices(source: Source, header: Header) -> np.ndarray:
    """uint8 ``[H, W]`` palette indices.

    Raises:
        FormatError: for colours, compressed pixels, and files that end too early.
    """
    if header.bits not in (1, 4, 8) or header.compression:
        raise FormatError(
            f"a BMP of {header.bits} bits and compression {header.compression} holds colours or is not read exactly; "
            "save label maps as PNG"
        )
    row = -(-header.width * header.bits // 32) * 4
    data = np.frombuffer(source.read(header.start, row * header.height), np.uint8).reshape(header.height, row)
    indices = unpack_bits(data, header.width, header.bits)
    return indices[::-1] if header.bottom_up else indices
