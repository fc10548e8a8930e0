"""The photos of a folder, a list, tar shards or tables, each with a name, always in the same order; also with the label
maps beside them."""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from ovseg.datasets.files import dangling, find_files, list_files
from ovseg.datasets.io import IMAGE_FORMATS
from ovseg.datasets.places import (
    DAMAGED_ARCHIVE,
    Place,
    StoreError,
    file_system,
    last_name,
    open_file,
    open_table,
    split_address,
)
from ovseg.datasets.tables import TABLES, Table, need_pyarrow
from ovseg.datasets.web import is_url, without_password
from ovseg.errors import SetupError

LISTS = (".txt", ".lst", ".list")
TARS = (".tar",)
_PACKED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_FOREIGN = (".heic", ".heif", ".avif", ".jp2", ".jxl")
"""Photos that not every machine reads: they are tried, so that the reason is recorded."""
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "img", "photo")
PHOTO_ENDINGS = ("jpg", "jpeg", "webp")
"""Endings that are the photo of a sample of several pictures; the others may be label maps."""
MASK_ENDINGS = (
    "mask.png",
    "seg.png",
    "label.png",
    "labels.png",
    "annotation.png",
    "gt.png",
    "mask.tif",
    "seg.tif",
    "seg",
    "mask",
)
"""Endings of label maps in tars, the likeliest first."""
MASK_COLUMNS = ("annotation", "mask", "label", "labels", "segmentation", "semantic_seg", "segmentation_mask", "seg")
"""Columns of label maps in tables, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of a source.

    Attributes:
        name: what it is called, once in the source: its path below the folder, or that of the tar or parquet file and
            its name in there. The plan, and so the results, go by it.
        place: where its bytes are.
    """

    name: str
    place: Place


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        kind: ``'photos'``, ``'tar'`` or ``'parquet'`` (arrow too).
        photos: in the order in which they are worked on.
        notes: what was left out, a line each.
    """

    kind: str
    photos: list[Photo]
    notes: tuple[str, ...] = ()


def photo_suffixes() -> frozenset[str]:
    """Endings of photos, lower case, with the dot."""
    Image.init()
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in IMAGE_FORMATS}
    return frozenset(known | {*_FOREIGN})


def list_source(source: str, image: str | None = None, key: str | None = None) -> Listing:
    """The photos of a source.

    Args:
        source: a folder (photos, or tar shards, or tables in it and below), a quoted glob, a list (``.txt``,
            ``.lst``: a path or address per line, relative to the list's folder), a tar, parquet or arrow file, each
            here or behind fsspec (``s3://bucket/photos``, ``zip://::photos.zip``). ``{000..019}`` and ``{a,b}`` stand
            for several, as with webdataset.
        image: column of the photo (parquet), or ending of the photo among a sample's files (tar); ``None``: found.
        key: column that names the photos (parquet); ``None``: the file and the number of the row.

    Raises:
        SetupError: for a source that holds no photos, that is unclear or cannot be read.
    """
    found = [part for pattern in braces(source) for part in source_files(pattern)]
    files = list(dict.fromkeys(found))
    notes: list[str] = []
    kind = source_kind(source, files)
    if kind == "list":
        photos = [photo for root, path, _ in files for photo in _of_list(root, path)]
        kind = "photos"
    elif kind == "tar":
        photos = [
            photo for root, path, name in files if is_of(name, TARS) for photo in _of_tar(root, path, name, image)
        ]
    elif kind == "parquet":
        chosen = [file for file in files if is_of(file[1], TABLES)]
        photos = [photo for root, path, name in chosen for photo in _of_table(root, path, name, image, key)]
    else:
        suffixes = photo_suffixes()
        chosen = [file for file in files if _suffix(file[1]) in suffixes]
        photos = [Photo(name, Place(path, root)) for root, path, name in chosen]
        left = Counter(_suffix(path) or "without suffix" for _, path, _ in files if _suffix(path) not in suffixes)
        if left:
            notes.append(
                "left out, no photos by their names: " + ", ".join(f"{n} x {k}" for k, n in sorted(left.items()))
            )
    if not photos:
        raise SetupError(f"no photos in {shown(source)}")
    # file names that are no UTF-8 cannot stand in JSON and parquet
    photos = [p if p.name.isprintable() else Photo(utf8_name(p.name), p.place) for p in photos]
    by_name: dict[str, Photo] = {}
    for photo in photos:
        by_name.setdefault(photo.name, photo)
    once = list(by_name.values())
    if len(once) < len(photos):
        double = next(name for name, n in Counter(photo.name for photo in photos).items() if n > 1)
        if kind != "photos":
            raise SetupError(f"{double!r} names several photos of {shown(source)}: give names that differ, or no --key")
        notes.append(f"named twice and taken once: {len(photos) - len(once)} ({double}, ...)")
    return Listing(kind, once, tuple(notes))


def braces(pattern: str) -> list[str]:
    """What ``{000..019}`` and ``{a,b}`` stand for.

    >>> braces("day-{08..10}.tar")
    ['day-08.tar', 'day-09.tar', 'day-10.tar']
    """
    parts = re.split(r"\{([^{}]*(?:\.\.|,)[^{}]*)\}", pattern)
    if len(parts) == 1 or os.path.lexists(pattern):
        return [pattern]
    choices: list[list[str]] = []
    for number, part in enumerate(parts):
        numbers = re.fullmatch(r"(\d+)\.\.(\d+)", part) if number % 2 else None
        if numbers is not None:
            first, last = int(numbers[1]), int(numbers[2])
            choices.append([str(n).zfill(len(numbers[1])) for n in range(first, last + 1)])
        else:
            choices.append(part.split(",") if number % 2 else [part])
    return ["".join(chosen) for chosen in product(*choices)]


def source_files(pattern: str) -> Iterator[tuple[str, str, str]]:
    """Store, path and name of the files that a pattern without braces names, sorted by name."""
    root, path = split_address(pattern)
    if root:
        yield from _files_in_store(root, path, pattern)
        return
    if not os.path.lexists(path) and not is_url(path) and not any(sign in path for sign in "*?["):
        raise SetupError(f"there is no {path}")
    try:
        if os.path.isdir(path):
            listing = list_files(path)
            # what `datasets` has kept of former states of a table
            listing.files = [f for f in listing.files if not (f.name.startswith("cache-") and f.suffix == ".arrow")]
            if listing.problems:
                where, why = next(iter(listing.problems.items()))
                if not dangling(where):  # a photo whose link leads nowhere is recorded, a folder is not passed over
                    raise SetupError(f"{where}: {why}")
            found = [(str(file), file.relative_to(path).as_posix()) for file in listing.files]
        else:
            files = find_files(path).files
            top = os.path.commonpath([os.path.abspath(file.parent) for file in files]) if files else ""
            found = [(str(file), Path(os.path.abspath(file)).relative_to(top).as_posix()) for file in files]
    except OSError as error:
        raise SetupError(f"cannot look into {path}: {error.strerror or error}") from error
    yield from (("", file, name) for file, name in sorted(found, key=lambda both: both[1]))


def _files_in_store(root: str, path: str, pattern: str) -> Iterator[tuple[str, str, str]]:
    system = file_system(root)
    try:
        if any(sign in path for sign in "*?["):
            found = [str(file) for file in system.glob(path) if not system.isdir(file)]
            top = posixpath.commonpath([posixpath.dirname(file) for file in found]) if found else ""
        else:
            found = [str(file) for file in system.find(path)]
            top = posixpath.dirname(path) if found == [path] else path
    except FileNotFoundError:
        found, top = [], ""
    except (OSError, ValueError, *DAMAGED_ARCHIVE) as error:
        raise SetupError(f"cannot look into {without_password(pattern)}: {error}") from error
    if not found:
        raise SetupError(f"there is nothing at {without_password(pattern)}")
    for file in sorted(found):
        if not any(part.startswith(".") for part in posixpath.relpath(file, top or ".").split("/")):
            yield root, file, posixpath.relpath(file, top or ".")


def source_kind(source: str, files: list[tuple[str, str, str]]) -> str:
    """What the files of a source are."""
    names = [path for _, path, _ in files]
    packed = next((path for path in names if path.lower().endswith(_PACKED_TARS)), None)
    if packed is not None:
        raise SetupError(f"{last_name(packed)} is compressed, photos cannot be reached in it: unpack it to .tar first")
    suffixes = photo_suffixes()
    kinds = {
        "photos": sum(_suffix(path) in suffixes for path in names),
        "tar": sum(is_of(path, TARS) for path in names),
        "parquet": sum(is_of(path, TABLES) for path in names),
    }
    there = [kind for kind, count in kinds.items() if count]
    if len(there) > 1:
        raise SetupError(
            f"{shown(source)} holds {' and '.join(f'{kinds[kind]} {kind}' for kind in there)}: name one kind with a "
            "glob, e.g. 'DIR/**/*.tar'"
        )
    if not there and names and all(is_of(path, LISTS) for path in names) and not os.path.isdir(source):
        return "list"
    return there[0] if there else "photos"


def _of_list(root: str, path: str) -> Iterator[Photo]:
    try:
        with open_file(root, path) as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"cannot read the list {path}: {error}") from error
    folder = posixpath.dirname(path) if root else os.path.dirname(path)
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if "\0" in entry:
            raise SetupError(f"the list {path}, line {number}, holds a NUL byte: it is no text, or damaged")
        if "://" in entry:
            try:
                store, inside = split_address(entry)
            except SetupError as error:
                raise SetupError(f"the list {path}, line {number}: {error}") from error
            yield Photo(without_password(entry), Place(inside, store))
        else:
            yield Photo(entry, Place(posixpath.join(folder, entry) if root else os.path.join(folder, entry), root))


def _of_tar(root: str, path: str, name: str, image: str | None) -> Iterator[Photo]:
    """Photos of a tar file: of several pictures of a sample, the first that is surely no label map."""
    endings = {suffix[1:] for suffix in photo_suffixes()}
    wanted = None if image is None else plain_ending(image)
    for _, parts in tar_samples(root, path, name):
        able = [(e, p) for e, p in parts if e == wanted or (wanted is None and e in endings)]
        likely = [photo for ending, photo in able if ending in PHOTO_ENDINGS] or [photo for _, photo in able]
        yield from likely[:1]


def tar_samples(root: str, path: str, name: str) -> Iterator[tuple[str, list[tuple[str, Photo]]]]:
    """Samples of a tar file in webdataset's layout: files that follow each other and share their name up to the first
    dot. Each is given as that name and ``(what follows the dot, file)``."""
    last: str | None = None
    sample: list[tuple[str, Photo]] = []
    try:
        with open_file(root, path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isreg() or member.issparse() or last_name(member.name).startswith("."):
                    continue
                folder, base = posixpath.split(member.name)
                stem, _, ending = base.partition(".")
                key = posixpath.join(folder, stem)
                if key != last:
                    if last is not None:
                        yield last, sample
                    last, sample = key, []
                place = Place(path, root, member.offset_data, member.size)
                sample.append((ending.lower(), Photo(f"{name}/{member.name}", place)))
            if last is not None:
                yield last, sample
            # tarfile takes a cut or damaged header for the end
            file.seek(tar.offset)
            rest = file.read(tarfile.BLOCKSIZE)
            if len(rest) < tarfile.BLOCKSIZE or any(rest):
                raise tarfile.ReadError(f"after {tar.offset} bytes there is neither a file nor the end")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise StoreError(f"tar file {path} is damaged or cannot be read: {error}") from error


def plain_ending(ending: str) -> str:
    return ending.lower().lstrip(".")


def _of_table(root: str, path: str, name: str, image: str | None, key: str | None) -> Iterator[Photo]:
    table = open_table(root, path)
    column = choose_column(picture_columns(table.schema), path, image, IMAGE_COLUMNS, "photos", "--image")
    for row, label in table_rows(table, path, key):
        called = f"{name}/{row}" if label is None else str(label)
        yield Photo(called, Place(path, root, row=row, column=column))


def table_rows(table: Table, path: str, key: str | None) -> Iterator[tuple[int, object]]:
    """Number of every row and what the key column says there; ``None`` without one.

    Raises:
        SetupError: for a key that is no column, or a damaged one.
    """
    row = 0
    if key is not None and key not in table.schema.names:
        raise SetupError(f"{path} has no column {key!r}; there are {', '.join(table.schema.names)}")
    pyarrow = need_pyarrow("photos in tables")
    for group, end in enumerate(table.ends):
        labels: Iterable[object] = [None] * (end - row)
        if key is not None:
            try:
                labels = table.column(group, key).to_pylist()
            except (OSError, pyarrow.ArrowException) as error:
                fault = " ".join(str(error).split())
                raise StoreError(f"{path}: column {key!r} is damaged from row {row} on: {fault}") from error
        for label in labels:
            yield row, label
            row += 1


def picture_columns(schema: Any) -> list[str]:
    """Columns that hold bytes, or structs with such, as Hugging Face keeps pictures."""
    import pyarrow.types as types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            index = kind.get_field_index("bytes")
            return index >= 0 and holds_bytes(kind.field(index).type)
        return types.is_binary(kind) or types.is_large_binary(kind)

    return [field.name for field in schema if holds_bytes(field.type)]


def choose_column(
    able: Sequence[str], path: str, given: str | None, usual: Sequence[str], what: str, option: str
) -> str:
    """The column that was named, or the one that is usual.

    Raises:
        SetupError: where that is unclear.
    """
    if given is not None:
        if given not in able:
            raise SetupError(f"column {given!r} of {path} holds no bytes; such are {', '.join(able) or 'none'}")
        return given
    found = next((column for column in usual if column in able), able[0] if len(able) == 1 else None)
    if found is None:
        raise SetupError(f"which column of {path} holds the {what}? Name it with {option}: {', '.join(able) or 'none'}")
    return found


def is_of(path: str, suffixes: tuple[str, ...]) -> bool:
    return path.lower().endswith(suffixes)


def _suffix(path: str) -> str:
    return posixpath.splitext(last_name(path))[1].lower()


def shown(source: str) -> str:
    return without_password(source) if "://" in source else source


def utf8_name(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
