"""Jobs that need no model: labels are computed from the pixels, so that thousands of photos take seconds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from ovseg.bulk import Job, Settings, Words
from ovseg.engine.stopping import stop_asked_for  # noqa: F401  (imported before processes are forked)
from ovseg.text import Vocabulary

WORDS = (
    Words("greys", Vocabulary.of(["dark", "middle", "light"])),
    Words("halves", Vocabulary.of(["left", "right"])),
)


class Model(torch.nn.Module):
    """Stands in for a segmentor: `decide` labels by brightness or side."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.encoded = 0

    def weights_content(self) -> str:
        return "0" * 64

    def decide(self, photo: np.ndarray, wording, top: int):
        if wording.vocabulary.display_names[0] == "dark":
            labels = np.minimum(photo.mean(2) // 86, len(wording.vocabulary) - 1)
        else:
            labels = np.broadcast_to(np.arange(photo.shape[1]) * 2 // photo.shape[1], photo.shape[:2])
        return SimpleNamespace(labels=torch.from_numpy(labels.astype(np.int64)), regions=None)


class Segmenter:
    """What a worker asks of :class:`ovseg.Segmenter`. A photo whose first pixel is pure red cannot be encoded."""

    protocol, resizing, short_side = "labels by brightness", (), None

    def __init__(self) -> None:
        self.model = Model()

    def wording(self, vocabulary, background=None):
        return SimpleNamespace(vocabulary=vocabulary)

    def encode_batch(self, arrays, names=None):
        assert names is None or len(arrays) == len(names)
        if any(tuple(a[0, 0]) == (255, 0, 0) for a in arrays):
            raise RuntimeError("no memory for this photo")
        self.model.encoded += len(arrays)
        return [SimpleNamespace(opened=lambda a=a: (self.model, a), image=a) for a in arrays]


def make_job(source: Path | str, out: Path, **settings) -> Job:
    """A job whose model is :class:`Segmenter`."""
    job = Job(str(source), out, Settings(**{"words": WORDS, "photos_per_shard": 4, **settings}))
    job._segmenter = Segmenter()
    return job


def write_photos(folder: Path, count: int, side: int = 12) -> Path:
    """Photos ``0000.png`` ... of random blocks, of several sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        small = random.integers(0, 256, (3, 4 + number % 3, 3), dtype=np.uint8)
        small[0, 0] = 0
        Image.fromarray(np.kron(small, np.ones((side // 3, side // 3, 1), np.uint8))).save(folder / f"{number:04d}.png")
    return folder


def content(out: Path) -> dict[str, bytes]:
    """All files of a job's folder but the lock's, by path."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.startswith(".run.lock")
    }
