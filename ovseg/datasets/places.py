"""Where the bytes of a photo are: a file, a part of a tar file, a cell of a parquet file, here or behind fsspec."""

from __future__ import annotations

import bisect
import errno
import lzma
import os
import posixpath
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO, TypeVar

from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.web import fetch, is_url, without_password
from ovseg.errors import SetupError

_TRIES = 3
_PAUSE = 0.5
"""Seconds before the second try at a store that does not answer; doubled before each further one."""
_GONE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""What is wrong with one file, not with what it lies in."""
_ONE_FILE = (errno.ENAMETOOLONG, errno.ELOOP)
DAMAGED_ARCHIVE = (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, IndexError, KeyError)
"""What zip files raise whose directory is damaged, or that need a password or another method."""
_DAMAGED_MEMBER = (*DAMAGED_ARCHIVE, zlib.error, lzma.LZMAError)
T = TypeVar("T")


class StoreError(SetupError):
    """What photos lie in does not answer, or is damaged: no photo's fault, so the run stops and nothing is recorded."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a photo are.

    Attributes:
        path: file on this machine, or its path in the store ``root``.
        root: fsspec's address of the store (``s3://bucket``, ``zip://::photos.zip``); empty: this machine.
        start, length: bytes of the file, where it holds more than the photo (tar).
        row: number of the row, where the file is parquet.
        column: of the photo's bytes there.
    """

    path: str
    root: str = ""
    start: int = 0
    length: int | None = None
    row: int | None = None
    column: str = ""

    @property
    def shown(self) -> str:
        """The place for people: with the archive that it lies in, without passwords."""
        store, _, archive = self.root.partition("::")
        where = f"{store.partition('://')[0]}://{self.path}" if self.root else self.path
        where = f"{where}::{without_password(archive)}" if archive else where
        return where if self.row is None else f"{where}, row {self.row}"


def read_bytes(place: Place) -> bytes:
    """The encoded photo.

    Raises:
        ImageReadError: if this one file is not there or may not be read, or the cell is empty.
        StoreError: if what it lies in does not answer or is damaged.
    """
    if place.row is not None:
        return _attempt(lambda: _cell(place), place)
    if not place.root and is_url(place.path):
        return fetch(place.path)
    return _attempt(lambda: _range(place), place)


def _attempt(read: Callable[[], T], place: Place) -> T:
    for number in range(_TRIES):
        try:
            return read()
        except _DAMAGED_MEMBER as error:
            raise ImageReadError(place.shown, f"it is damaged there ({error})") from error
        except OSError as error:
            if isinstance(error, _GONE) or error.errno in _ONE_FILE:
                raise ImageReadError(place.shown, error.strerror or str(error)) from error
            if number == _TRIES - 1:
                raise StoreError(f"cannot read {place.shown}: {error.strerror or error}") from error
        time.sleep(_PAUSE * 2**number)
    raise AssertionError("every try returns or raises")


def _range(place: Place) -> bytes:
    if not place.root:
        if place.length is None:
            return _regular(place.path)
        with open(place.path, "rb") as file:
            file.seek(place.start)
            data = file.read(place.length)
    else:
        end = None if place.length is None else place.start + place.length
        data = file_system(place.root).cat_file(place.path, start=place.start or None, end=end)
    if place.length is not None and len(data) < place.length:
        raise StoreError(f"{place.shown} is shorter than it was: {place.length} bytes from {place.start} are missing")
    return data


def _regular(path: str) -> bytes:
    """A regular file whole: a pipe would wait for ever."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ImageReadError(path, "it is no regular file")
    with open(path, "rb") as file:
        return file.read()


def _cell(place: Place) -> bytes:
    assert place.row is not None
    pyarrow = need_pyarrow("photos in parquet")
    try:
        table, row = _parquet(place.root, place.path)(place.row, place.column)
    except (OSError, pyarrow.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ImageReadError(place.shown, f"its row group is damaged ({' '.join(str(error).split())})") from error
    value = table[place.column][row].as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    if not value:
        raise ImageReadError(place.shown, f"column {place.column!r} is empty there")
    return value


@lru_cache(maxsize=2)
def _parquet(root: str, path: str) -> Callable[[int, str], tuple[Any, int]]:
    """What gives the row group that holds a row, with the row's place in it; one group is kept."""
    file = parquet_file(root, path)
    ends: list[int] = []
    for number in range(file.num_row_groups):
        ends.append((ends[-1] if ends else 0) + file.metadata.row_group(number).num_rows)

    @lru_cache(maxsize=1)
    def group(number: int, column: str) -> Any:
        return file.read_row_group(number, columns=[column], use_threads=False)

    def row_of(row: int, column: str) -> tuple[Any, int]:
        number = bisect.bisect_right(ends, row)
        if number == len(ends):
            raise StoreError(f"{path} has fewer rows than it had: row {row} is missing")
        return group(number, column), row - (ends[number - 1] if number else 0)

    return row_of


def parquet_file(root: str, path: str) -> Any:
    """An open ``pyarrow.parquet.ParquetFile``.

    Raises:
        StoreError: for a file that is none.
    """
    pyarrow = need_pyarrow("photos in parquet")
    import pyarrow.parquet as parquet

    try:
        return parquet.ParquetFile(open_file(root, path))
    except (OSError, pyarrow.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise StoreError(f"{path} is no parquet file, or damaged: {' '.join(str(error).split())}") from error


def need_pyarrow(what: str) -> Any:
    """pyarrow.

    Raises:
        SetupError: saying what to install, without it.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise SetupError(f"{what} needs pyarrow: pip install pyarrow (or 'ovseg[scale]')") from error
    return pyarrow


def open_file(root: str, path: str) -> BinaryIO:
    """A file for reading with seeks."""
    return file_system(root).open(path, "rb") if root else open(path, "rb")


@lru_cache(maxsize=8)
def file_system(root: str) -> Any:
    """fsspec's file system of a store.

    Raises:
        SetupError: for an address that fsspec does not open, and without what it needs for it.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(root)[0]
    except (ImportError, ValueError, OSError, *DAMAGED_ARCHIVE) as error:
        raise SetupError(f"cannot open {without_password(root)}: {error}") from error


def split_address(address: str) -> tuple[str, str]:
    """fsspec's address as store and path in it; a file on this machine, or a page on the web, has the store ``""``.

    Raises:
        SetupError: as :func:`file_system`.

    >>> split_address("photos/a.jpg")
    ('', 'photos/a.jpg')
    >>> split_address("memory://photos/a.jpg")
    ('memory://photos', '/photos/a.jpg')
    """
    if "://" not in address or is_url(address):
        return "", address
    first, chain, rest = address.partition("::")
    protocol, _, path = first.partition("://")
    if protocol in ("file", "local") and not chain:
        return "", path
    root = f"{protocol}://{chain}{rest}" if chain else f"{protocol}://{path.partition('/')[0]}"
    return root, file_system(root)._strip_protocol(first)


def last_name(path: str) -> str:
    """Name of a file without its folder, in a store or here."""
    return posixpath.basename(path.replace(os.sep, "/"))
