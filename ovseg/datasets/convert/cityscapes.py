"""Cityscapes: the 19 train ids from the official label ids, or from the polygons where those are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ovseg.datasets.convert.jobs import ConversionError, Job, find, lookup_table, read_json, require
from ovseg.datasets.io import read_mask
from ovseg.rle import MaskCodeError, check_polygon, check_size

IGNORE = 255
# name -> (label id, train id), the table of the data set's own documentation
LABELS = {
    "unlabeled": (0, IGNORE),
    "ego vehicle": (1, IGNORE),
    "rectification border": (2, IGNORE),
    "out of roi": (3, IGNORE),
    "static": (4, IGNORE),
    "dynamic": (5, IGNORE),
    "ground": (6, IGNORE),
    "road": (7, 0),
    "sidewalk": (8, 1),
    "parking": (9, IGNORE),
    "rail track": (10, IGNORE),
    "building": (11, 2),
    "wall": (12, 3),
    "fence": (13, 4),
    "guard rail": (14, IGNORE),
    "bridge": (15, IGNORE),
    "tunnel": (16, IGNORE),
    "pole": (17, 5),
    "polegroup": (18, IGNORE),
    "traffic light": (19, 6),
    "traffic sign": (20, 7),
    "vegetation": (21, 8),
    "terrain": (22, 9),
    "sky": (23, 10),
    "person": (24, 11),
    "rider": (25, 12),
    "car": (26, 13),
    "truck": (27, 14),
    "bus": (28, 15),
    "caravan": (29, IGNORE),
    "trailer": (30, IGNORE),
    "train": (31, 16),
    "motorcycle": (32, 17),
    "bicycle": (33, 18),
    "license plate": (-1, IGNORE),
}


def cityscapes_jobs(root: Path, split: str = "val") -> list[Job]:
    """``gtFine/val/CITY/X_gtFine_labelIds.png`` (or ``..._polygons.json``) to ``X_gtFine_labelTrainIds.png``.

    One of the three is enough: maps of train ids that are there already are used as they are.

    Raises:
        ConversionError: if the official files are missing.
    """
    folder = require(root / "cityscapes" / "gtFine" / split, "Unpack gtFine_trainvaltest.zip into cityscapes first.")
    jobs: dict[Path, Job] = {}
    for ending, make in (("labelIds.png", from_label_ids), ("polygons.json", from_polygons)):
        files, problems = find(folder, f"_gtFine_{ending}")
        for path in files:
            target = path.with_name(f"{path.name[: -len(ending)]}labelTrainIds.png")
            jobs.setdefault(target, Job(path, target, make))
    if not jobs and not find(folder, "_gtFine_labelTrainIds.png")[0]:
        raise ConversionError(f"{folder} holds no *_gtFine_labelIds.png, *_polygons.json or *_labelTrainIds.png.")
    return [*(jobs[target] for target in sorted(jobs)), *problems]


def from_label_ids(path: Path) -> np.ndarray:
    """uint8 train ids from an official map of label ids 0..33."""
    labels = read_mask(path)
    if labels.max() > 33:
        raise ValueError(f"label id {labels.max()}; Cityscapes has 0..33")
    return lookup_table({i: train for i, train in LABELS.values() if i >= 0}, 34, IGNORE)[labels]


def from_polygons(path: Path) -> np.ndarray:
    """uint8 train ids drawn from the polygons, in their order: later ones cover earlier ones.

    Deleted objects and licence plates are not drawn; ``cargroup`` and the like count as their kind.
    """
    annotation = read_json(path)
    height, width = check_size(annotation["imgHeight"], annotation["imgWidth"])
    canvas = Image.new("L", (width, height), IGNORE)
    draw = ImageDraw.Draw(canvas)
    for number, thing in enumerate(annotation["objects"]):
        name = thing["label"]
        if name not in LABELS:
            name = name.removesuffix("group")
        if name not in LABELS:
            raise ValueError(f"unknown label {thing['label']!r}")
        label_id, train_id = LABELS[name]
        if thing.get("deleted") or label_id < 0:
            continue
        try:
            points = check_polygon([value for point in thing["polygon"] for value in point], (height, width))
        except MaskCodeError as error:
            raise MaskCodeError(f"object {number} ({name}): {error}") from error
        draw.polygon([tuple(point) for point in points.tolist()], fill=train_id)
    return np.asarray(canvas)
