"""Pascal Context: 60 classes from the Detail annotations, 459 from the original ``.mat`` files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import scipy.io

from ovseg.datasets.convert.jobs import Job, read_names, require
from ovseg.datasets.dataset import load_class_names
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
    data = json.loads(source.read_text(encoding="utf-8"))
    images = {image["image_id"]: image for image in data["images"] if image["phase"] == "val"}
    regions: dict[int, list[dict]] = {image_id: [] for image_id in images}
    for region in data["annos_segmentation"]:
        if region["image_id"] in regions:
            regions[region["image_id"]].append(region)
    # Photos without a single region have nothing to be evaluated on.
    kept = {i: image for i, image in images.items() if regions[i]}
    names = sorted(Path(image["file_name"]).stem for image in kept.values())
    with atomic_path(voc / "ImageSets" / "SegmentationContext" / "val.txt") as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    ids = context_ids()
    jobs = []
    for image_id, image in kept.items():
        stem = Path(image["file_name"]).stem
        make = partial(_paint, image=image, regions=regions[image_id], ids=ids)
        jobs.append(
            Job(source.with_name(f"{source.name}:{stem}"), voc / "SegmentationClassContext" / f"{stem}.png", make)
        )
    return jobs


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
    names = [name for name in read_names(split) if (source / f"{name}.mat").exists()]
    with atomic_path(voc / "ImageSets" / "SegmentationContext" / "pc459_val.txt") as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return [Job(source / f"{name}.mat", target / f"{name}.tif", read_label_map) for name in names]


def read_label_map(path: Path) -> np.ndarray:
    """uint16 class indices 0..458 of a ``.mat`` file whose ``LabelMap`` counts from 1."""
    labels = scipy.io.loadmat(path)["LabelMap"].astype(np.int64)
    if labels.min() < 1 or labels.max() > 459:
        raise ValueError(f"labels {labels.min()}..{labels.max()}; Pascal Context has 1..459")
    return (labels - 1).astype(np.uint16)
