"""Endless image-caption pairs: scenes composed on the fly, named by the words that can be seen in them."""

import csv
import dataclasses
import functools
import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import FUNCTIONS
from PIL import Image
from torch.utils.data import Dataset

from ovseg.nano import sprites as sprite_files
from ovseg.nano.compose import Scene, SpriteBook, jitter, paste
from ovseg.nano.textures import BACKGROUNDS, PLAIN, texture
from ovseg.registry import DATASETS

#: Textures kept per name; each is drawn once and cut at random places.
_TEXTURES_PER_NAME = 48
_TEXTURE_SIZE = 256
#: A word belongs to the caption when it covers this share of the image (one patch of 7 x 7 is 2 %).
SEEN = 0.02


@dataclasses.dataclass(frozen=True)
class SceneStyle:
    """How a random scene is laid out; lengths in pixels.

    Attributes:
        edge: smallest and largest longer side of a sprite, drawn log-uniformly.
        items: smallest and largest number of sprites.
        rotation: standard deviation of the rotation, degrees.
        colour: strength of the colour jitter of sprites and background (0 = none).
        margin: how far a sprite's centre may lie outside, as a share of the image's sides.
    """

    edge: tuple[float, float] = (28, 160)
    items: tuple[int, int] = (1, 5)
    rotation: float = 12.0
    colour: float = 0.12
    margin: float = 0.05


def class_names() -> list[str]:
    """The classes of the benchmark: object words, then backgrounds."""
    return [*(c.word for c in sprite_files.concepts() if c.benchmark), *BACKGROUNDS]


def scatter(rng: np.random.Generator, scene: Scene, book: SpriteBook, items: Sequence[int], style: SceneStyle) -> None:
    """Paste the concepts ``items`` (indices of ``book``) at random places, later ones over earlier ones, in place."""
    height, width = scene.mask.shape
    for position, index in enumerate(items):
        edge = np.exp(rng.uniform(*np.log(style.edge)))
        sprite = book.draw(rng, index, edge)
        if style.colour:
            sprite = jitter(rng, sprite, style.colour)
        centre = rng.uniform(-style.margin, 1 + style.margin, 2) * (height, width)
        angle, squeeze = rng.normal(0, style.rotation), np.exp(rng.normal(0, 0.08))
        paste(scene, position, sprite, centre, edge, angle, bool(rng.random() < 0.5), squeeze)


class _Photos:
    """Small labelled photos (64 x 64 JPEG in one file), used as backgrounds named by their class."""

    def __init__(self, folder: Path) -> None:
        with (folder / "classes.tsv").open(encoding="utf-8", newline="") as file:
            self.names = [row[2].split(",")[0].strip().lower() for row in csv.reader(file, delimiter="\t")]
        with np.load(folder / "train.index.npz", allow_pickle=False) as index:
            self._offsets, self._labels = index["offsets"], index["labels"]
        self._bytes = np.memmap(folder / "train.jpegs.bin", dtype=np.uint8, mode="r")

    def draw(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, str]:
        """A random photo, cropped by up to a quarter and scaled to ``size`` -> uint8 [size, size, 3] and its name."""
        i = int(rng.integers(len(self._labels)))
        content = self._bytes[self._offsets[i] : self._offsets[i + 1]].tobytes()
        photo = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        edge = int(rng.integers(photo.shape[0] * 3 // 4, photo.shape[0] + 1))
        y, x = rng.integers(0, photo.shape[0] - edge + 1, 2)
        photo = photo[y : y + edge, x : x + edge][:, :: (-1 if rng.random() < 0.5 else 1)]
        photo = cv2.resize(np.ascontiguousarray(photo), (size, size), interpolation=cv2.INTER_CUBIC)
        return photo, self.names[self._labels[i]]


@functools.cache
def _textures(edge: int) -> dict[str, list[np.ndarray]]:
    # Drawn on first use, hence in the loader's worker, which shares the cores. Not 1: where the process that was forked
    # had OpenCV's threads waiting, that ends them in the child, in which they are not, and waits for ever.
    cv2.setNumThreads(0)
    return {
        name: [texture(name, 10_000 * (k + 1) + i, (edge, edge)) for i in range(_TEXTURES_PER_NAME)]
        for k, name in enumerate((*BACKGROUNDS, PLAIN))
    }


class RandomScenes(Dataset):
    """Draws scenes; the data sets below say what they give away of them.

    Scene ``i`` is a pure function of ``(seed, i)``: a resumed training goes on with fresh scenes.

    Args:
        sprites: sprite pack or folder, see :mod:`ovseg.nano.sprites`.
        size: edge length of an image in pixels, a multiple of the patch size.
        length: number of samples.
        seed: base seed; the benchmark uses others.
        benchmark_share: probability that a sprite shows a word of the benchmark, not one of the others.
        photos: folder of small labelled photos; skipped with None or where it does not exist.
        photo_share: probability that a photo is the background.
        plain_share: probability that an unnamed plain colour or ramp is the background.
        style: keyword arguments of :class:`SceneStyle`.
        easy: the first so many samples show one or two large objects each.
    """

    def __init__(
        self,
        sprites: str = str(sprite_files.DEFAULT_PACK),
        size: int = 112,
        length: int = 4_000_000,
        seed: int = 0,
        benchmark_share: float = 0.85,
        photos: str | None = None,
        photo_share: float = 0.06,
        plain_share: float = 0.2,
        style: dict | None = None,
        easy: int = 0,
    ) -> None:
        self.size, self.length, self.seed = size, length, seed
        self.benchmark_share, self.photo_share, self.plain_share = benchmark_share, photo_share, plain_share
        self.style, self.easy = SceneStyle(**(style or {})), easy
        self.book = SpriteBook(sprite_files.load(sprites), sprite_files.concepts())
        benchmark = [c.benchmark for c in self.book.concepts]
        self._pools = [np.flatnonzero(benchmark), np.flatnonzero(~np.array(benchmark))]
        self._pools = [pool for pool in self._pools if len(pool)]
        self._photos = _Photos(Path(photos)) if photos and Path(photos).is_dir() else None

    def __len__(self) -> int:
        return self.length

    def _background(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        draw = rng.random()
        if self._photos is not None and draw < self.photo_share:
            return self._photos.draw(rng, self.size)
        plain = draw > 1 - self.plain_share
        name = PLAIN if plain else BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
        source = _textures(max(_TEXTURE_SIZE, self.size))[name][rng.integers(_TEXTURES_PER_NAME)]
        y, x = rng.integers(0, source.shape[0] - self.size + 1, 2)
        crop = source[y : y + self.size, x : x + self.size][:, :: (-1 if rng.random() < 0.5 else 1)]
        crop = np.ascontiguousarray(crop)
        return (jitter(rng, crop, self.style.colour / 2) if self.style.colour else crop), name

    def draw(self, index: int) -> tuple[Scene, list[str]]:
        """Scene ``index`` and the words of its mask's values: the background's, then those of the items."""
        rng = np.random.default_rng((self.seed, index))
        image, background = self._background(rng)
        scene = Scene(image, np.zeros(image.shape[:2], dtype=np.uint8))
        style = self.style
        if index < self.easy:
            style = dataclasses.replace(style, items=(1, 2), edge=(0.5 * self.size, 1.2 * self.size), margin=-0.15)
        count = int(rng.integers(style.items[0], style.items[1] + 1))
        pools = [self._pools[0] if rng.random() < self.benchmark_share else self._pools[-1] for _ in range(count)]
        items = [int(pool[rng.integers(len(pool))]) for pool in pools]
        scatter(rng, scene, self.book, items, style)
        return scene, [background, *(self.book.words[i] for i in items)]


@DATASETS.register_module()
class SceneCaptions(RandomScenes):
    """Scenes with the words that can be seen in them. No mask or box leaves this data set.

    Arguments as of :class:`RandomScenes`. Items are dicts: ``inputs`` uint8 ``[3, size, size]`` RGB, ``words`` list of
    the words seen.
    """

    def __getitem__(self, index: int) -> dict:
        scene, names = self.draw(index)
        words = [name for name, seen in zip(names, scene.seen(len(names) - 1, SEEN), strict=True) if seen]
        return {"inputs": scene.image.transpose(2, 0, 1), "words": list(dict.fromkeys(words))}


@FUNCTIONS.register_module()
def stack_captions(batch: Sequence[dict]) -> dict:
    """Collate: ``inputs`` uint8 tensor ``[b, 3, h, w]``, ``words`` list of lists. One tensor, not one per image."""
    return {
        "inputs": torch.from_numpy(np.stack([item["inputs"] for item in batch])),
        "words": [item["words"] for item in batch],
    }
