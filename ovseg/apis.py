"""The library in three lines::

model = ovseg.Segmenter("nano", method="naclip")
model.set_vocabulary(["cat", "sofa", "background"])
model.segment("photo.jpg").save("out.png")
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from ovseg.backbones.precision import set_precision
from ovseg.datasets.io import read_image
from ovseg.datasets.transforms import resize_short_side
from ovseg.engine.config import config_root
from ovseg.registry import MODELS
from ovseg.results import SegmentationResult
from ovseg.structures import resolve_device
from ovseg.text import Vocabulary


def available_methods() -> list[str]:
    """Names that :class:`Segmenter` accepts as ``method``."""
    return sorted(p.stem for p in (config_root() / "_base_" / "models").glob("*.py"))


def method_config(method: str, weights: str = "nano") -> Config:
    """The config of a method with given CLIP weights.

    nano has configs of its own (its windows are smaller); for other weights the method's base config is used with the
    weights put in, and the short side of its config for VOC21.

    Raises:
        ValueError: for an unknown method, listing those there are.
    """
    root = config_root()
    own = root / weights / f"{method}_{weights}_scenes.py"
    base = root / "_base_" / "models" / f"{method}.py"
    if own.is_file():
        return Config.fromfile(own)
    if not base.is_file():
        raise ValueError(f"unknown method {method!r}; there are {', '.join(available_methods())}")
    config = Config.fromfile(base)
    config.model.backbone.weights = weights
    benchmark = root / method / f"{method}_vitb16_voc21.py"
    if benchmark.is_file():
        config.short_side = Config.fromfile(benchmark).get("short_side")
    return config


class Segmenter:
    """A method ready to segment photos.

    Args:
        weights: CLIP weights by catalogue name (``python -m ovseg weights list``); ``'nano'`` is embedded.
        method: name of a method, see :func:`available_methods`.
        config: a config file or MMEngine config to use instead of ``weights`` and ``method``.
        checkpoint: file with the CLIP weights, instead of the catalogue's.
        device: ``'cpu'``, ``'cuda'``, ...; ``None``: CUDA where there is a GPU.
        short_side: photos are resized so that their short side has this many pixels before windows are cut; ``None``:
            the method's own setting where its config has one, else 336.
        precision: of all encoders: ``'fp32'``, ``'bf16'``, ``'fp16'``, ``'int8'``, or ``'auto'``: the fastest on this
            device by capability or measurement (:mod:`ovseg.backbones.precision`); ``None``: as in the config, and
            ``'auto'`` where that states none.
    """

    def __init__(
        self,
        weights: str = "nano",
        method: str = "naclip",
        *,
        config: str | Path | Config | None = None,
        checkpoint: str | Path | None = None,
        device: str | torch.device | None = None,
        short_side: int | None = None,
        precision: str | None = None,
    ) -> None:
        if short_side is not None and short_side < 1:
            raise ValueError(f"short_side is {short_side}; give a number of pixels, e.g. 336")
        if config is None:
            config = method_config(method, weights)
        elif not isinstance(config, Config):
            config = Config.fromfile(config)
        model = config.model.copy()
        model.vocabulary = None
        if checkpoint is not None:
            model.backbone.checkpoint = str(checkpoint)
        self.model = MODELS.build(model).to(resolve_device(device)).eval()
        set_precision(self.model, precision or "auto", unstated_only=precision is None)
        self._thresholds = (self.model.head.threshold, self.model.head.area_threshold)
        self.short_side = config.get("short_side") or 336 if short_side is None else short_side

    @classmethod
    def from_config(cls, config: str | Path | Config, **kwargs) -> Segmenter:
        """Like ``Segmenter(config=config, ...)``."""
        return cls(config=config, **kwargs)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words in use."""
        return self.model.vocabulary

    def set_vocabulary(self, vocabulary: Vocabulary | str | Sequence | Mapping, background: str | None = None) -> None:
        """Choose the words.

        Args:
            vocabulary: class names; ``'sofa; couch'`` or ``('sofa', 'couch')`` gives one class two prompts. Or whatever
                else :meth:`Vocabulary.of` takes: a packaged name, a class file, a mapping of names to synonyms.
            background: name of the class that takes pixels below the method's threshold; ``None``: the vocabulary's
                own. Thresholds are off where there is none.

        Raises:
            ValueError: for empty or duplicate names, or a ``background`` that is not among them.
        """
        vocabulary = Vocabulary.of(vocabulary)
        if background is not None:
            vocabulary = vocabulary.with_background(background)
        self.model.set_vocabulary(vocabulary)
        head = self.model.head
        if vocabulary.background is None:
            head.threshold = head.area_threshold = 0.0
        else:
            head.background = vocabulary.background
            head.threshold, head.area_threshold = self._thresholds
            if background is not None and not (any(self._thresholds) or self.model.attention.background):
                warnings.warn(
                    f"background {background!r} is a class like any other: this method's config has no threshold; set "
                    "`threshold` of `model.head` in a config, as those for VOC21 do",
                    stacklevel=2,
                )

    def segment(self, image: str | Path | bytes | np.ndarray) -> SegmentationResult:
        """Segment one photo; see :meth:`segment_batch`."""
        return self.segment_batch([image])[0]

    def segment_batch(self, images: Sequence[str | Path | bytes | np.ndarray]) -> list[SegmentationResult]:
        """Segment photos of any sizes; the result of each does not depend on the others.

        Args:
            images: paths, encoded bytes, or uint8 RGB arrays ``[H, W, 3]``.

        Raises:
            ImageReadError: naming the photo that cannot be read.
            ValueError: if no vocabulary was set, or an array is not a uint8 RGB image.
        """
        arrays = [_as_rgb(image) for image in images]
        photos = [self.model.prepare(self._resized(a), a.shape[:2], _to_tensor(a)) for a in arrays]
        labels = self.model.predict(photos)
        names = self.model.vocabulary.display_names
        return [
            SegmentationResult(y.cpu().numpy().astype(np.uint16), names, a) for y, a in zip(labels, arrays, strict=True)
        ]

    def _resized(self, image: np.ndarray) -> Tensor:
        return _to_tensor(resize_short_side(image, self.short_side))


def _as_rgb(image: str | Path | bytes | np.ndarray) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        return read_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"array of shape {image.shape} and type {image.dtype}; give uint8 RGB [H, W, 3]")
    return image


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
