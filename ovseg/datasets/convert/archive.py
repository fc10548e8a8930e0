"""Unpacking archives that somebody else made: nothing is written outside the folder, and no links or devices."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ovseg.datasets.files import atomic_path, clear_parts, dangling

_BLOCK = 2**20


class UnsafeArchive(ValueError):
    """An archive that is damaged, or whose members would do more than fill the folder; nothing was written."""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_dir: bool
    handle: tarfile.TarInfo | zipfile.ZipInfo


def extract(archive: str | Path, folder: str | Path, console: Console | None = None) -> int:
    """Unpack a zip or tar (also compressed) archive into ``folder``.

    All members are looked at before the first is written. Files that are already there with the right size are kept, so
    an interrupted extraction goes on where it stopped; each file appears whole or not at all.

    Args:
        archive: path of the archive.
        folder: where to; made if need be.
        console: where the progress bar is shown; ``None``: nowhere.

    Returns:
        number of files written.

    Raises:
        UnsafeArchive: if a member has an absolute path, leaves the folder, is a link or a device, if the archive is
            damaged or encrypted, or needs more room than the disk has.
    """
    archive, folder = Path(archive), Path(folder)
    written = 0
    with _opened(archive) as (members, open_member):
        # of two members of one name the later counts, as for tar itself
        files = {_target(archive, folder, m): m for m in members if not m.is_dir}
        todo = [(t, m) for t, m in files.items() if not (t.is_file() and t.stat().st_size == m.size)]
        folder.mkdir(parents=True, exist_ok=True)
        for inner in {target.parent for target in files}:
            clear_parts(inner)
        need, free = sum(m.size for _, m in todo), shutil.disk_usage(folder).free
        if need > free:
            raise UnsafeArchive(f"{archive}: needs {need:,} bytes in {folder}, which has {free:,} free")
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=console is None) as progress:
            task = progress.add_task(f"unpacking {archive.name}", total=need)
            for target, member in todo:
                with atomic_path(target) as temporary, open(temporary, "wb") as sink:
                    for block in _blocks(archive, member, open_member):
                        sink.write(block)
                written += 1
                progress.advance(task, member.size)
    return written


def holds(archive: str | Path, part: str) -> bool:
    """Whether a member of an archive is the file or folder ``part`` or lies in it; ``False`` for what is no archive."""
    try:
        with _opened(Path(archive)) as (members, _):
            return any(m.name.rstrip("/") == part or m.name.startswith(f"{part}/") for m in members)
    except UnsafeArchive:
        return False


def _blocks(archive: Path, member: _Member, open_member: Callable[[_Member], IO[bytes]]) -> Iterator[bytes]:
    """The content of a member. Only faults of the archive become its errors: a full disk is another matter.

    Raises:
        UnsafeArchive: if it is damaged or cut.
    """
    read = 0
    try:
        with open_member(member) as source:
            while block := source.read(_BLOCK):
                read += len(block)
                yield block
    except (GeneratorExit, MemoryError):
        raise
    except (
        Exception
    ) as error:  # each compression has errors of its own: OSError, EOFError, zlib, lzma, RuntimeError ...
        raise UnsafeArchive(f"{archive}: member {member.name!r} cannot be read: {error}") from error
    if read != member.size:
        raise UnsafeArchive(f"{archive}: member {member.name!r} has {read:,} of {member.size:,} bytes; cut off")


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[list[_Member], Callable[[_Member], IO[bytes]]]]:
    if not archive.is_file():
        raise UnsafeArchive(f"{archive}: {dangling(archive) or 'no such file'}")
    try:
        opened, members = _directory(archive)
    except (UnsafeArchive, MemoryError):
        raise
    except Exception as error:  # a damaged directory makes zipfile and tarfile raise nearly anything
        raise UnsafeArchive(f"{archive}: damaged archive ({type(error).__name__}: {error})") from error
    with opened:
        if isinstance(opened, zipfile.ZipFile):
            yield members, lambda m: opened.open(m.handle)
        else:
            yield members, lambda m: _tar_file(opened, m)


def _directory(archive: Path) -> tuple[zipfile.ZipFile | tarfile.TarFile, list[_Member]]:
    if zipfile.is_zipfile(archive):
        opened = zipfile.ZipFile(archive)
        try:
            return opened, [_zip_member(archive, i) for i in opened.infolist()]
        except BaseException:
            opened.close()
            raise
    with open(archive, "rb") as file:
        start = file.read(64).lstrip()
    if start.startswith(b"<"):
        raise UnsafeArchive(f"{archive}: a web page, no archive: the server answered something else; download it again")
    if start.startswith(b"PK"):
        raise UnsafeArchive(f"{archive}: a zip archive whose end is missing; it is cut off, download it again")
    if not tarfile.is_tarfile(archive):
        raise UnsafeArchive(f"{archive}: neither a zip nor a tar archive, or damaged")
    opened = tarfile.open(archive)
    try:
        members = [_tar_member(archive, i) for i in opened.getmembers()]
        # tarfile takes a damaged header, and a file that ends between two members, for the end of the archive
        opened.fileobj.seek(opened.offset)
        end = opened.fileobj.read(tarfile.BLOCKSIZE)
        while opened.fileobj.read(_BLOCK):
            pass  # to the end: the checksum of a compressed file stands there
        if end != tarfile.NUL * tarfile.BLOCKSIZE:
            raise UnsafeArchive(f"{archive}: damaged or cut off after {len(members)} members; download it again")
    except BaseException:
        opened.close()
        raise
    return opened, members


def _tar_file(opened: tarfile.TarFile, member: _Member) -> IO[bytes]:
    source = opened.extractfile(member.handle)
    if source is None:
        raise tarfile.TarError("not a file")
    return source


def _zip_member(archive: Path, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made without Unix attributes
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafeArchive(f"{archive}: member {info.filename!r} is a link or a device; nothing was written")
    if info.flag_bits & 0x1:
        raise UnsafeArchive(f"{archive}: member {info.filename!r} is encrypted; nothing was written")
    return _Member(info.filename, info.file_size, info.is_dir(), info)


def _tar_member(archive: Path, info: tarfile.TarInfo) -> _Member:
    if not (info.isreg() or info.isdir()):
        raise UnsafeArchive(f"{archive}: member {info.name!r} is a link or a device; nothing was written")
    return _Member(info.name, info.size, info.isdir(), info)


def _target(archive: Path, folder: Path, member: _Member) -> Path:
    # Windows separators and drives are refused everywhere: the same archive is safe or not, on any machine.
    name = member.name
    path = PurePosixPath(name)
    if "\\" in name or ":" in name or "\0" in name or path.is_absolute() or ".." in path.parts or not path.parts:
        raise UnsafeArchive(f"{archive}: member {name!r} would leave {folder}; nothing was written")
    return folder / path
