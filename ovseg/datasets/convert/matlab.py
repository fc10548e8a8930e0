"""One matrix of numbers from a MATLAB file of version 5 to 7, every size checked before it is believed.

scipy's reader ends the process (segmentation fault) on some damaged files; nothing can record that. The format is from
MathWorks' "MAT-File Format", level 5: a header of 128 bytes, then elements of a type, a number of bytes and those bytes
(one may be compressed by zlib); a matrix holds its flags, dimensions, name and numbers as elements.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MAX_BYTES = 2**30
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)  # double, single, and the integers
_COMPLEX = 0x0800


def read_matrix(path: str | Path, name: str) -> np.ndarray:
    """The matrix of that name, as its numbers are stored.

    Raises:
        ValueError: if the file is damaged, cut or of another kind, or holds no real numeric matrix of that name.
        OSError: if it cannot be read.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"no readable MATLAB file: it has {path.stat().st_size:,} bytes, at most {MAX_BYTES:,} are read"
        )
    data = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    version = struct.unpack_from(f"{order}H", data, 124)[0] if order else None
    if version == 0x200:
        raise ValueError("a MATLAB 7.3 file (HDF5), the official ones are older; save it anew with `-v7`")
    if version != 0x100:
        raise ValueError("no readable MATLAB file: it does not begin as one of version 5 to 7 does")
    names = []
    for kind, content in _elements(data[128:], order):
        if kind == _COMPRESSED:
            kind, content = next(_elements(_decompress(content), order), (0, b""))
        if kind == _MATRIX:
            found, matrix = _matrix(content, order, name)
            if matrix is not None:
                return matrix
            names.append(found)
    raise ValueError(f"it holds no {name}, but {', '.join(n for n in names if n) or 'nothing'}")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of the elements one after the other."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("no readable MATLAB file: it is cut off")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # a small element: type, size and up to four bytes in one
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
            if size > 4:
                raise ValueError(f"no readable MATLAB file: a small element of {size} bytes")
        else:
            start = at + 8
            step = 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(data):
            raise ValueError("no readable MATLAB file: an element is longer than the file")
        yield kind, data[start : start + size]
        at += step


def _decompress(content: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(content, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"no readable MATLAB file: damaged ({error})") from None
    if not stream.eof:
        raise ValueError("no readable MATLAB file: a compressed element is cut off or larger than is read")
    return data


def _matrix(content: bytes, order: str, wanted: str) -> tuple[str, np.ndarray | None]:
    """Name of a matrix, and its numbers if it is the one that is wanted."""
    parts = _elements(content, order)
    kinds, values = zip(*(next(parts, (0, b"")) for _ in range(3)), strict=True)
    flags, dimensions, name = values
    if kinds[0] != 6 or len(flags) < 4 or kinds[1] != 5 or len(dimensions) % 4 or kinds[2] not in (1, 16):
        return "", None  # an opaque object: nothing that could be the matrix
    name = name.decode("latin-1")
    if name != wanted:
        return name, None
    flags = struct.unpack_from(f"{order}I", flags)[0]
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    kind, numbers = next(parts, (0, b""))
    if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX or kind not in _NUMBERS:
        raise ValueError(f"{name} is no matrix of real numbers")
    dtype = np.dtype(_NUMBERS[kind]).newbyteorder(order)
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != len(numbers):
        raise ValueError(f"no readable MATLAB file: {name} of {list(shape)} numbers has {len(numbers):,} bytes")
    return name, np.frombuffer(numbers, dtype).astype(dtype.newbyteorder("=")).reshape(shape, order="F")
