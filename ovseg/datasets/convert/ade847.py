"""ADE20K full (``ADE20K_2021_17_01``): 847 classes in 16-bit maps, photos at most 512 pixels on the short side.

The layout and the resizing are those of detectron2's ``ADE20K_full`` convention, on which the numbers of the field are
computed. The object index is read from the photos' ``_seg.png``; the data set's pickle file is not opened.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ovseg.datasets.class_names import CLASSES_DIR
from ovseg.datasets.convert.jobs import ConversionError, Job, find, lookup_table, require
from ovseg.datasets.files import atomic_path
from ovseg.datasets.io import read_colour_mask, read_image

IGNORE = 65535
SHORT_SIDE = 512
_JPEG_QUALITY = 75  # Pillow's default, which the convention's photos were saved with


def ade847_jobs(root: Path, split: str = "validation") -> list[Job]:
    """``images/ADE/validation/**/X.jpg`` + ``X_seg.png`` to ``{images,annotations}_detectron2/validation``.

    Raises:
        ConversionError: if the official files are missing.
    """
    base = root / "ADE20K_2021_17_01"
    folder = require(base / "images" / "ADE" / split, "Unpack ADE20K_2021_17_01.zip into the data folder first.")
    photos, jobs = find(folder, ".jpg", start="ADE_")
    if not photos:
        raise ConversionError(f"{folder} holds no photos ADE_*.jpg.")
    for photo in photos:
        seg = photo.with_name(f"{photo.stem}_seg.png")
        jobs.append(Job(photo, base / "images_detectron2" / split / f"{photo.stem}.jpg", _photo, _write_jpeg))
        jobs.append(Job(seg, base / "annotations_detectron2" / split / f"{photo.stem}.tif", read_objects))
    return jobs


def class_table() -> np.ndarray:
    """uint16 ``[4096]``: object index of the full data set to class 0..846; the other objects are ignored (65535)."""
    ids = [int(line) for line in (CLASSES_DIR / "ade847_ids.txt").read_text().split()]
    return lookup_table({object_id: i for i, object_id in enumerate(ids)}, 4096, IGNORE, np.uint16)


def read_objects(path: Path) -> np.ndarray:
    """uint16 class indices from a ``_seg.png``, whose red and green channels hold the object index.

    ``index = (red // 10) * 256 + green``, from the data set's own description.
    """
    colours = read_colour_mask(path).astype(np.int32)
    objects = colours[..., 0] // 10 * 256 + colours[..., 1]
    if objects.max() >= 4096:
        raise ValueError(f"object index {objects.max()}; the data set has about 3,700")
    return class_table()[_resize(objects, cv2.INTER_NEAREST)]


def _photo(path: Path) -> np.ndarray:
    return _resize(read_image(path), cv2.INTER_LINEAR)


def _resize(array: np.ndarray, interpolation: int) -> np.ndarray:
    h, w = array.shape[:2]
    if min(h, w) <= SHORT_SIDE:
        return array
    size = (round(w / h * SHORT_SIDE), SHORT_SIDE) if w >= h else (SHORT_SIDE, round(h / w * SHORT_SIDE))
    return cv2.resize(array, size, interpolation=interpolation)


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, quality=_JPEG_QUALITY)
