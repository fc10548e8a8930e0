"""Photos and label maps out of files that hold many: webdataset's tars, parquet and arrow with encoded pictures.

Bytes are written as they are: a photo is not compressed again, a label map keeps its values.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ovseg.datasets.convert.jobs import ConversionError
from ovseg.datasets.files import atomic_path
from ovseg.datasets.packed import safe_name
from ovseg.datasets.sources import MASK_COLUMNS, MASK_ENDINGS

ENDINGS = {".tar": "tar", ".parquet": "parquet", ".arrow": "arrow"}
_PHOTOS = ("jpg", "jpeg", "png", "webp", "image", "img", "photo")
_IMAGE_COLUMNS = ("image", "img", "photo", "pixel_values")
_SIGNATURES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"BM": ".bmp",
    b"GIF8": ".gif",
}


@dataclass(frozen=True)
class Record:
    """A photo and its label map, encoded; ``None``: there is none.

    Attributes:
        name: of the sample, relative, without ending.
        photo, mask: bytes of picture files.
    """

    name: str
    photo: bytes | None
    mask: bytes | None


@dataclass(frozen=True)
class Unpacked:
    """What :func:`unpack` wrote.

    Attributes:
        samples: how many.
        failures: ``{sample: reason}`` of those that were left out.
    """

    samples: int
    failures: Mapping[str, str]


def unpack(
    sources: Sequence[str | Path],
    out: Path,
    image: str | None = None,
    mask: str | None = None,
    key: str | None = None,
) -> Unpacked:
    """Write ``out/images/NAME.*`` and ``out/masks/NAME.*`` of all samples, in memory that does not grow with them.

    Args:
        sources: files (``.tar``, ``.parquet``, ``.arrow``) or folders of them.
        out: folder, made if need be.
        image, mask: columns of the pictures, or in tars endings after the sample's name; ``None``: the usual names.
        key: column of the samples' names; ``None``: the name of the file and the number of the row.

    Raises:
        ConversionError: for files that are none, damaged, or without such columns.
    """
    failures, written = {}, 0
    seen: dict[str, str] = {}
    for path in _files(sources):
        kind = ENDINGS[path.suffix.lower()]
        records = _of_tar(path, image, mask) if kind == "tar" else _of_table(path, kind, image, mask, key)
        for record in records:
            where = f"{path}: {record.name}"
            try:
                name = safe_name(record.name)
                if name in seen:
                    raise ValueError(f"{seen[name]} has a sample of this name, too")
                photo, label = _ending("photo", record.photo), _ending("label map", record.mask)
            except ValueError as error:
                failures[where] = str(error)
                continue
            seen[name] = str(path)
            for folder, ending, data in (("images", photo, record.photo), ("masks", label, record.mask)):
                with atomic_path(out / folder / f"{name}{ending}") as temporary:
                    temporary.write_bytes(data or b"")
            written += 1
    return Unpacked(written, failures)


def _files(sources: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            here = sorted(p for p in source.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
            # datasets' own cache of what a column was before
            found += [p for p in here if not p.name.startswith(("cache-", "."))]
            if not here:
                raise ConversionError(f"{source} holds no file *{' / *'.join(ENDINGS)}")
        elif not source.is_file():
            raise ConversionError(f"{source} does not exist")
        elif source.suffix.lower() not in ENDINGS:
            raise ConversionError(f"{source}: only {', '.join(ENDINGS)} hold many samples; give a folder by --images")
        else:
            found.append(source)
    return found


def _of_tar(path: Path, image: str | None, mask: str | None) -> Iterator[Record]:
    """Samples of a tar: files that follow each other and share their name up to the first dot."""
    photos = (image.lower().lstrip("."),) if image else _PHOTOS
    masks = (mask.lower().lstrip("."),) if mask else MASK_ENDINGS
    last, parts = None, {}
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                folder, base = posixpath.split(member.name)
                if not member.isreg() or base.startswith("."):
                    continue
                stem, _, ending = base.partition(".")
                name = posixpath.join(folder, stem)
                if name != last:
                    if last is not None:
                        yield _record(last, parts, photos, masks)
                    last, parts = name, {}
                if ending.lower() in (*photos, *masks):
                    parts[ending.lower()] = tar.extractfile(member).read()
            if last is not None:
                yield _record(last, parts, photos, masks)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ConversionError(f"{path} is damaged or cannot be read: {error}") from error


def _record(name: str, parts: Mapping[str, bytes], photos: Iterable[str], masks: Iterable[str]) -> Record:
    label = next((ending for ending in masks if ending in parts), None)
    photo = next((ending for ending in photos if ending in parts and ending != label), None)
    if label is None and photo is not None and photo != "png" and "png" in parts:
        label = "png"  # 000.jpg with 000.png
    return Record(name, parts.get(photo or ""), parts.get(label or ""))


def _of_table(path: Path, kind: str, image: str | None, mask: str | None, key: str | None) -> Iterator[Record]:
    """Rows of a table with encoded pictures, as Hugging Face keeps them: bytes, or a struct with ``bytes``."""
    arrow = _import_pyarrow()
    row = 0
    try:
        for batch in _batches(arrow, path, kind):
            names = batch.schema.names
            columns = [
                _column(path, names, given, usual, what)
                for given, usual, what in ((image, _IMAGE_COLUMNS, "--image"), (mask, MASK_COLUMNS, "--mask"))
            ]
            if key is not None and key not in names:
                raise ConversionError(f"{path} has no column {key!r}; there are {', '.join(names)}")
            for i in range(batch.num_rows):
                name = f"{path.stem}/{row:08d}" if key is None else str(batch.column(key)[i].as_py())
                photo, label = (_bytes(path, column, batch.column(column)[i].as_py()) for column in columns)
                yield Record(name, photo, label)
                row += 1
    except (arrow.ArrowException, OSError) as error:
        raise ConversionError(f"{path} is damaged or cannot be read: {error}") from error


def _batches(arrow: ModuleType, path: Path, kind: str) -> Iterator:
    if kind == "parquet":
        with arrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=16)
        return
    with arrow.memory_map(str(path)) as source:
        try:
            reader = arrow.ipc.open_stream(source)  # as datasets.save_to_disk writes it
        except arrow.ArrowInvalid:
            reader = arrow.ipc.open_file(source)
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
            return
        yield from reader


def _import_pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise ConversionError(f"parquet and arrow need pyarrow ({error}): pip install 'ovseg[scale]'") from error
    return pyarrow


def _column(path: Path, names: Sequence[str], given: str | None, usual: Sequence[str], option: str) -> str:
    found = given if given in names else None if given else next((name for name in usual if name in names), None)
    if found is None:
        raise ConversionError(f"{path}: which column is it? Name it with {option}: {', '.join(names)}")
    return found


def _bytes(path: Path, column: str, value: object) -> bytes | None:
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if value is not None and not isinstance(value, bytes):
        raise ConversionError(f"{path}: column {column!r} holds no encoded pictures")
    return value


def _ending(what: str, data: bytes | None) -> str:
    if data is None:
        raise ValueError(f"it has no {what}")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    found = next((ending for start, ending in _SIGNATURES.items() if data.startswith(start)), None)
    if found is None:
        raise ValueError(f"its {what} is no JPEG, PNG, TIFF, BMP, GIF or WebP file")
    return found
