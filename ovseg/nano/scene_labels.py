"""Scenes of some of the words, with or without label maps: the other words are held out and never seen."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose

from ovseg.nano import sprites as sprite_files
from ovseg.nano.compose import Scene
from ovseg.nano.dataset import SEEN, RandomScenes, class_names
from ovseg.registry import DATASETS, TRANSFORMS

IGNORED = 255


def held_out_words() -> tuple[str, ...]:
    """The object words that trainings with masks never see: every fourth of the benchmark's, 43 of 172."""
    objects = [c.word for c in sprite_files.concepts() if c.benchmark]
    return tuple(objects[3::4])


def seen_words() -> tuple[str, ...]:
    """All other classes of the benchmark: 129 object words and 8 backgrounds."""
    unseen = held_out_words()
    return tuple(word for word in class_names() if word not in unseen)


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """The global generators of Python, NumPy and torch, seeded; afterwards they stand where they stood before."""
    python, numpy = random.getstate(), np.random.get_state()
    value = int(np.random.SeedSequence(seed).generate_state(1)[0])
    with torch.random.fork_rng(devices=[]):
        random.seed(value)
        np.random.seed(value)
        torch.manual_seed(value)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class SeenScenes(RandomScenes):
    """Endless scenes of the words that are not held out, through a pipeline of transforms.

    Scene ``i``, with all that transforms draw, is a pure function of ``(seed, i)``.

    Args:
        pipeline: configs of transforms; the last one packs.
        kwargs: arguments of :class:`~ovseg.nano.dataset.RandomScenes`.
    """

    def __init__(self, pipeline: Sequence[dict], **kwargs: Any) -> None:
        super().__init__(**{"benchmark_share": 1.0, "photo_share": 0.0, **kwargs})
        words = seen_words()
        self._index = {word: i for i, word in enumerate(words)}
        self._pools = [np.array([i for i in pool if self.book.words[i] in self._index]) for pool in self._pools[:1]]
        self.metainfo = {"classes": words, "ignore_index": IGNORED}
        self.pipeline = Compose([TRANSFORMS.build({"_scope_": "ovseg", **step}) for step in pipeline])

    def results(self, index: int, scene: Scene, names: Sequence[str]) -> dict:
        """What the pipeline begins with: ``image`` uint8 ``[size, size, 3]`` RGB and where it comes from."""
        name = f"scene {index}"
        return {"image": scene.image, "name": name, "img_path": name, "ori_shape": scene.mask.shape}

    def __getitem__(self, index: int) -> dict:
        scene, names = self.draw(index)
        with seeded(self.seed, index):
            return self.pipeline(self.results(index, scene, names))


@DATASETS.register_module()
class SceneLabels(SeenScenes):
    """Scenes of seen words with their label maps.

    Items are what the pipeline gives, by default that of :class:`ovseg.datasets.transforms.PackInputs`: ``inputs``
    uint8 ``[3, size, size]`` RGB and ``data_samples`` with ``gt_sem_seg``, classes in the order of :func:`seen_words`.
    Plain grounds have no word: 255.

    Args:
        pipeline: see :class:`SeenScenes`.
        kwargs: arguments of :class:`~ovseg.nano.dataset.RandomScenes`.
    """

    def __init__(self, pipeline: Sequence[dict] = (dict(type="PackInputs"),), **kwargs: Any) -> None:
        super().__init__(pipeline, **kwargs)

    def results(self, index: int, scene: Scene, names: Sequence[str]) -> dict:
        classes = np.array([self._index.get(name, IGNORED) for name in names], dtype=np.int32)
        found = super().results(index, scene, names)
        return {**found, "labels": classes[scene.mask], "ignore_index": IGNORED}


@DATASETS.register_module()
class UnlabelledScenes(SeenScenes):
    """Scenes of seen words as photos alone: neither a word nor a mask leaves this data set.

    Items are what the pipeline gives.

    Args:
        pipeline: see :class:`SeenScenes`.
        kwargs: arguments of :class:`~ovseg.nano.dataset.RandomScenes`.
    """


@DATASETS.register_module()
class CaptionedScenes(SeenScenes):
    """Scenes of seen words with a caption that names up to three of the words seen; no mask leaves this data set.

    The pipeline begins with ``image`` and ``captions`` (the text).

    Args:
        pipeline: see :class:`SeenScenes`.
        kwargs: arguments of :class:`~ovseg.nano.dataset.RandomScenes`.
    """

    def results(self, index: int, scene: Scene, names: Sequence[str]) -> dict:
        seen = [name for name, shown in zip(names, scene.seen(len(names) - 1, SEEN), strict=True) if shown]
        words = list(dict.fromkeys(name for name in seen if name in self._index)) or ["scene"]
        part = [words[i] for i in np.random.permutation(len(words))[:3]]
        text = part[0] if len(part) == 1 else f"{', a '.join(part[:-1])} and a {part[-1]}"
        return {**super().results(index, scene, names), "captions": f"a photo of a {text}."}
