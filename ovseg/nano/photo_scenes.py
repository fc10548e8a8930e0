"""Training images of nano-photo, composed of photographs, and the frozen stem's features of them on disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import FUNCTIONS
from torch import Tensor
from torch.utils.data import Dataset

from ovseg.datasets.io import read_image
from ovseg.nano.compose import jitter
from ovseg.nano.photo_sources import Captioned, LabelledPhotos, training_captions
from ovseg.nano.teacher import Teacher
from ovseg.registry import DATASETS

CELL = 16
#: Classes that the teacher's targets keep per cell.
TOP = 16
#: The class that a tile is labelled with counts so many times its probability: a label is known, the teacher guesses.
LABEL_BOOST = 30.0


@dataclass
class Canvas:
    """A composed image.

    Attributes:
        image: uint8 RGB ``[size, size, 3]``.
        owner: uint8 ``[cells, cells]``, which of ``classes`` a cell's centre shows, 255: a captioned photo.
        classes: ImageNet classes of the labelled photos.
        caption: what the captions name, see :class:`Captioned`.
    """

    image: np.ndarray
    owner: np.ndarray
    classes: list[int] = field(default_factory=list)
    caption: list[tuple[str, ...]] = field(default_factory=list)


def crop(
    rng: np.random.Generator, photo: np.ndarray, size: tuple[int, int], least: float, squeeze: float
) -> np.ndarray:
    """A random part of a photo in another size, flipped half of the time.

    Args:
        rng: source of randomness.
        photo: uint8 ``[h, w, 3]``.
        size: ``(height, width)`` wanted.
        least: smallest share of each side that is kept.
        squeeze: how much the aspect ratio may change, as a factor above 1.
    """
    h, w = photo.shape[:2]
    aspect = size[1] / size[0] * np.exp(rng.uniform(-1, 1) * np.log(squeeze))
    height = min(h, w / aspect) * rng.uniform(least, 1)
    width = min(w, height * aspect)
    y, x = rng.uniform(0, h - height), rng.uniform(0, w - width)
    part = photo[int(y) : int(y + height) + 1, int(x) : int(x + width) + 1]
    how = cv2.INTER_AREA if part.shape[0] > size[0] else cv2.INTER_CUBIC
    part = cv2.resize(part, (size[1], size[0]), interpolation=how)
    return part[:, :: (-1 if rng.random() < 0.5 else 1)]


class PhotoComposer:
    """Draws canvases: canvas ``i`` is a pure function of ``(seed, i)``.

    Args:
        samples: photos that show their class well.
        small: many small labelled photos, for mosaics.
        captioned: photos with captions.
        size: edge of a canvas in pixels, a multiple of 16.
        seed: base seed.
        shares: probabilities of a single sample, a sample pasted on a captioned photo, a mosaic, a captioned photo,
            a mosaic of captioned photos.
    """

    def __init__(
        self,
        samples: LabelledPhotos,
        small: LabelledPhotos,
        captioned: Sequence[Captioned],
        size: int = 256,
        seed: int = 0,
        shares: Sequence[float] = (0.27, 0.15, 0.26, 0.24, 0.08),
        held_out: Sequence[int] = (),
    ) -> None:
        self.samples, self.small, self.size, self.seed = samples, small, size, seed
        self._single = np.setdiff1d(np.flatnonzero(samples.classes >= 0), held_out)
        self._tiles = np.flatnonzero(small.classes >= 0)
        self._captioned = [(read_image(photo.path), list(photo.words)) for photo in captioned]
        self._shares = np.cumsum(shares) / np.sum(shares)

    def draw(self, index: int) -> Canvas:
        """Canvas ``index``."""
        rng = np.random.default_rng((self.seed, index))
        kind = int(np.searchsorted(self._shares, rng.random(), side="right"))
        make = (self._one, self._pasted, self._mosaic, self._caption, self._captions)[kind]
        canvas = make(rng)
        canvas.image = jitter(rng, np.ascontiguousarray(canvas.image), 0.08)
        return canvas

    def _cells(self, value: int) -> np.ndarray:
        return np.full((self.size // CELL,) * 2, value, dtype=np.uint8)

    def _sample(self, rng: np.random.Generator, size: tuple[int, int], least: float) -> tuple[np.ndarray, int]:
        i = int(self._single[rng.integers(len(self._single))])
        return crop(rng, self.samples.image(i), size, least, 1.25), int(self.samples.classes[i])

    def _one(self, rng: np.random.Generator) -> Canvas:
        image, label = self._sample(rng, (self.size, self.size), 0.5)
        return Canvas(image, self._cells(0), [label])

    def _caption(self, rng: np.random.Generator) -> Canvas:
        photo, words = self._captioned[rng.integers(len(self._captioned))]
        return Canvas(crop(rng, photo, (self.size, self.size), 0.7, 1.5), self._cells(255), [], list(words))

    def _pasted(self, rng: np.random.Generator) -> Canvas:
        canvas = self._caption(rng)
        canvas.image = canvas.image.copy()
        edges = np.minimum(np.exp(rng.uniform(np.log(80), np.log(190), 2)), self.size).astype(int)
        (h, w), (y, x) = edges, rng.integers(0, self.size - edges + 1)
        part, label = self._sample(rng, (h, w), 0.7)
        canvas.image[y : y + h, x : x + w] = part
        self._claim(canvas, 0, (y, x, h, w))
        canvas.classes = [label]
        return canvas

    def _claim(self, canvas: Canvas, owner: int, box: tuple[int, int, int, int]) -> None:
        y, x, h, w = box
        centre = np.arange(self.size // CELL) * CELL + CELL // 2
        rows, columns = (centre >= y) & (centre < y + h), (centre >= x) & (centre < x + w)
        canvas.owner[np.ix_(rows, columns)] = owner

    def _boxes(self, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
        """Two by two or three by three boxes ``(y, x, h, w)`` whose borders are random."""
        parts = 2 if rng.random() < 0.7 else 3
        spans = []
        for _ in range(2):
            cuts = np.sort(rng.uniform(-0.35, 0.35, parts - 1) / parts + np.arange(1, parts) / parts)
            ends = np.concatenate([[0], np.round(cuts * self.size), [self.size]]).astype(int)
            spans.append(list(zip(ends[:-1], np.diff(ends), strict=True)))
        return [(y, x, h, w) for y, h in spans[0] for x, w in spans[1]]

    def _mosaic(self, rng: np.random.Generator) -> Canvas:
        canvas = Canvas(np.empty((self.size, self.size, 3), dtype=np.uint8), self._cells(0))
        for owner, (y, x, h, w) in enumerate(self._boxes(rng)):
            if rng.random() < 0.3:
                part, label = self._sample(rng, (h, w), 0.7)
            else:
                i = int(self._tiles[rng.integers(len(self._tiles))])
                part, label = crop(rng, self.small.image(i), (h, w), 0.75, 1.25), int(self.small.classes[i])
            canvas.image[y : y + h, x : x + w] = part
            self._claim(canvas, owner, (y, x, h, w))
            canvas.classes.append(label)
        return canvas

    def _captions(self, rng: np.random.Generator) -> Canvas:
        canvas = Canvas(np.empty((self.size, self.size, 3), dtype=np.uint8), self._cells(255))
        for y, x, h, w in self._boxes(rng)[:4]:
            photo, words = self._captioned[rng.integers(len(self._captioned))]
            canvas.image[y : y + h, x : x + w] = crop(rng, photo, (h, w), 0.8, 1.4)
            canvas.caption += words
        return canvas


def teacher_targets(logits: Tensor, owner: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """What each cell shows, as the teacher sees it and as the labels say.

    Args:
        logits: the teacher's, ``[rows, columns, 1000]``.
        owner, classes: as in :class:`Canvas`.

    Returns:
        The likeliest classes of each cell and their probabilities, int64 and float32 ``[rows * columns, TOP]``.
    """
    probability = logits.flatten(0, 1).softmax(dim=1)
    known = torch.tensor([*classes, 0])[owner.flatten().long().clamp(max=len(classes))]
    factor = torch.where(owner.flatten() == 255, 1.0, LABEL_BOOST)
    rows = torch.arange(len(known))
    probability[rows, known] *= factor
    probability /= probability.sum(dim=1, keepdim=True)
    top = probability.topk(TOP, dim=1)
    return top.indices, top.values


@DATASETS.register_module()
class PhotoFeatures(Dataset):
    """The frozen stem's features of composed photos, with the teacher's targets and the captions.

    The first use computes them (17 per second and core) into ``folder``; an interrupted run goes on where it stopped.

    Args:
        root: the folder that holds ``imagenet_samples``, ``photos64`` and ``real_mini``.
        folder: where the features are kept, 0.24 MB per canvas.
        teacher: state dict of the teacher, see :class:`ovseg.nano.teacher.Teacher`.
        canvases: how many different canvases there are.
        length: number of samples of the endless training; sample ``i`` is canvas ``i % canvases``.
        size, seed: of :class:`PhotoComposer`.
        held_out: names of captioned photos that are left for validation.
        held_out_samples: every so manieth sample of ``imagenet_samples`` is left out as well.
    """

    def __init__(
        self,
        root: str,
        folder: str,
        teacher: str | None = None,
        canvases: int = 8000,
        length: int = 4_000_000,
        size: int = 256,
        seed: int = 0,
        held_out: Sequence[str] = (),
        held_out_samples: int = 20,
    ) -> None:
        self.root, self.folder, self.size, self.seed = Path(root), Path(folder), size, seed
        self.canvases, self.length, self.held_out = canvases, length, frozenset(held_out)
        self.held_out_samples, self._teacher = held_out_samples, teacher
        self.folder.mkdir(parents=True, exist_ok=True)
        cells = size // CELL
        shapes = {
            "fine": ((112, cells, cells), np.float16),
            "coarse": ((1280, cells // 2, cells // 2), np.float16),
            "classes": ((cells * cells, TOP), np.int16),
            "probability": ((cells * cells, TOP), np.float16),
        }
        self._shapes = {name: ((canvases, *shape), kind) for name, (shape, kind) in shapes.items()}
        self._fill()
        self._arrays: dict[str, np.ndarray] = {}

    def _fill(self) -> None:
        known = self.folder / "canvases.jsonl"
        settings = {"size": self.size, "seed": self.seed, "held_out": sorted(self.held_out), "canvases": self.canvases}
        stamp = self.folder / "settings.json"
        if stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) != settings:
            raise ValueError(f"{self.folder} holds features of other settings: remove it, or name another folder")
        stamp.write_text(json.dumps(settings), encoding="utf-8")
        done = len(known.read_text(encoding="utf-8").splitlines()) if known.exists() else 0
        if done >= self.canvases:
            return
        arrays = self._open("r+" if done else "w+")
        composer, teacher = self._composer(), Teacher(self._teacher)
        with known.open("a", encoding="utf-8") as file:
            for start in range(done, self.canvases, 16):
                drawn = [composer.draw(i) for i in range(start, min(start + 16, self.canvases))]
                fine, coarse, logits = teacher(torch.from_numpy(np.stack([c.image for c in drawn])).permute(0, 3, 1, 2))
                part = slice(start, start + len(drawn))
                arrays["fine"][part], arrays["coarse"][part] = fine.half().numpy(), coarse.half().numpy()
                for i, canvas in enumerate(drawn):
                    top = teacher_targets(logits[i], torch.from_numpy(canvas.owner), canvas.classes)
                    arrays["classes"][start + i] = top[0].numpy()
                    arrays["probability"][start + i] = top[1].numpy()
                rows = [json.dumps({"classes": c.classes, "caption": c.caption}) + "\n" for c in drawn]
                file.writelines(rows)
                file.flush()
                if start % 512 == 0:
                    print_log(f"features of {start} of {self.canvases} canvases", "current")

    def _composer(self) -> PhotoComposer:
        captioned = training_captions(self.root, self.held_out)
        samples = LabelledPhotos(self.root / "imagenet_samples", "all")
        small = LabelledPhotos(self.root / "photos64", "train")
        held_out = range(0, len(samples), self.held_out_samples)
        return PhotoComposer(samples, small, captioned, self.size, self.seed, held_out=held_out)

    def _open(self, mode: str) -> dict[str, np.ndarray]:
        return {
            name: np.lib.format.open_memmap(self.folder / f"{name}.npy", mode, kind, shape)
            if mode == "w+"
            else np.lib.format.open_memmap(self.folder / f"{name}.npy", mode)
            for name, (shape, kind) in self._shapes.items()
        }

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        if not self._arrays:  # opened in the loader's worker
            self._arrays = self._open("r")
            lines = (self.folder / "canvases.jsonl").read_text(encoding="utf-8").splitlines()
            self._known = [json.loads(line) for line in lines]
        i = index % self.canvases
        item = {name: np.array(array[i]) for name, array in self._arrays.items()}
        return item | {"labels": self._known[i]["classes"], "caption": self._known[i]["caption"]}


@FUNCTIONS.register_module()
def stack_features(batch: Sequence[dict]) -> dict:
    """Collate items of :class:`PhotoFeatures`: arrays stacked to tensors, lists kept."""
    stacked = {
        name: torch.from_numpy(np.stack([item[name] for item in batch]))
        for name in ("fine", "coarse", "classes", "probability")
    }
    return stacked | {name: [item[name] for item in batch] for name in ("labels", "caption")}
