"""COCO's formats: annotations with run lengths or polygons, whole data sets, panoptic pictures."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ovseg.polygons import join_holes, outlines
from ovseg.results.instances import instance_map
from ovseg.rle import MaskCodeError, box_of, check_size, decode_segmentation, encode_labels

VOID = 0
"""Panoptic id of pixels without a segment."""


def annotations_of(
    labels: np.ndarray,
    names: Sequence[str],
    image_id: int = 1,
    regions: np.ndarray | None = None,
    instances: bool = False,
    polygons: bool = False,
    confidence: np.ndarray | None = None,
) -> list[dict[str, object]]:
    """Annotations that together cover the labels exactly, without overlap.

    Args:
        labels: ``[H, W]`` class indices.
        names: one name per class; ``category_id`` is the index into them.
        image_id: of the photo, repeated in each annotation.
        regions: see :func:`ovseg.results.instances.instance_map`.
        instances: one annotation per thing instead of one per class.
        polygons: outlines along the pixels' edges (holes hang on the outline by a cut) instead of run lengths, which
            alone are exact when pycocotools draws them.
        confidence: ``[H, W]`` probabilities; their mean over the annotation is its ``score``.

    Returns:
        dicts of ``id, image_id, category_id, category_name, segmentation, area, bbox, iscrowd`` and ``score``.
    """
    numbers = instance_map(labels, regions) if instances else labels
    codes = encode_labels(numbers)
    found = []
    _, first, inverse, counts = np.unique(numbers, return_index=True, return_inverse=True, return_counts=True)
    sums = None if confidence is None else np.bincount(inverse.ravel(), weights=confidence.ravel().astype(np.float64))
    for number, (value, code) in enumerate(codes.items()):
        category = int(labels.flat[first[number]])
        box, size = box_of(code)
        annotation: dict[str, object] = {
            "id": number + 1,
            "image_id": image_id,
            "category_id": category,
            "category_name": names[category],
            "segmentation": code,
            "area": size,
            "bbox": box,
            "iscrowd": 0,
        }
        if polygons:
            parts = outlines(numbers == value)
            annotation["segmentation"] = [join_holes(rings).ravel().tolist() for rings in parts]
        if sums is not None:
            annotation["score"] = float(sums[number] / counts[number])
        found.append(annotation)
    return found


def dataset(
    photos: Iterable[tuple[str, tuple[int, int], list[dict[str, object]]]], names: Sequence[str]
) -> dict[str, object]:
    """A COCO file for ``pycocotools.coco.COCO``: images, annotations with ids of their own, categories.

    Args:
        photos: file name, ``(H, W)`` and the annotations of each photo.
        names: one name per class.
    """
    images: list[dict[str, object]] = []
    everything: list[dict[str, object]] = []
    for image_id, (file_name, (height, width), found) in enumerate(photos, 1):
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for annotation in found:
            everything.append({**annotation, "id": len(everything) + 1, "image_id": image_id})
    categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(names)]
    return {"images": images, "annotations": everything, "categories": categories}


class DatasetWriter:
    """Writes the file of :func:`dataset` photo by photo, in memory of one photo.

    Args:
        path: the file; complete after :meth:`close`.
        names: one name per class.
    """

    def __init__(self, path: str | Path, names: Sequence[str]) -> None:
        self._file = Path(path).open("w", encoding="utf-8")
        self._images = tempfile.TemporaryFile("w+", encoding="utf-8")
        self._names, self._photos, self._annotations = names, 0, 0
        self._file.write('{"annotations": [')

    def add(self, file_name: str, size: tuple[int, int], found: Iterable[Mapping[str, object]]) -> None:
        """One photo of ``(H, W)`` pixels with its annotations; ids are given here."""
        comma = ", " if self._photos else ""
        self._photos += 1
        image = {"id": self._photos, "file_name": file_name, "height": int(size[0]), "width": int(size[1])}
        self._images.write(comma + json.dumps(image))
        for annotation in found:
            comma = ", " if self._annotations else ""
            self._annotations += 1
            numbered = {**annotation, "id": self._annotations, "image_id": self._photos}
            self._file.write(comma + json.dumps(numbered))

    def close(self) -> None:
        """Write the images and categories behind the annotations."""
        self._file.write('], "images": [')
        self._images.seek(0)
        shutil.copyfileobj(self._images, self._file)
        categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(self._names)]
        self._file.write(f'], "categories": {json.dumps(categories)}}}\n')
        self._images.close()
        self._file.close()


def labels_from_annotations(
    found: Iterable[Mapping[str, Any]], size: tuple[int, int], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``[H, W]`` uint16 of annotations, later ones over earlier ones, and the bool map of what they cover.

    A ``category_name`` counts before a ``category_id``, which is an index into ``names``.

    Raises:
        MaskCodeError: naming the annotation with a damaged mask.
        ValueError: naming the annotation whose class is not among ``names``.
    """
    labels, covered = np.zeros(check_size(*size), np.uint16), np.zeros(size, bool)
    known = {name: i for i, name in enumerate(names)}
    for number, annotation in enumerate(found):
        who = f"annotation {annotation.get('id', number)}"
        name, index = annotation.get("category_name"), annotation.get("category_id")
        if name is not None and name not in known:
            raise ValueError(f"{who} is of class {name!r}, which is not among the {len(names)} names")
        if name is not None:
            index = known[name]
        elif not isinstance(index, int) or not 0 <= index < len(names):
            raise ValueError(f"{who} has category_id {index!r}; an index below {len(names)} is needed")
        try:
            mask = decode_segmentation(annotation.get("segmentation"), size)
        except MaskCodeError as error:
            raise MaskCodeError(f"{who}: {error}") from None
        labels[mask] = index
        covered |= mask
    return labels, covered


def panoptic(
    labels: np.ndarray, names: Sequence[str], regions: np.ndarray | None = None, instances: bool = False
) -> tuple[np.ndarray, list[dict[str, object]]]:
    """COCO's panoptic picture uint8 ``[H, W, 3]`` (id = R + 256 G + 65536 B) and its ``segments_info``."""
    numbers = (instance_map(labels, regions) if instances else labels).astype(np.int64)
    segments = []
    ids, first = np.unique(numbers, return_index=True)
    for (value, code), at in zip(encode_labels(numbers).items(), first, strict=True):
        category = int(labels.flat[at])
        box, size = box_of(code)
        segments.append(
            {
                "id": value + 1,
                "category_id": category,
                "category_name": names[category],
                "area": size,
                "bbox": box,
                "iscrowd": 0,
            }
        )
    if len(ids) and int(ids[-1]) + 1 >= 2**24:
        raise ValueError(f"{len(ids)} segments: a panoptic picture holds ids below 2**24; leave small things out")
    numbers = numbers + 1
    return np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1).astype(np.uint8), segments


def labels_from_panoptic(
    picture: np.ndarray, segments: Iterable[Mapping[str, Any]], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``[H, W]`` uint16 of a panoptic picture, and the bool map of the pixels that have a segment.

    Raises:
        ValueError: for a picture that is not uint8 ``[H, W, 3]``, an id without a segment, or an unknown class.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a panoptic picture is uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}")
    ids = picture.astype(np.int64) @ np.array([1, 256, 65536])
    known = {name: i for i, name in enumerate(names)}
    classes = {}
    for segment in segments:
        name, index = segment.get("category_name"), segment.get("category_id")
        category = known.get(name) if name is not None else index
        if not isinstance(category, int) or not 0 <= category < len(names):
            raise ValueError(
                f"segment {segment.get('id')!r} is of class {name or index!r}, which is not among the names"
            )
        classes[segment.get("id")] = category
    values, inverse = np.unique(ids, return_inverse=True)
    unknown = [int(v) for v in values if v != VOID and int(v) not in classes]
    if unknown:
        raise ValueError(f"the picture holds id {unknown[0]}, which no segment has")
    table = np.array([classes.get(int(v), 0) for v in values], np.uint16)
    return table[inverse].reshape(ids.shape), ids != VOID
