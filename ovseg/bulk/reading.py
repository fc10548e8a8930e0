"""Results of a job, read back one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovseg.bulk.manifest import SHARDS, FolderError, read_manifest, read_settings, what_is_wrong
from ovseg.bulk.writers import picture_name
from ovseg.datasets.io import read_image
from ovseg.datasets.places import read_bytes
from ovseg.datasets.sources import list_source
from ovseg.datasets.tables import need_pyarrow
from ovseg.results import SegmentationResult

_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)
"""What reading results that are others than were written may raise."""


@dataclass(frozen=True)
class Found:
    """One photo of a job.

    Attributes:
        number: in the source, from 0.
        name: in the source.
        words: name of the vocabulary.
        result: its labels; ``None`` if it failed.
        error: why it failed; ``None`` if it did not.
    """

    number: int
    name: str
    words: str
    result: SegmentationResult | None
    error: str | None = None


def read(
    folder: str | Path,
    words: str | None = None,
    *,
    format: str | None = None,
    source: str | None = None,
    verify: bool = False,
) -> Iterator[Found]:
    """All photos of a job that are finished, failed ones too, in the order of the source; one shard in memory.

    Args:
        folder: of the job.
        words: name of a vocabulary; ``None``: of the only one.
        format: which of the job's formats is read; ``None``: the quickest.
        source: the job's source, to fill ``result.image``; ``None``: it is black.
        verify: compare every file with its SHA-256 first.

    Raises:
        FolderError: at the call: for a folder without a job, or a vocabulary or format that it has not; later: for a
            shard that is damaged.
        SetupError: for a source that cannot be read.
    """
    out = Path(folder)
    settings = read_settings(out)["made_with"]
    words = _choose(words, sorted(settings["vocabularies"]), f"vocabulary of {out}", alone=True)
    kind = _choose(format, [kind for kind in READERS if kind in settings["formats"]], f"format of {out}")
    names = tuple(settings["vocabularies"][words]["names"])
    pixels = None if source is None else _pixels(source)

    def work() -> Iterator[Found]:
        for shard in shard_folders(out):
            manifest = read_manifest(shard)
            if problem := what_is_wrong(shard, manifest, verify):
                raise FolderError(f"{problem}: run the job again to make this shard anew")
            results = results_of(shard, manifest, words, kind, names)
            for photo in manifest["photos"]:
                number, name = photo["number"], photo["name"]
                if "error" in photo:
                    yield Found(number, name, words, None, photo["error"])
                    continue
                result = next(results)
                if pixels is not None:
                    result.image = pixels(name)
                yield Found(number, name, words, result)

    return work()


def shard_folders(out: Path) -> list[Path]:
    """Folders of the finished shards, in order."""
    return sorted(path for path in (out / SHARDS).glob("*") if not path.name.startswith("."))


def results_of(
    shard: Path, manifest: Mapping[str, Any], words: str, kind: str, names: tuple[str, ...]
) -> Iterator[SegmentationResult]:
    """Results of a shard's photos, but those that failed, in their order.

    Raises:
        FolderError: if they are not those of the manifest.
    """
    photos = [photo for photo in manifest["photos"] if "error" not in photo]
    found = READERS[kind](shard / words, photos, names)
    for photo in photos:
        try:
            result = next(found)
        except (*_DAMAGED, StopIteration) as error:
            raise FolderError(f"{shard / words}: photo {photo['name']} cannot be read ({error!r})") from error
        if result.labels.shape != (photo["height"], photo["width"]):
            raise FolderError(f"{shard / words}: photo {photo['name']} has another size than in the manifest")
        yield result


def _choose(wanted: str | None, there: list[str], what: str, alone: bool = False) -> str:
    if wanted is None and (len(there) == 1 or not alone):
        return there[0]
    if wanted is None:
        raise FolderError(f"which {what}? There are {', '.join(there)}")
    if wanted not in there:
        raise FolderError(f"{wanted!r} is no {what}; there are {', '.join(there)}")
    return wanted


def _pixels(source: str) -> Callable[[str], np.ndarray]:
    places = {photo.name: photo.place for photo in list_source(source).photos}

    def pixels(name: str) -> np.ndarray:
        if name not in places:
            raise FolderError(f"{source} has no photo {name!r}: give the source of the job")
        return read_image(read_bytes(places[name]))

    return pixels


def _rle(folder: Path, photos: list[dict[str, Any]], names: tuple[str, ...]) -> Iterator[SegmentationResult]:
    pyarrow = need_pyarrow("reading --format rle")
    import pyarrow.parquet as parquet

    try:
        rows = parquet.read_table(folder / "rle.parquet").to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"rle.parquet: {' '.join(str(error).split())}") from error
    for photo, row in zip(photos, rows, strict=False):
        size = _same_size(photo, row)
        codes = [
            {"category_id": index, "segmentation": {"size": list(size), "counts": counts}}
            for index, counts in zip(row["classes"], row["counts"], strict=True)
        ]
        yield SegmentationResult.from_coco(codes, names, size)


def _png(folder: Path, photos: list[dict[str, Any]], names: tuple[str, ...]) -> Iterator[SegmentationResult]:
    for photo in photos:
        yield SegmentationResult.from_labels(folder / "labels" / picture_name(photo["number"], photo["name"]), names)


def _coco(folder: Path, photos: list[dict[str, Any]], names: tuple[str, ...]) -> Iterator[SegmentationResult]:
    data = json.loads((folder / "coco.json").read_text(encoding="utf-8"))
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in data["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(_by_index(annotation))
    for photo, image in zip(photos, data["images"], strict=False):
        yield SegmentationResult.from_coco(by_image[image["id"]], names, _same_size(photo, image))


def _panoptic(folder: Path, photos: list[dict[str, Any]], names: tuple[str, ...]) -> Iterator[SegmentationResult]:
    data = json.loads((folder / "panoptic.json").read_text(encoding="utf-8"))
    for annotation in data["annotations"]:
        picture = read_image(folder / "panoptic" / annotation["file_name"])
        yield SegmentationResult.from_panoptic(picture, map(_by_index, annotation["segments_info"]), names)


def _same_size(photo: dict[str, Any], row: dict[str, Any]) -> tuple[int, int]:
    """``(H, W)`` of a row of results, which must be the photo's: a damaged one may ask for any amount of memory."""
    size = (row["height"], row["width"])
    if size != (photo["height"], photo["width"]):
        raise ValueError(f"its size is {size}, not the manifest's")
    return size


def _by_index(annotation: dict[str, Any]) -> dict[str, Any]:
    """Without the class's name: two classes may be shown under one."""
    return {key: value for key, value in annotation.items() if key != "category_name"}


READERS: Mapping[str, Callable[[Path, list[dict[str, Any]], tuple[str, ...]], Iterator[SegmentationResult]]] = {
    "rle": _rle,
    "png": _png,
    "panoptic": _panoptic,
    "coco": _coco,
}
"""What reads each format of a shard, the quickest first."""
