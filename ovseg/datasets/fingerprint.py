"""One hash for all files of a data set, by which two copies are the same or not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from ovseg.datasets.errors import SampleError
from ovseg.datasets.io import mask_source, photo_source

MISSING = "missing"
_BLOCK = 1 << 20
Item = TypeVar("Item")
Made = TypeVar("Made")


def content_hash(source: str | os.PathLike | bytes | None) -> str:
    """SHA-256 of a file's bytes, or of bytes; :data:`MISSING` for a file that cannot be read."""
    if source is None:
        return MISSING
    if isinstance(source, bytes | bytearray | memoryview):
        return hashlib.sha256(source).hexdigest()
    try:
        digest = hashlib.sha256()
        with open(source, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()
    except OSError:
        return MISSING


def sample_hashes(info: Mapping[str, object]) -> tuple[str, str]:
    """Hashes of a sample's photo and label map; ``info`` as ``SegmentationDataset.get_data_info`` gives it."""
    digest = info.get("label_digest")
    labels = _hash_of(mask_source, info) if digest is None else digest(info.get("seg_map_path"))
    return _hash_of(photo_source, info), labels


def _hash_of(source: Callable[[Mapping[str, object]], str | bytes | None], info: Mapping[str, object]) -> str:
    try:
        return content_hash(source(info))
    except SampleError:
        return MISSING


def combine(hashes: Iterable[tuple[str, str, str]], settings: Mapping[str, object]) -> str:
    """The fingerprint: SHA-256 over name, photo and label map of every sample in order, and how labels are read."""
    digest = hashlib.sha256()
    for name, photo, labels in hashes:
        digest.update(f"{name}\t{photo}\t{labels}\n".encode())
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def label_settings(dataset: object) -> dict[str, object]:
    """What decides which class a label in a file is."""
    meta = dataset.metainfo
    label_map = getattr(dataset, "label_map", None)
    return {
        "classes": list(meta["classes"]),
        "ignore_index": meta.get("ignore_index"),
        "reduce_zero_label": bool(meta.get("reduce_zero_label")),
        "label_map": sorted(label_map.items()) if label_map else None,
    }


def dataset_fingerprint(dataset: object, workers: int = 4) -> str:
    """SHA-256 of a data set: the files of its samples in their order, names, and the settings of its labels.

    Where the data lie, what else lies there and how photos are resized is no part of it.

    Args:
        dataset: a :class:`ovseg.datasets.SegmentationDataset`.
        workers: threads that read.
    """

    def hashes(i: int) -> tuple[str, str, str]:
        info = dataset.get_data_info(i)
        return (str(info["name"]), *sample_hashes(info))

    return combine(in_order(hashes, range(len(dataset)), workers), label_settings(dataset))


def in_order(function, items: Iterable[Item], workers: int) -> Iterator[Made]:
    """``map`` with threads that are never more than a few items ahead of the reader."""
    if workers < 2:
        yield from map(function, items)
        return
    items = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(function, item) for item in islice(items, 2 * workers)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [pool.submit(function, item) for item in islice(items, 1)]
        finally:
            for future in waiting:
                future.cancel()
