"""Composed validation scenes as a data set: for the mIoU during a training. Not the benchmark."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from ovseg.datasets.transforms import PackInputs
from ovseg.nano import sprites as sprite_files
from ovseg.nano.probe import validation_scenes
from ovseg.registry import DATASETS


@DATASETS.register_module()
class ValidationScenes(Dataset):
    """Scenes of the benchmark's words with seeds of their own, drawn when the data set is built.

    Args:
        sprites: sprite pack or folder, see :mod:`ovseg.nano.sprites`.
        count: number of scenes.
        size: ``(height, width)`` in pixels.
        seed: neither that of a training nor of the benchmark.

    Items are what :class:`ovseg.datasets.transforms.PackInputs` gives: ``inputs`` uint8 ``[3, h, w]`` RGB and
    ``data_samples`` with ``gt_sem_seg``, classes as in the benchmark's ``classes.txt``.
    """

    def __init__(
        self,
        sprites: str = str(sprite_files.DEFAULT_PACK),
        count: int = 40,
        size: tuple[int, int] = (256, 320),
        seed: int = 600_000_000,
    ) -> None:
        words, self.scenes = validation_scenes(sprite_files.load(sprites), count, tuple(size), seed)
        self.metainfo = {"classes": tuple(words), "ignore_index": 255}
        self._pack = PackInputs()

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict:
        image, mask = self.scenes[index]
        name = f"validation scene {index}"
        return self._pack.transform(
            {
                "image": np.ascontiguousarray(image),
                "labels": mask,
                "name": name,
                "img_path": name,
                "ori_shape": mask.shape,
            }
        )
