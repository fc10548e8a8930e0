"""Where encoded pictures come from: a regular file that is read piece by piece, or bytes."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ovseg.datasets.errors import SampleError
from ovseg.datasets.files import dangling

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class FormatError(ValueError):
    """What is wrong with an encoded picture; the readers add its name."""


@dataclass(frozen=True)
class Source:
    """Encoded bytes with random access.

    Attributes:
        name: path, or ``<bytes>``.
        handle: open for reading.
        size: number of bytes.
    """

    name: str
    handle: BinaryIO
    size: int

    def read(self, start: int, length: int) -> bytes:
        """Exactly these bytes.

        Raises:
            FormatError: if the file ends before.
        """
        if start + length > self.size:
            raise FormatError(
                f"damaged or truncated: {self.size:,} bytes, its structure goes on to byte {start + length:,}"
            )
        self.handle.seek(start)
        data = self.handle.read(length)
        if len(data) != length:
            raise FormatError("the file changed while it was read")
        return data

    def head(self, length: int = 32) -> bytes:
        """The first bytes, fewer where there are no more."""
        return self.read(0, min(length, self.size))

    def whole(self, most: int, why: str) -> bytes:
        """All bytes.

        Raises:
            FormatError: where there are more than ``most``, which nothing that is read here needs.
        """
        if self.size > most:
            raise FormatError(f"{self.size:,} bytes are far more than {why} can need, it is not read; save it anew")
        return self.read(0, self.size)


@contextmanager
def open_source(source: str | os.PathLike | bytes, error_type: type[SampleError]) -> Iterator[Source]:
    """A regular file or bytes as a :class:`Source`; nothing is read yet.

    Raises:
        SampleError: of the type given, for what is missing, empty, not readable or no regular file (reading a pipe or a
            device may wait for ever or never end). Within the block, a :class:`FormatError` becomes one too.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        name, handle, size = "<bytes>", io.BytesIO(data), len(data)
    else:
        name = os.fspath(source)
        handle, size = _open_regular(name, error_type)
    with handle:
        if not size:
            raise error_type(name, "the file is empty")
        try:
            yield Source(name, handle, size)
        except FormatError as error:
            raise error_type(name, str(error)) from error
        except OSError as error:
            raise error_type(name, f"cannot be read ({error.strerror or error})") from error


def _open_regular(name: str, error_type: type[SampleError]) -> tuple[BinaryIO, int]:
    try:
        _need_regular(name, os.stat(name).st_mode, error_type)
        # not blocking: what was a file may have become a pipe since
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        handle = os.fdopen(os.open(name, flags), "rb")
    except FileNotFoundError:
        raise error_type(name, dangling(Path(name)) or "no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, SampleError):
            raise
        raise error_type(name, getattr(error, "strerror", None) or str(error)) from error
    status = os.fstat(handle.fileno())
    try:
        _need_regular(name, status.st_mode, error_type)
    except SampleError:
        handle.close()
        raise
    return handle, status.st_size


def _need_regular(name: str, mode: int, error_type: type[SampleError]) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise error_type(name, f"is {kind}, not a file; save the picture as a file first")


def unpack_bits(rows: np.ndarray, width: int, bits: int) -> np.ndarray:
    """Samples of 1, 2, 4 or 8 bits from packed rows, the highest bits first.

    Args:
        rows: uint8 ``[H, bytes]``.
        width: samples per row.

    Returns:
        uint8 ``[H, width]``.
    """
    if bits == 8:
        return rows[:, :width]
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    samples = (rows[:, :, None] >> shifts) & np.uint8((1 << bits) - 1)
    return samples.reshape(len(rows), -1)[:, :width]


def check_grey_palette(labels: np.ndarray, palette: np.ndarray) -> None:
    """Palette indices are the labels, unless the palette is grey and says other numbers.

    Programs that make files smaller turn a grey label map into indices of the grey values that occur: which of the two
    are the labels is not written anywhere.

    Args:
        labels: integer ``[H, W]``, the indices.
        palette: ``[N, 3]``, its colours.

    Raises:
        FormatError: where both could be meant.
    """
    if not len(palette) or (palette != palette[:, :1]).any():
        return
    used = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(palette))[: len(palette)])
    other = used[palette[used, 0] != used]
    if other.size:
        raise FormatError(
            f"its palette is grey and shows index {other[0]} as grey {palette[other[0], 0]}: either may be the label "
            "(programs that shrink files rewrite grey maps so). Save the labels as an 8-bit grey PNG without palette"
        )
