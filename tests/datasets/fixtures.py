"""Tiny data sets in the directory layouts of the official benchmarks: random photos, blobs as labels.

``build(root, name)`` gives the layout that the config reads; ``build_official(root, name)`` gives the official files
that ``tools/prepare_data.py`` converts into it.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from PIL import Image
from pycocotools import mask as coco_mask

from ovseg.datasets import load_class_names
from ovseg.datasets.convert.ade847 import class_table
from ovseg.datasets.convert.cityscapes import LABELS
from ovseg.datasets.convert.coco import STUFF, THINGS

SIZES = ((48, 64), (64, 48), (40, 40))  # (height, width) of the photos, in turn
NAMES = {
    "voc21": ("2007_000033", "2007_000042", "2011_003276"),
    "context60": ("2008_000003", "2008_000009", "2009_001444"),
    "coco_stuff": ("000000000139", "000000000285", "000000000632"),
    "ade20k": ("ADE_val_00000001", "ADE_val_00000002", "ADE_val_00001517"),
    "cityscapes": ("frankfurt/frankfurt_000000_000294", "lindau/lindau_000001_000019", "munster/munster_000003_000019"),
}
NAMES.update(voc20=NAMES["voc21"], context59=NAMES["context60"], pc459=NAMES["context60"])
NAMES.update(coco_object=NAMES["coco_stuff"], ade847=NAMES["ade20k"])
OFFICIAL = tuple(NAMES)
"""The ten benchmarks whose layout users have."""


def photo(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Smooth colours, uint8 ``[H, W, 3]``."""
    small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


def blobs(rng: np.random.Generator, size: tuple[int, int], values: np.ndarray) -> np.ndarray:
    """A 4 x 4 pattern of rectangles with labels drawn from ``values``."""
    grid = rng.choice(values, (4, 4)).astype(np.int32)
    return cv2.resize(grid, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)


def save(path: Path, array: np.ndarray, palette: bool = False) -> None:
    """Write an image, with a palette if asked for (as VOC's masks)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image = Image.fromarray(array, "L").convert("P")
        image.putdata(array.ravel())
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    image.save(path)


def build(root: Path, name: str, seed: int = 0) -> list[np.ndarray]:
    """A benchmark as its config expects it.

    Returns:
        the label maps as they must come out of ``LoadMask``: int ``[H, W]``, classes or the ignore index.
    """
    rng = np.random.default_rng(seed)
    classes = len(load_class_names(name))
    ignore = 65535 if classes > 255 else 255
    expected = []
    img_dir, img_suffix, mask_dir, mask_suffix, split = LAYOUTS[name]
    for i, sample in enumerate(NAMES[name]):
        size = SIZES[i % len(SIZES)]
        save(root / img_dir / f"{sample}{img_suffix}", photo(rng, size))
        truth = blobs(rng, size, np.array([0, 1, classes // 2, classes - 1, classes - 1, ignore]))
        expected.append(truth)
        stored = truth.copy()
        if name in ("voc20", "context59", "ade20k"):  # files count classes from 1, 0 is ignored
            stored = np.where(truth == ignore, 0, truth + 1)
        dtype = np.uint16 if classes > 255 else np.uint8
        save(root / mask_dir / f"{sample}{mask_suffix}", stored.astype(dtype), palette=name.startswith("voc"))
    if split:
        (root / split).parent.mkdir(parents=True, exist_ok=True)
        (root / split).write_text("".join(f"{s}\n" for s in NAMES[name]))
    return expected


_VOC12, _VOC10 = "VOCdevkit/VOC2012", "VOCdevkit/VOC2010"
_VOC = (f"{_VOC12}/JPEGImages", ".jpg", f"{_VOC12}/SegmentationClass", ".png")
_CONTEXT = (f"{_VOC10}/JPEGImages", ".jpg", f"{_VOC10}/SegmentationClassContext", ".png")
_ADE, _ADE_FULL = "ade/ADEChallengeData2016", "ADE20K_2021_17_01"
LAYOUTS = {
    "voc21": (*_VOC, f"{_VOC12}/ImageSets/Segmentation/val.txt"),
    "voc20": (*_VOC, f"{_VOC12}/ImageSets/Segmentation/val.txt"),
    "context60": (*_CONTEXT, f"{_VOC10}/ImageSets/SegmentationContext/val.txt"),
    "context59": (*_CONTEXT, f"{_VOC10}/ImageSets/SegmentationContext/val.txt"),
    "coco_object": (
        *("coco_object/images/val2017", ".jpg", "coco_object/annotations/val2017", "_instanceTrainIds.png", None),
    ),
    "coco_stuff": (
        *("coco_stuff164k/images/val2017", ".jpg", "coco_stuff164k/annotations/val2017", "_labelTrainIds.png", None),
    ),
    "ade20k": (f"{_ADE}/images/validation", ".jpg", f"{_ADE}/annotations/validation", ".png", None),
    "cityscapes": (
        *("cityscapes/leftImg8bit/val", "_leftImg8bit.png", "cityscapes/gtFine/val", "_gtFine_labelTrainIds.png", None),
    ),
    "ade847": (
        f"{_ADE_FULL}/images_detectron2/validation",
        ".jpg",
        f"{_ADE_FULL}/annotations_detectron2/validation",
        ".tif",
        None,
    ),
    "pc459": (
        f"{_VOC10}/JPEGImages",
        ".jpg",
        f"{_VOC10}/annotations_detectron2/pc459_val",
        ".tif",
        f"{_VOC10}/ImageSets/SegmentationContext/pc459_val.txt",
    ),
}


def build_official(root: Path, name: str, seed: int = 0) -> list[np.ndarray]:
    """The official files of a benchmark that needs conversion; returns what :func:`build` returns."""
    rng = np.random.default_rng(seed)
    return _OFFICIAL[name](root, rng)


def _coco(root: Path, rng: np.random.Generator, objects: bool) -> list[np.ndarray]:
    expected = []
    base = root / "coco_stuff164k"
    for i, sample in enumerate(NAMES["coco_stuff"]):
        size = SIZES[i]
        save(base / "images/val2017" / f"{sample}.jpg", photo(rng, size))
        labels = blobs(rng, size, np.array([0, 12, 89, 91, 181, 255]))
        save(base / "annotations/val2017" / f"{sample}.png", labels.astype(np.uint8))
        table = np.full(256, 0 if objects else 255)
        known = THINGS if objects else THINGS + STUFF
        table[list(known)] = np.arange(len(known)) + objects
        expected.append(table[labels])
    return expected


def _cityscapes(root: Path, rng: np.random.Generator) -> list[np.ndarray]:
    expected = []
    base = root / "cityscapes"
    for i, sample in enumerate(NAMES["cityscapes"]):
        height, width = 48, 96
        save(base / "leftImg8bit/val" / f"{sample}_leftImg8bit.png", photo(rng, (height, width)))
        things = [("road", (0, 24, 95, 47)), ("cargroup", (10, 20, 40, 40)), ("license plate", (20, 25, 30, 30))]
        things += [("sky", (0, 0, 95, 10)), ("person", (60, 15, 70, 35)), ("bridge", (80, 12, 90, 22))]
        truth = np.full((height, width), 255)
        ids = np.zeros((height, width), np.uint8)
        objects = []
        for label, (x0, y0, x1, y1) in things:
            objects.append({"label": label, "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]})
            label_id, train_id = LABELS[label.removesuffix("group")]
            if label_id >= 0:
                truth[y0 : y1 + 1, x0 : x1 + 1] = train_id
                ids[y0 : y1 + 1, x0 : x1 + 1] = label_id
        objects.append({"label": "truck", "polygon": [[0, 0], [95, 0], [95, 47], [0, 47]], "deleted": 1})
        path = base / "gtFine/val" / f"{sample}_gtFine_polygons.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects}))
        if i != 1:  # one sample without its label ids: drawn from the polygons
            save(path.with_name(f"{Path(sample).name}_gtFine_labelIds.png"), ids)
        expected.append(truth)
    return expected


def _context(root: Path, rng: np.random.Generator) -> list[np.ndarray]:
    voc = root / "VOCdevkit/VOC2010"
    names, all_names = load_class_names("context60"), load_class_names("pc459")
    data: dict[str, list] = {"images": [], "annos_segmentation": []}
    expected = []
    for i, sample in enumerate(NAMES["context60"]):
        height, width = SIZES[i]
        save(voc / "JPEGImages" / f"{sample}.jpg", photo(rng, (height, width)))
        image = {"image_id": 100 + i, "file_name": f"{sample}.jpg", "height": height, "width": width, "phase": "val"}
        data["images"].append(image)
        truth = blobs(rng, (height, width), np.array([0, 1, 30, 59]))
        for index in np.unique(truth[truth > 0]):
            counts = coco_mask.encode(np.asfortranarray((truth == index).astype(np.uint8)))
            counts["counts"] = counts["counts"].decode()
            region = {"image_id": 100 + i, "category_id": all_names.index(names[index]) + 1, "segmentation": counts}
            data["annos_segmentation"].append(region)
        expected.append(truth)
    data["images"].append({**data["images"][0], "image_id": 1, "file_name": "2008_000001.jpg", "phase": "train"})
    data["images"].append({**data["images"][0], "image_id": 2, "file_name": "2008_000002.jpg"})  # without regions
    (voc / "trainval_merged.json").write_text(json.dumps(data))
    return expected


def _pc459(root: Path, rng: np.random.Generator) -> list[np.ndarray]:
    voc = root / "VOCdevkit/VOC2010"
    (voc / "ImageSets/Main").mkdir(parents=True)
    (voc / "ImageSets/Main/val.txt").write_text("".join(f"{s}  -1\n" for s in (*NAMES["pc459"], "2008_999999")))
    (voc / "trainval").mkdir()
    expected = []
    for i, sample in enumerate(NAMES["pc459"]):
        save(voc / "JPEGImages" / f"{sample}.jpg", photo(rng, SIZES[i]))
        truth = blobs(rng, SIZES[i], np.array([0, 200, 300, 458]))
        scipy.io.savemat(voc / "trainval" / f"{sample}.mat", {"LabelMap": (truth + 1).astype(np.uint16)})
        expected.append(truth)
    return expected


def _coco_stuff10k(root: Path, rng: np.random.Generator) -> list[np.ndarray]:
    base, expected = root / "coco_stuff10k", []
    names = ["COCO_train2014_000000000077", "COCO_train2014_000000000110", "COCO_train2014_000000000532"]
    for folder in ("annotations", "imageLists"):
        (base / folder).mkdir(parents=True)
    (base / "imageLists/test.txt").write_text("".join(f"{name}\n" for name in names))
    for i, sample in enumerate(names):
        save(base / "images" / f"{sample}.jpg", photo(rng, SIZES[i]))
        truth = blobs(rng, SIZES[i], np.array([0, 79, 80, 170, 255]))
        ids = np.where(truth == 255, 0, np.array([*THINGS, *STUFF, 0])[truth % 255 % 172] + 1)
        scipy.io.savemat(base / "annotations" / f"{sample}.mat", {"S": ids.astype(np.uint8), "names": np.zeros(2)})
        expected.append(truth)
    return expected


def _ade847(root: Path, rng: np.random.Generator) -> list[np.ndarray]:
    table = class_table()
    expected = []
    for i, sample in enumerate(NAMES["ade847"]):
        base = root / "ADE20K_2021_17_01/images/ADE/validation/urban/street"
        size = (640, 800) if i == 0 else SIZES[i]
        save(base / f"{sample}.jpg", photo(rng, size))
        objects = blobs(rng, size, np.array([0, 2978, 312, 3148, 1, 402]))
        colours = np.stack([objects // 256 * 10, objects % 256, rng.integers(0, 9, size)], axis=-1)
        save(base / f"{sample}_seg.png", colours.astype(np.uint8))
        if i == 0:
            objects = cv2.resize(objects, (640, 512), interpolation=cv2.INTER_NEAREST)
        expected.append(table[objects].astype(np.int64))
    return expected


_OFFICIAL = {
    "coco_stuff": lambda root, rng: _coco(root, rng, objects=False),
    "coco_object": lambda root, rng: _coco(root, rng, objects=True),
    "cityscapes": _cityscapes,
    "context60": _context,
    "pc459": _pc459,
    "coco_stuff10k": _coco_stuff10k,
    "ade847": _ade847,
}
