"""The data sets of MESS that have to be converted: from their official layouts to what the configs read.

Tiles are cut as by the benchmark's own toolkit: 1,024 pixels, none over another, the last ones filled with black and
ignored there. They lie where it puts them, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg.datasets.convert.jobs import ConversionError, Job, find, lookup_table, read_json, read_names, require
from ovseg.datasets.files import atomic_path, write_labels
from ovseg.datasets.io import read_colour_mask, read_image, read_mask

TILE = 1024
_IGNORE = 255
_HAND = "docs/mess.md says how to lay out the official files"
_DARK_ZURICH = (0, 7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Cityscapes' ids in the order of the classes."""
_ISAID = (
    *((0, 0, 0), (0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255), (0, 127, 63)),
    *((0, 127, 127), (0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127), (0, 127, 191), (0, 127, 255), (0, 100, 155)),
)
_POTSDAM = ((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0))
_POTSDAM_TEST = "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13".split()
_UAVID = (
    *((0, 0, 0), (128, 0, 0), (128, 64, 128), (0, 128, 0), (128, 128, 0), (64, 0, 128), (192, 0, 192), (64, 64, 0)),
)
_SUIM = (
    *((0, 0, 0), (0, 0, 255), (0, 255, 0), (0, 255, 255), (255, 0, 0), (255, 0, 255), (255, 255, 0), (255, 255, 255)),
)
_CWFID = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
_SENTINEL = ((8, 3981.96268494, 2500.47885249), (4, 3418.90147615, 2811.78109878), (2, 3758.07467509, 2794.09579088))
"""Band (from 1) of infrared, red and blue of Sentinel-2, with WorldFloods' mean and standard deviation, whose sum is
white."""
_PAXRAY = {"lungs": 0, "mediastinum": 10, "bones": 24, "diaphragm": 163}
"""Place of the mask among the 166 of a file."""


def dark_zurich_jobs(root: Path) -> list[Job]:
    """Ids of Cityscapes to classes; what ``invGray`` marks is ignored."""
    base = root / "Dark_Zurich"
    files, jobs = find(_folder(base / "gt/val/night/GOPR0356"), "_gt_labelIds.png")
    out = base / "annotations_detectron2/val"
    return [*jobs, *(Job(path, out / path.name, _dark_zurich) for path in files)]


def _dark_zurich(path: Path) -> np.ndarray:
    labels = read_mask(path)
    labels[read_mask(path.with_name(path.name.replace("labelIds", "invGray"))) == 255] = _IGNORE
    known = {label: i for i, label in enumerate(_DARK_ZURICH)}
    strange = set(np.unique(labels).tolist()) - {*known, _IGNORE}
    if strange:
        raise ValueError(f"it holds {min(strange)}, which is no id of a class")
    return lookup_table(known, 256, _IGNORE)[labels]


def mhp_v1_jobs(root: Path) -> list[Job]:
    """The masks of a photo's persons, one over the other, the larger label on top."""
    base = root / "LV-MHP-v1"
    names = [Path(name).stem for name in read_names(require(base / "test_list.txt", _HAND))]
    masks, jobs = find(_folder(base / "annotations"), ".png")
    people: dict[str, list[Path]] = {}
    for path in masks:
        people.setdefault(path.stem.partition("_")[0], []).append(path)
    out = base / "annotations_detectron2"
    jobs += [_split(base / "test_list.txt", out / "test.txt", names)]
    for name in names:
        photo = base / "images" / f"{name}.jpg"
        jobs.append(Job(photo, out / "test" / f"{name}.png", partial(_people, masks=people.get(name, []))))
    return jobs


def _people(photo: Path, masks: Iterable[Path]) -> np.ndarray:
    labels = [read_mask(path) for path in masks]
    if not labels:
        raise ValueError("there is no mask of a person")
    return np.max(labels, axis=0).astype(np.uint8)


def kvasir_instrument_jobs(root: Path) -> list[Job]:
    """White of the red channel is the tool."""
    base = root / "kvasir-instrument"
    folder = _folder(base / "masks")
    names = read_names(require(base / "test.txt", _HAND))
    return [Job(folder / f"{n}.png", base / f"annotations_detectron2/test/{n}.png", _white) for n in names]


def _white(path: Path) -> np.ndarray:
    return (read_image(path)[..., 0] == 255).astype(np.uint8)


def suim_jobs(root: Path) -> list[Job]:
    """Colours of BMP files to classes."""
    files, jobs = find(_folder(root / "SUIM/TEST/masks"), ".bmp")
    out = root / "SUIM/annotations_detectron2/test"
    return [*jobs, *(Job(path, out / f"{path.stem}.png", partial(_of_picture, colours=_SUIM)) for path in files)]


def cwfid_jobs(root: Path) -> list[Job]:
    """Colours to classes."""
    files, jobs = find(_folder(root / "cwfid/annotations"), "_annotation.png")
    out = root / "cwfid/annotations_detectron2/test"
    return [*jobs, *(Job(path, out / path.name, partial(_of_png, colours=_CWFID)) for path in files)]


def cub_200_jobs(root: Path) -> list[Job]:
    """More than half of the annotators' votes make a pixel the bird of the photo's folder."""
    base = root / "CUB_200_2011"
    photos = _numbered(base / "images.txt")
    tests = [photos[n] for n, flag in _numbered(base / "train_test_split.txt").items() if flag == "0" and n in photos]
    out = base / "annotations_detectron2"
    jobs = [
        _split(base / "train_test_split.txt", out / "test.txt", [str(Path(name).with_suffix("")) for name in tests])
    ]
    for name in tests:
        mask = Path(name).with_suffix(".png")
        jobs.append(Job(base / "segmentations" / mask, out / "test" / mask, _bird))
    return jobs


def _numbered(path: Path) -> dict[str, str]:
    lines = require(path, _HAND).read_text(encoding="utf-8").splitlines()
    return {number: rest.strip() for number, _, rest in (line.strip().partition(" ") for line in lines) if number}


def _bird(path: Path) -> np.ndarray:
    with Image.open(path) as image:  # some have an alpha channel that says nothing
        votes = np.asarray(image.convert("L"))
    return np.where(votes > 128, int(path.parent.name.partition(".")[0]), 0).astype(np.uint8)


def paxray_jobs(root: Path, part: str) -> list[Job]:
    """One of four kinds of organs; they overlap, so each is a data set of its own."""
    base = root / "paxray_dataset"
    entries = read_json(require(base / "paxray.json", _HAND))
    try:
        tests = [(str(entry["image"]), str(entry["target"])) for entry in entries["test"]]
    except (TypeError, KeyError) as error:
        raise ConversionError(f"{base / 'paxray.json'} has no list 'test' of image and target ({error})") from error
    out = base / "annotations_detectron2"
    names = [Path(image).relative_to("images") for image, _ in tests if image.startswith("images/")]
    if len(names) < len(tests):
        raise ConversionError(f"{base / 'paxray.json'} names photos that are not below images/")
    jobs = [_split(base / "paxray.json", out / "test.txt", [str(name.with_suffix("")) for name in names])]
    for name, (_, target) in zip(names, tests, strict=True):
        jobs.append(Job(base / target, out / "test" / part / name.with_suffix(".png"), partial(_organ, part=part)))
    return jobs


def _organ(path: Path, part: str) -> np.ndarray:
    planes = np.load(path, mmap_mode="r", allow_pickle=False)
    if planes.ndim != 3 or len(planes) <= max(_PAXRAY.values()):
        raise ValueError(f"its shape is {list(planes.shape)}, [166, H, W] is expected")
    return np.asarray(planes[_PAXRAY[part]] > 0).astype(np.uint8)


def isaid_jobs(root: Path) -> list[Job]:
    """Photos and colour masks in tiles."""
    base = root / "isaid"
    masks, jobs = find(_folder(base / "raw_val/images"), "_instance_color_RGB.png")
    for mask in masks:
        name = mask.name.partition("_")[0]
        photo = base / "val/images" / f"{name}.png"
        jobs += _tiled(base, "val", name, (photo, read_image), (mask, partial(_of_png, colours=_ISAID)))
    return jobs


def isprs_potsdam_jobs(root: Path) -> list[Job]:
    """The 14 test areas, infrared, red and green, in tiles; shades at the borders of labels go to the nearer colour."""
    base = root / "ISPRS_Potsdam"
    photos, labels = _folder(base / "3_Ortho_IRRG"), _folder(base / "Labels")
    jobs = []
    for area in _POTSDAM_TEST:
        name = f"top_potsdam_{area}"
        photo, mask = photos / f"{name}_IRRG.tif", labels / f"{name}_label.tif"
        jobs += _tiled(base, "test", name, (photo, read_image), (mask, _potsdam), "irrg")
    return jobs


def _potsdam(path: Path) -> np.ndarray:
    return _classes_of(np.where(read_image(path) > 128, 255, 0), _POTSDAM)


def floodnet_jobs(root: Path) -> list[Job]:
    """Photos and label maps in tiles."""
    base = root / "FloodNet-Supervised_v1.0"
    photos, jobs = find(_folder(base / "test/test-org-img"), ".jpg")
    for photo in photos:
        mask = base / "test/test-label-img" / f"{photo.stem}_lab.png"
        jobs += _tiled(base, "test", photo.stem, (photo, read_image), (mask, read_mask))
    return jobs


def uavid_jobs(root: Path) -> list[Job]:
    """Photos and colour masks of all sequences in tiles."""
    base = root / "uavid_v1.5"
    files, jobs = find(_folder(base / "uavid_val"), ".png")
    for photo in files:
        if photo.parent.name == "Images":
            mask = photo.parent.parent / "Labels" / photo.name
            name = f"{photo.parent.parent.name}_{photo.stem}"
            jobs += _tiled(base, "val", name, (photo, read_image), (mask, partial(_of_png, colours=_UAVID)))
    return jobs


def worldfloods_jobs(root: Path) -> list[Job]:
    """Sentinel-2's infrared, red and blue in tiles; labels count from 1, 0 is ignored. Needs rasterio."""
    base = root / "WorldFloods"
    scenes, jobs = find(_folder(base / "test/S2"), ".tif")
    for scene in scenes:
        mask = base / "test/gt" / scene.name
        jobs += _tiled(base, "test", scene.stem, (scene, _sentinel), (mask, _flood), "irrg")
    return jobs


def _sentinel(path: Path) -> np.ndarray:
    bands = _bands(path, [band for band, *_ in _SENTINEL])
    white = np.array([mean + spread for _, mean, spread in _SENTINEL], np.float32)
    return (np.clip(np.moveaxis(bands, 0, 2) / white, 0, 1) * 255).astype(np.uint8)


def _flood(path: Path) -> np.ndarray:
    labels = _bands(path, [1])[0]
    if labels.min() < 0 or labels.max() > 3:
        raise ValueError(f"it holds labels {labels.min()} to {labels.max()}, 0 to 3 are expected")
    return lookup_table({1: 0, 2: 1, 3: 2}, 4, _IGNORE)[labels]


def _bands(path: Path, numbers: list[int]) -> np.ndarray:
    try:
        import rasterio
    except ImportError as error:
        raise ConversionError("WorldFloods' scenes need rasterio: pip install 'ovseg[geo]'") from error
    with rasterio.open(path) as file:
        return file.read(numbers)


Reader = Callable[[Path], np.ndarray]


def _tiled(
    base: Path, split: str, name: str, photo: tuple[Path, Reader], mask: tuple[Path, Reader], kind: str = ""
) -> list[Job]:
    """Jobs for the tiles of a photo and of its labels; tile 0 is written last and stands for all of them."""
    return [
        Job(photo[0], base / "images_detectron2" / split / kind / f"{name}_0.png", photo[1], _write_photo_tiles),
        Job(mask[0], base / "annotations_detectron2" / split / f"{name}_0.png", mask[1], _write_label_tiles),
    ]


def _tiles(array: np.ndarray, fill: int) -> Iterable[tuple[int, np.ndarray]]:
    """Numbers and tiles of a photo ``[H, W, 3]`` or labels ``[H, W]``, row by row, the first one last."""
    rows, columns = (range(0, side, TILE) for side in array.shape[:2])
    corners = [(top, left) for top in rows for left in columns]
    for number in [*range(1, len(corners)), 0]:
        top, left = corners[number]
        part = array[top : top + TILE, left : left + TILE]
        tile = np.full((TILE, TILE, *array.shape[2:]), fill, np.uint8)
        tile[: part.shape[0], : part.shape[1]] = part
        yield number, tile


def _write_photo_tiles(path: Path, photo: np.ndarray) -> None:
    for number, tile in _tiles(photo, 0):
        with atomic_path(_numbered_tile(path, number)) as temporary:
            Image.fromarray(tile).save(temporary)


def _write_label_tiles(path: Path, labels: np.ndarray) -> None:
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"labels {labels.min()} to {labels.max()} do not fit into 8 bits")
    for number, tile in _tiles(labels, _IGNORE):
        write_labels(_numbered_tile(path, number), tile)


def _numbered_tile(path: Path, number: int) -> Path:
    return path.with_name(re.sub(r"_0(\.\w+)$", rf"_{number}\1", path.name))


def _of_png(path: Path, colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    return _classes_of(read_colour_mask(path), colours)


def _of_picture(path: Path, colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    return _classes_of(read_image(path), colours)


def _classes_of(picture: np.ndarray, colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """uint8 ``[H, W]``: the place of each pixel's colour.

    Raises:
        ValueError: for a colour that is none of them.
    """
    labels = np.full(picture.shape[:2], _IGNORE, np.uint8)
    for index, colour in enumerate(colours):
        labels[(picture == np.array(colour)).all(-1)] = index
    strange = labels == _IGNORE
    if strange.any():
        raise ValueError(f"{int(strange.sum())} pixels have other colours than the classes, e.g. {picture[strange][0]}")
    return labels


def _split(source: Path, target: Path, names: list[str]) -> Job:
    """The job that writes the names of the samples, one per line."""
    text = "".join(f"{name}\n" for name in names)
    return Job(source, target, lambda _: np.zeros(0), lambda path, _: _write_text(path, text))


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _folder(path: Path) -> Path:
    return require(path, _HAND)


MESS_CONVERTERS: Mapping[str, Callable[[Path], list[Job]]] = {
    "mess_dark_zurich": dark_zurich_jobs,
    "mess_mhp_v1": mhp_v1_jobs,
    "mess_kvasir_instrument": kvasir_instrument_jobs,
    "mess_suim": suim_jobs,
    "mess_cwfid": cwfid_jobs,
    "mess_cub_200": cub_200_jobs,
    "mess_isaid": isaid_jobs,
    "mess_isprs_potsdam": isprs_potsdam_jobs,
    "mess_floodnet": floodnet_jobs,
    "mess_uavid": uavid_jobs,
    "mess_worldfloods": worldfloods_jobs,
    **{f"mess_paxray_{part}": partial(paxray_jobs, part=part) for part in _PAXRAY},
}
"""Name -> function from the data root to the files that are to be made."""
