"""What a shard's results are written as. Every writer gives the same bytes for the same results, in any process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ovseg.datasets.files import write_labels
from ovseg.datasets.tables import need_pyarrow
from ovseg.errors import SetupError
from ovseg.results import SegmentationResult
from ovseg.results.coco import panoptic
from ovseg.results.images import encode_png
from ovseg.rle import encode_labels

_ID_STEP = 1 << 24
"""Ids of COCO annotations: the photo's number times this, plus the number in the photo."""
_COMPRESSION = "zstd"


class Writer(Protocol):
    """Writes the results of one vocabulary into one folder.

    Args:
        folder: of this vocabulary in the shard; made at the first file.
        names: one name per class.
        instances: things apart, where the format knows things.
    """

    def __init__(self, folder: Path, names: Sequence[str], instances: bool) -> None: ...

    def add(self, number: int, name: str, result: SegmentationResult) -> None:
        """One result; called in the order of the photos.

        Args:
            number: of the photo in the source, from 0.
            name: of the photo in the source.
        """

    def close(self) -> None:
        """Finish the shard's files."""


class RleWriter:
    """``rle.parquet``: a row per photo with COCO's run-length code of every class that occurs.

    Columns: ``number`` int64, ``name`` string, ``height`` and ``width`` int32, ``classes`` list of int32, ``counts``
    list of string (COCO's compressed code), ``pixels`` list of int64.
    """

    def __init__(self, folder: Path, names: Sequence[str], instances: bool) -> None:
        self._path = folder / "rle.parquet"
        self._rows: list[dict[str, object]] = []

    def add(self, number: int, name: str, result: SegmentationResult) -> None:
        codes = encode_labels(result.labels)
        pixels = np.bincount(result.labels.ravel(), minlength=len(result.names))
        height, width = result.labels.shape
        self._rows.append(
            {
                "number": number,
                "name": name,
                "height": height,
                "width": width,
                "classes": list(codes),
                "counts": [code["counts"] for code in codes.values()],
                "pixels": [int(pixels[index]) for index in codes],
            }
        )

    def close(self) -> None:
        pyarrow = need_pyarrow("--format rle")
        import pyarrow.parquet as parquet

        columns = [
            ("number", pyarrow.int64()),
            ("name", pyarrow.string()),
            ("height", pyarrow.int32()),
            ("width", pyarrow.int32()),
            ("classes", pyarrow.list_(pyarrow.int32())),
            ("counts", pyarrow.list_(pyarrow.string())),
            ("pixels", pyarrow.list_(pyarrow.int64())),
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        table = pyarrow.Table.from_pylist(self._rows, schema=pyarrow.schema(columns))
        parquet.write_table(table, self._path, compression=_COMPRESSION)


class PngWriter:
    """``labels/NUMBER_NAME.png``: class indices, 8 bit up to 256 classes, else 16."""

    def __init__(self, folder: Path, names: Sequence[str], instances: bool) -> None:
        self._folder, self._classes = folder / "labels", len(names)

    def add(self, number: int, name: str, result: SegmentationResult) -> None:
        write_labels(self._folder / picture_name(number, name), result.labels, classes=self._classes)

    def close(self) -> None:
        """Nothing is left to do."""


class CocoWriter:
    """``coco.json``: images, annotations with run lengths, categories; ids are unique over all shards."""

    def __init__(self, folder: Path, names: Sequence[str], instances: bool) -> None:
        self._path, self._names, self._instances = folder / "coco.json", names, instances
        self._images: list[dict[str, object]] = []
        self._annotations: list[dict[str, object]] = []

    def add(self, number: int, name: str, result: SegmentationResult) -> None:
        height, width = result.labels.shape
        self._images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
        for annotation in result.to_coco(number + 1, instances=self._instances):
            annotation["id"] = number * _ID_STEP + int(str(annotation["id"]))
            self._annotations.append(annotation)

    def close(self) -> None:
        categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(self._names)]
        _dump(self._path, {"images": self._images, "annotations": self._annotations, "categories": categories})


class PanopticWriter:
    """``panoptic/NUMBER_NAME.png`` and ``panoptic.json``: COCO's panoptic pictures and their segments."""

    def __init__(self, folder: Path, names: Sequence[str], instances: bool) -> None:
        self._folder, self._names, self._instances = folder, names, instances
        self._images: list[dict[str, object]] = []
        self._annotations: list[dict[str, object]] = []

    def add(self, number: int, name: str, result: SegmentationResult) -> None:
        regions = result.regions if self._instances else None
        picture, segments = panoptic(result.labels, result.names, regions, self._instances)
        path = self._folder / "panoptic" / picture_name(number, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(picture))
        height, width = result.labels.shape
        self._images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
        self._annotations.append({"image_id": number + 1, "file_name": path.name, "segments_info": segments})

    def close(self) -> None:
        things = int(self._instances)
        categories = [
            {"id": i, "name": name, "supercategory": "", "isthing": things} for i, name in enumerate(self._names)
        ]
        _dump(
            self._folder / "panoptic.json",
            {"images": self._images, "annotations": self._annotations, "categories": categories},
        )


WRITERS: Mapping[str, Callable[[Path, Sequence[str], bool], Writer]] = {
    "rle": RleWriter,
    "png": PngWriter,
    "coco": CocoWriter,
    "panoptic": PanopticWriter,
}
"""Formats by name."""


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Formats, each once.

    Raises:
        SetupError: for an unknown one or none, and for ``'rle'`` without pyarrow.
    """
    found = tuple(dict.fromkeys(formats))
    unknown = [name for name in found if name not in WRITERS]
    if unknown or not found:
        raise SetupError(f"format {unknown[0] if unknown else ''!r} is none; there are {', '.join(WRITERS)}")
    if "rle" in found:
        need_pyarrow("format 'rle'")
    return found


def picture_name(number: int, name: str) -> str:
    """Name of a photo's picture: unique by its number, and safe whatever the photo is called.

    >>> picture_name(7, "../day 1/a.jpg")
    '00000007_day_1_a.jpg.png'
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._")
    return f"{number:08d}_{plain[-80:].lstrip('._')}.png"


def _dump(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")
