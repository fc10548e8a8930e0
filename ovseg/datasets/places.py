"""Where the bytes of a photo are: a file, a part of a tar file, a cell of a table, here or behind fsspec."""

from __future__ import annotations

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
from ovseg.datasets.tables import Table, need_pyarrow
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
        row: number of the row, where the file is a table (parquet, arrow).
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
        value = _kept_table(place.root, place.path, _state(place)).cell(place.row, place.column)
    except IndexError:
        raise StoreError(f"{place.path} has fewer rows than it had: row {place.row} is missing") from None
    except (OSError, pyarrow.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ImageReadError(place.shown, f"its row group is damaged ({' '.join(str(error).split())})") from error
    elsewhere = ""
    if isinstance(value, dict):
        elsewhere = f", it only names {value['path']!r}" if not value.get("bytes") and value.get("path") else ""
        value = value.get("bytes")
    if not value:
        raise ImageReadError(place.shown, f"column {place.column!r} is empty there{elsewhere}")
    return bytes(value)


def open_table(root: str, path: str) -> Table:
    """A table.

    Raises:
        StoreError: for a file that is none.
    """
    pyarrow = need_pyarrow("photos in parquet")
    try:
        # by its path where it can be: children of this process then do not share a place in the file
        return Table(open_file(root, path) if root else path, path)
    except (OSError, pyarrow.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        kind = "arrow" if path.lower().endswith(".arrow") else "parquet"
        raise StoreError(f"{path} is no {kind} file, or damaged: {' '.join(str(error).split())}") from error


@lru_cache(maxsize=2)
def _kept_table(root: str, path: str, state: object) -> Table:
    return open_table(root, path)


def _state(place: Place) -> object:
    """What tells that a file on this machine was written anew."""
    if place.root:
        return None
    now = os.stat(place.path)
    return now.st_mtime_ns, now.st_size, now.st_ino


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


def _forget() -> None:
    """A child process opens its own files: two that share one would read at each other's place."""
    _kept_table.cache_clear()
    file_system.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


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
