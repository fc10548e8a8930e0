"""Photographs that nano-photo is trained on: labelled by an ImageNet class, or by the words of a caption."""

import csv
import hashlib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg.nano.wordnet import read_names

#: A word belongs to a photo's caption when it covers this share of it; the map is not used for anything else.
_SEEN = 0.005
#: What COCO-Stuff and ADE20K call things, in the words of a caption; every other name loses "-other" and the like.
_CAPTION_WORDS = {
    "sky-other": "sky|blue sky",
    "sky": "sky|blue sky",
    "clouds": "cloud|clouds|sky",
    "sea": "sea|ocean|water",
    "river": "river|water",
    "water": "water",
    "water-other": "water",
    "lake": "lake|water",
    "grass": "grass|lawn",
    "field": "field|grass",
    "playingfield": "playing field|sports field",
    "tree": "tree|trees",
    "bush": "bush",
    "branch": "branch|tree",
    "leaves": "leaves",
    "plant-other": "plant",
    "potted plant": "potted plant|houseplant",
    "plant": "plant",
    "palm": "palm|palm tree",
    "building-other": "building|buildings",
    "building": "building|buildings",
    "skyscraper": "skyscraper|building",
    "house": "house|building",
    "road": "road|street",
    "pavement": "pavement|sidewalk",
    "sidewalk": "pavement|sidewalk",
    "ground-other": "ground",
    "earth": "ground",
    "dirt": "dirt|ground",
    "ceiling-other": "ceiling",
    "ceiling-tile": "ceiling",
    "mountain": "mountain|hill",
    "hill": "hill|mountain",
    "rock": "rock|stone",
    "stone": "rock|stone",
    "railroad": "railroad|rails|train tracks",
    "window-other": "window",
    "windowpane": "window",
    "window-blind": "window blind",
    "door-stuff": "door",
    "desk-stuff": "desk|table",
    "dining table": "dining table|table",
    "table": "table",
    "couch": "sofa|couch",
    "sofa": "sofa|couch",
    "armchair": "armchair|chair",
    "tv": "tv|television|tv monitor",
    "person": "person|man|woman|people|human",
    "motorcycle": "motorcycle|motorbike",
    "minibike": "motorcycle|motorbike",
    "airplane": "airplane|aeroplane|plane",
    "carpet": "carpet|rug",
    "rug": "carpet|rug",
    "textile-other": "cloth|textile",
    "cloth": "cloth|textile",
    "clothes": "clothes",
    "food-other": "food",
    "furniture-other": "furniture",
    "mirror-stuff": "mirror",
    "signboard": "sign",
    "streetlight": "street lamp",
    "stairway": "stairs",
    "cabinet": "cabinet|cupboard",
    "cupboard": "cabinet|cupboard",
}
_VAGUE = {"solid-other", "structural-other", "metal", "plastic", "wood", "light", "trade name"}


@dataclass(frozen=True)
class Captioned:
    """A photo with its caption.

    Attributes:
        path: the file.
        words: per thing that the caption names, the words it may be called.
    """

    path: Path
    words: tuple[tuple[str, ...], ...]


def caption_words(name: str) -> tuple[str, ...]:
    """The words a caption may use for a class of COCO-Stuff or ADE20K; empty for classes that say too little."""
    first = name.split(",")[0].strip()
    if first in _VAGUE or first.startswith("IGNORE"):
        return ()
    if first in _CAPTION_WORDS:
        return tuple(_CAPTION_WORDS[first].split("|"))
    for kind in ("wall", "floor"):
        if first == kind or first.startswith(f"{kind}-"):
            return (kind,)
    return (first.removesuffix("-other").removesuffix("-stuff"),)


def content_hash(path: Path) -> str:
    """SHA-256 of a photo's pixels, whatever the file around them."""
    with Image.open(path) as image:
        return hashlib.sha256(np.asarray(image.convert("RGB")).tobytes()).hexdigest()


def captioned_photos(folder: Path, never: Collection[str]) -> list[Captioned]:
    """Photos of a folder in the layout of ``real_mini``, by name.

    Args:
        folder: with ``images/``, ``masks/`` and ``labels.tsv``.
        never: content hashes of photos that are left out: those that are measured on.
    """
    with (folder / "labels.tsv").open(encoding="utf-8", newline="") as file:
        names = {int(row[0]): row[1] for row in csv.reader(file, delimiter="\t")}
    photos = []
    for path in sorted((folder / "images").iterdir()):
        if content_hash(path) in never:
            continue
        with Image.open(folder / "masks" / f"{path.stem}.png") as mask:
            values, counts = np.unique(np.asarray(mask), return_counts=True)
        seen = [int(v) for v, n in zip(values, counts, strict=True) if n >= _SEEN * counts.sum() and int(v) in names]
        words = dict.fromkeys(caption_words(names[v]) for v in seen)
        photos.append(Captioned(path, tuple(w for w in words if w)))
    return photos


def training_captions(root: Path, held_out: Collection[str] = ()) -> list[Captioned]:
    """The captioned photos of ``root/real_mini`` without those that are measured on, by content, or held out, by name.

    Args:
        root: with ``real_mini/{coco_stuff,ade20k,coco100,voc2012}``.
        held_out: names of photos without their endings.
    """
    mini = root / "real_mini"
    measured = {content_hash(p) for name in ("coco100", "voc2012") for p in (mini / name / "images").iterdir()}
    found = [photo for name in ("coco_stuff", "ade20k") for photo in captioned_photos(mini / name, measured)]
    return [photo for photo in found if photo.path.stem not in held_out]


def caption_vocabulary(folders: Sequence[Path]) -> list[tuple[str, ...]]:
    """All that captions of these folders could name: what a photo's caption leaves out is not in the photo."""
    words: dict[tuple[str, ...], None] = {}
    for folder in folders:
        with (folder / "labels.tsv").open(encoding="utf-8", newline="") as file:
            words |= dict.fromkeys(caption_words(row[1]) for row in csv.reader(file, delimiter="\t"))
    return [w for w in words if w]


class LabelledPhotos:
    """JPEGs one after another in a file, each of one ImageNet class.

    Args:
        folder: with ``classes.tsv`` (index, wnid, names), ``PART.jpegs.bin`` and ``PART.index.npz``.
        part: first part of the files' names.
    """

    def __init__(self, folder: Path, part: str) -> None:
        index_of = {names.wnid: i for i, names in enumerate(read_names())}
        with (folder / "classes.tsv").open(encoding="utf-8", newline="") as file:
            classes = [index_of.get(row[1], -1) for row in csv.reader(file, delimiter="\t")]
        with np.load(folder / f"{part}.index.npz", allow_pickle=False) as index:
            self._offsets, labels = index["offsets"], index["labels"]
        #: ImageNet class of each photo, 0..999; -1 for a class that ImageNet-1k has not.
        self.classes = np.array(classes)[labels]
        self._bytes = np.memmap(folder / f"{part}.jpegs.bin", dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self.classes)

    def image(self, index: int) -> np.ndarray:
        """uint8 RGB ``[h, w, 3]``."""
        content = self._bytes[self._offsets[index] : self._offsets[index + 1]].tobytes()
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
