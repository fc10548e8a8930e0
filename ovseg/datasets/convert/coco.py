"""COCO-Stuff 164k: the official ``stuffthingmaps`` to 171 train ids, and to background + 80 things; COCO-Stuff 10k."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ovseg.datasets.convert.jobs import ConversionError, Job, find, lookup_table, read_names, require
from ovseg.datasets.convert.matlab import read_matrix
from ovseg.datasets.files import link_folder
from ovseg.datasets.io import read_mask

# Labels of the maps are COCO-Stuff ids - 1. COCO numbers 91 kinds of things, of which 11 were never annotated.
_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
THINGS = tuple(label for label in range(91) if label not in _UNUSED)
STUFF = tuple(range(91, 182))
UNLABELLED = 255


def stuff_table() -> np.ndarray:
    """uint8 ``[256]``: label of the official map to train id 0..170; unlabelled and unused stay 255."""
    return lookup_table({label: i for i, label in enumerate(THINGS + STUFF)}, 256, UNLABELLED)


def object_table() -> np.ndarray:
    """uint8 ``[256]``: the 80 things to 1..80; everything else, unlabelled pixels included, is background 0."""
    return lookup_table({label: i + 1 for i, label in enumerate(THINGS)}, 256, 0)


def coco_stuff_jobs(root: Path, split: str = "val2017") -> list[Job]:
    """``annotations/val2017/X.png`` to ``X_labelTrainIds.png`` beside it (mmsegmentation's names).

    Raises:
        ConversionError: if the official maps are missing.
    """
    maps, problems = _maps(root, split)
    make = partial(_convert, table=stuff_table())
    return [*(Job(p, p.with_name(f"{p.stem}_labelTrainIds.png"), make) for p in maps), *problems]


def coco_object_jobs(root: Path, split: str = "val2017") -> list[Job]:
    """``coco_stuff164k/annotations`` to ``coco_object/annotations/.../X_instanceTrainIds.png``; photos are linked.

    Raises:
        ConversionError: if the official maps or photos are missing.
    """
    maps, problems = _maps(root, split)
    photos = require(root / "coco_stuff164k" / "images" / split, "Unpack val2017.zip there first.")
    link = root / "coco_object" / "images" / split
    try:
        link_folder(link, photos)
    except OSError as error:
        raise ConversionError(f"cannot link or copy {photos} to {link} ({error}). Copy the photos there.") from error
    target = root / "coco_object" / "annotations" / split
    make = partial(_convert, table=object_table())
    return [*(Job(p, target / f"{p.stem}_instanceTrainIds.png", make) for p in maps), *problems]


def coco_stuff10k_jobs(root: Path) -> list[Job]:
    """``annotations/X.mat`` of the test photos to ``annotations_png/X_labelTrainIds.png`` with mmsegmentation's labels:
    0 unlabelled, 1..171.

    Raises:
        ConversionError: if the official files are missing.
    """
    base, unpack = root / "coco_stuff10k", "Unpack cocostuff-10k-v1.1.zip into coco_stuff10k first."
    names = read_names(require(base / "imageLists" / "test.txt", unpack))
    source, target = require(base / "annotations", unpack), base / "annotations_png"
    return [Job(source / f"{n}.mat", target / f"{n}_labelTrainIds.png", read_stuff_matrix) for n in names]


def read_stuff_matrix(path: Path) -> np.ndarray:
    """uint8 labels 0..171 of a ``.mat`` file whose ``S`` holds COCO-Stuff's ids, 0 for unlabelled pixels."""
    ids = read_matrix(path, "S")
    if ids.ndim != 2 or ids.size == 0 or ids.dtype.kind not in "iuf" or (ids != np.floor(ids)).any():
        raise ValueError(f"S is no map of whole numbers ({ids.dtype} {list(ids.shape)})")
    if ids.min() < 0 or ids.max() > 182:
        raise ValueError(f"ids {ids.min()}..{ids.max()}; COCO-Stuff has 0..182")
    table = np.append(0, np.where(stuff_table()[:182] == UNLABELLED, 0, stuff_table()[:182].astype(int) + 1))
    return table[ids.astype(int)].astype(np.uint8)


def _maps(root: Path, split: str) -> tuple[list[Path], list[Job]]:
    folder = root / "coco_stuff164k" / "annotations" / split
    require(folder, "Unpack stuffthingmaps_trainval2017.zip into coco_stuff164k/annotations first.")
    files, problems = find(folder, ".png", recursive=False)
    maps = [path for path in files if not path.stem.endswith("TrainIds")]
    if not maps:
        raise ConversionError(f"{folder} holds no official maps (000000000139.png and so on).")
    return maps, problems


def _convert(path: Path, table: np.ndarray) -> np.ndarray:
    labels = read_mask(path)
    if labels.max() > 255:
        raise ValueError(f"label {labels.max()} in an 8-bit COCO-Stuff map")
    return table[labels]
