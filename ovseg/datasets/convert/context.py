"""Pascal Context: 60 classes from the Detail annotations, 459 from the original ``.mat`` files."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np

from ovseg.datasets.class_names import load_class_names
from ovseg.datasets.convert.jobs import ConversionError, Job, broken, read_json, read_names, require
from ovseg.datasets.convert.matlab import read_matrix
from ovseg.datasets.files import atomic_path
from ovseg.rle import MaskCodeError, check_size, decode_segmentation


def context_ids() -> dict[int, int]:
    """``{category id of the annotations: index among the 60 classes}``.

    The ids count the 459 names of the data set from 1, in alphabetical order; 0 is background.
    """
    all_names = load_class_names("pc459")
    ids = {all_names.index(name) + 1: i for i, name in enumerate(load_class_names("context60")) if i > 0}
    return {0: 0, **ids}


def context_jobs(root: Path) -> list[Job]:
    """``trainval_merged.json`` to ``SegmentationClassContext/X.png`` and the split file, as mmsegmentation has them.

    Raises:
        ConversionError: if the file is missing.
    """
    voc = root / "VOCdevkit" / "VOC2010"
    source = require(voc / "trainval_merged.json", "Download it there first (docs/datasets.md).")
    data = read_json(source)
    if not isinstance(data, dict) or not all(isinstance(data.get(k), list) for k in ("images", "annos_segmentation")):
        raise ConversionError(f"{source} is not the official file: it has no lists 'images' and 'annos_segmentation'")
    images, jobs = _entries(source, data, "images", ("image_id", "phase", "file_name"))
    images = [image for image in images if image["phase"] == "val"]
    regions: dict[object, list[dict]] = {image["image_id"]: [] for image in images}
    annotations, odd = _entries(source, data, "annos_segmentation", ("image_id",))
    for region in annotations:
        if region["image_id"] in regions:
            regions[region["image_id"]].append(region)
    # Photos without a single region have nothing to be evaluated on.
    kept = [image for image in images if regions[image["image_id"]]]
    if not kept:
        raise ConversionError(f"{source} holds no annotated photos of the phase 'val'")
    names = sorted({Path(image["file_name"]).stem for image in kept})
    _write_names(voc / "ImageSets" / "SegmentationContext" / "val.txt", names)
    ids = context_ids()
    for image in kept:
        stem = Path(image["file_name"]).stem
        make = partial(_paint, image=image, regions=regions[image["image_id"]], ids=ids)
        jobs.append(
            Job(source.with_name(f"{source.name}:{stem}"), voc / "SegmentationClassContext" / f"{stem}.png", make)
        )
    return [*jobs, *odd]


def _entries(source: Path, data: dict, key: str, needed: tuple[str, ...]) -> tuple[list[dict], list[Job]]:
    """The usable entries of a list, and a broken job for each of the others."""
    good, odd = [], []
    for i, entry in enumerate(data[key]):
        missing = [k for k in needed if not isinstance(entry, dict) or not isinstance(entry.get(k), str | int)]
        if missing:
            name = source.with_name(f"{source.name}:{key}[{i}]")
            odd.append(broken(name, f"an entry without {' and '.join(missing)}"))
        elif "file_name" in needed and not Path(str(entry["file_name"])).stem:
            odd.append(broken(source.with_name(f"{source.name}:{key}[{i}]"), "its file_name is empty"))
        else:
            good.append({**entry, "file_name": str(entry["file_name"])} if "file_name" in needed else entry)
    return good, odd


def _write_names(path: Path, names: list[str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _paint(_: Path, image: dict, regions: list[dict], ids: dict[int, int]) -> np.ndarray:
    size = check_size(image["height"], image["width"])
    labels = np.zeros(size, np.uint8)
    for number, region in enumerate(regions):
        if region["category_id"] not in ids:
            raise ValueError(f"category id {region['category_id']} is none of the 59 classes")
        try:
            mask = decode_segmentation(region["segmentation"], size)
        except MaskCodeError as error:
            raise MaskCodeError(f"region {region.get('id', number)}: {error}") from error
        labels[mask] = ids[region["category_id"]]
    return labels


def pc459_jobs(root: Path) -> list[Job]:
    """``trainval/X.mat`` to 16-bit ``annotations_detectron2/pc459_val/X.tif`` (detectron2's convention), 0..458.

    The validation split of Pascal Context is that of VOC 2010.

    Raises:
        ConversionError: if the official files are missing.
    """
    voc = root / "VOCdevkit" / "VOC2010"
    split = require(voc / "ImageSets" / "Main" / "val.txt", "Unpack VOCtrainval_03-May-2010.tar first.")
    source = require(voc / "trainval", "Unpack trainval.tar.gz of Pascal Context into VOCdevkit/VOC2010 first.")
    target = voc / "annotations_detectron2" / "pc459_val"
    # a link that leads nowhere stays in: its job fails, by name
    names = [name for name in read_names(split) if os.path.lexists(source / f"{name}.mat")]
    if not names:
        raise ConversionError(f"{source} holds none of the .mat files that {split} names")
    _write_names(voc / "ImageSets" / "SegmentationContext" / "pc459_val.txt", names)
    return [Job(source / f"{name}.mat", target / f"{name}.tif", read_label_map) for name in names]


def read_label_map(path: Path) -> np.ndarray:
    """uint16 class indices 0..458 of a ``.mat`` file whose ``LabelMap`` counts from 1."""
    labels = read_matrix(path, "LabelMap")
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "iuf" or (labels != np.floor(labels)).any():
        raise ValueError(f"LabelMap is no map of whole numbers ({labels.dtype} {list(labels.shape)})")
    if labels.min() < 1 or labels.max() > 459:
        raise ValueError(f"labels {labels.min()}..{labels.max()}; Pascal Context has 1..459")
    return (labels.astype(np.int64) - 1).astype(np.uint16)
