"""Scenes with label maps of some of the words: the others are held out, and never seen in a mask."""

from __future__ import annotations

import numpy as np

from ovseg.datasets.transforms import PackInputs
from ovseg.nano import sprites as sprite_files
from ovseg.nano.dataset import RandomScenes, class_names
from ovseg.registry import DATASETS

IGNORED = 255


def held_out_words() -> tuple[str, ...]:
    """The object words that trainings with masks never see: every fourth of the benchmark's, 43 of 172."""
    objects = [c.word for c in sprite_files.concepts() if c.benchmark]
    return tuple(objects[3::4])


def seen_words() -> tuple[str, ...]:
    """All other classes of the benchmark: 129 object words and 8 backgrounds."""
    unseen = held_out_words()
    return tuple(word for word in class_names() if word not in unseen)


@DATASETS.register_module()
class SceneLabels(RandomScenes):
    """Endless scenes of the words that are not held out, with their label maps.

    Items are what :class:`ovseg.datasets.transforms.PackInputs` gives: ``inputs`` uint8 ``[3, size, size]`` RGB and
    ``data_samples`` with ``gt_sem_seg``, classes in the order of :func:`seen_words`. Plain grounds have no word: 255.
    Scene ``i`` is a pure function of ``(seed, i)``.

    Args:
        kwargs: arguments of :class:`~ovseg.nano.dataset.RandomScenes`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**{"benchmark_share": 1.0, "photo_share": 0.0, **kwargs})
        words = seen_words()
        self._index = {word: i for i, word in enumerate(words)}
        self._pools = [np.array([i for i in pool if self.book.words[i] in self._index]) for pool in self._pools[:1]]
        self.metainfo = {"classes": words, "ignore_index": IGNORED}
        self._pack = PackInputs()

    def __getitem__(self, index: int) -> dict:
        scene, names = self.draw(index)
        classes = np.array([self._index.get(name, IGNORED) for name in names], dtype=np.int32)
        name = f"scene {index}"
        return self._pack.transform(
            {
                "image": scene.image,
                "labels": classes[scene.mask],
                "name": name,
                "img_path": name,
                "ori_shape": scene.mask.shape,
            }
        )
