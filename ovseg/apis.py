"""The library in three lines::

model = ovseg.load("naclip")
model.set_vocabulary(["cat", "sofa", "background"])
model.segment("photo.jpg").save("out.png")
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from torch import Tensor

from ovseg.arguments import side_in_pixels, suggestion
from ovseg.backbones.precision import set_precision
from ovseg.datasets.given import ChannelOrder, Layout, Picture, as_list, as_rgb, refuse_single
from ovseg.encoded import EncodedImage, FailedPhoto, Wanted, result_of
from ovseg.engine.config import check_config, config_root, load_config
from ovseg.errors import SetupError
from ovseg.heads import ClassMapHead, MaxQueryHead
from ovseg.photo import Photo
from ovseg.registry import MODELS, TRANSFORMS
from ovseg.results import SegmentationResult
from ovseg.segmentors.records import Wording
from ovseg.streaming import in_batches
from ovseg.structures import resolve_device
from ovseg.text import Vocabulary
from ovseg.weights.words import LearnedWords

DEFAULT_SHORT_SIDE = 336
# What a data pipeline does besides resizing: the photo is given, and there is no label map.
_NO_RESIZING = ("LoadImage", "LoadMask", "PackInputs")


DEFAULT_WEIGHTS = "nano-photo"
"""What is used where no weights are named: comes with ovseg, sees photographs."""
# Embedded weights have configs of their own: where they are, below the configs, and what they are evaluated on.
_OWN_CONFIGS = {"nano": "nano/{method}_nano_scenes.py", "nano-photo": "nano/{method}_photo_photos.py"}
_OWN_DATA = {"nano": "scenes", "nano-photo": "photographs"}
OWN_WEIGHTS = tuple(_OWN_CONFIGS)
"""Embedded weights: they come with ovseg and have settings of their own for the methods."""


_BENCHMARKS = {"voc21": "VOC21", "voc20": "VOC20"}
"""What a method's own protocol is taken from: the first that it has a config for."""
ENCODERS = ("vitb16", "vitb14", "vitl16")
"""Encoders in the names of configs of whole methods, the smallest first."""


def available_methods() -> list[str]:
    """Names that :class:`Segmenter` accepts as ``method``."""
    return sorted(p.stem for p in (config_root() / "_base_" / "models").glob("*.py"))


def has_own_config(method: str, weights: str) -> bool:
    """Whether a config comes with ovseg for this method with these embedded weights."""
    return weights in _OWN_CONFIGS and (config_root() / _OWN_CONFIGS[weights].format(method=method)).is_file()


def method_config(method: str, weights: str = DEFAULT_WEIGHTS) -> Config:
    """The config of a method with given CLIP weights: a published protocol.

    Weights that have configs of their own (nano-photo and nano: their windows are smaller) take those for photographs
    and scenes; all others take the method's config for VOC21, which is its paper's, with the weights put in.
    ``config.protocol`` says which, and how what you get differs from it. The words are yours; a text that belongs to
    VOC21's words (ITACLIP's definitions) is left out.

    Raises:
        SetupError: for an unknown method, listing those there are.
    """
    if method not in available_methods():
        known = available_methods()
        raise SetupError(f"unknown method {method!r}{suggestion(method, known)}; there are {', '.join(known)}")
    root = config_root()
    if has_own_config(method, weights):
        own = root / _OWN_CONFIGS[weights].format(method=method)
        config = load_config(own)
        general = Config.fromfile(root / "_base_" / "models" / f"{method}.py").model
        config.protocol = f"{method} on {weights}'s {_OWN_DATA[weights]} ({own.relative_to(root)}); words: yours"
        if changed := _other_settings(config.model, general):
            config.protocol += f"; {weights}'s own settings of {', '.join(changed)}"
        return config
    file = published_config(method)
    config = load_config(file)
    differences = ["words: yours"]
    backbone = config.model.backbone
    if "text" in backbone:
        _check_pair(method, weights, backbone)
    elif weights != backbone.weights:
        differences.append(f"weights: {weights}, there {backbone.weights}")
        backbone.weights = weights
    if config.model.pop("auxiliary_text", None):
        differences.append("no texts beside the names, there definitions of VOC21's classes")
    benchmark = _BENCHMARKS[file.stem.rpartition("_")[2]]
    config.protocol = f"{method} on {benchmark} ({file.relative_to(root)}); {'; '.join(differences)}"
    return config


def published_config(method: str) -> Path:
    """The config of a method with its paper's own weights for VOC21 (VOC20, where it has no background), with the
    smallest encoder there is."""
    wanted = (f"*/{method}_{size}_{benchmark}.py" for benchmark in _BENCHMARKS for size in ENCODERS)
    return next(file for pattern in wanted for file in config_root().glob(pattern))


def _check_pair(method: str, weights: str, backbone: ConfigDict) -> None:
    """Raise SetupError for weights that are neither half of a trained pair of image and text encoder."""
    if weights not in (backbone.weights, backbone.text):
        trained = "which were trained together"
        if "text_map" in backbone:
            trained = f"between which its map {backbone.text_map} was trained"
        raise SetupError(
            f"{method} compares words of {backbone.text} with patches of {backbone.weights}, {trained}; {weights} is "
            "neither. Name one of the two as weights, or give a config with another pair"
        )


def _other_settings(model: Mapping, general: Mapping) -> list[str]:
    """Parts of a model config that differ from the method's general one, with the component where it is another."""
    changed = []
    for key in sorted({*model, *general} - {"vocabulary"}):
        here, there = model.get(key), general.get(key)
        kinds = [part.get("type") if isinstance(part, Mapping) else None for part in (here, there)]
        if here != there and (key != "backbone" or kinds[0] != kinds[1]):
            changed.append(key if kinds[0] == kinds[1] else f"{key} ({kinds[0]} for {kinds[1]})")
    return changed


class Segmenter:
    """A method ready to segment photos.

    Without ``config`` it runs a published protocol (short side, windows, thresholds of the method's own config for
    VOC21; the embedded models' for photographs and scenes) with your words; :attr:`protocol` says which one and how
    this differs. With ``config`` it runs that config. Either way photos are resized by the config's own test pipeline,
    except that the whole photo is labelled where a benchmark judges a central square (CLIPtrase). Thresholds act only
    where a background is named.

    Args:
        weights: CLIP weights by catalogue name (``ovseg weights list``); ``'nano-photo'`` (for photographs)
            and ``'nano'`` (for composed scenes) are embedded: small, for a first look.
        method: name of a method, see :func:`available_methods`.
        config: a config file or MMEngine config to use instead of ``weights`` and ``method``.
        checkpoint: file with the CLIP weights, instead of the catalogue's.
        device: ``'cpu'``, ``'cuda'``, ...; ``None``: CUDA where there is a GPU.
        short_side: photos are resized so that their short side has this many pixels before windows are cut; ``None``:
            the config's own, else 336.
        precision: of all encoders: ``'fp32'``, ``'bf16'``, ``'fp16'``, ``'int8'``, or ``'auto'``: the fastest on this
            device by capability or measurement (:mod:`ovseg.backbones.precision`); ``None``: as in the config, and
            ``'auto'`` where that states none.

    Attributes:
        protocol: one line: what is run, and how it differs from the published protocol.

    Raises:
        ValueError: for a method, device, short side, precision or config that cannot be run (most as its subclass
            :class:`ovseg.errors.SetupError`).
        WeightsError: for weights that are unknown, not here or damaged.
    """

    def __init__(
        self,
        weights: str = DEFAULT_WEIGHTS,
        method: str = "naclip",
        *,
        config: str | Path | Config | None = None,
        checkpoint: str | Path | None = None,
        device: str | torch.device | None = None,
        short_side: int | None = None,
        precision: str | None = None,
    ) -> None:
        if short_side is not None:
            short_side = side_in_pixels("short_side", short_side, DEFAULT_SHORT_SIDE)
        device = resolve_device(device)
        settings = _config_of(config, method, weights)
        model = settings.model.copy()
        model.vocabulary = None
        if checkpoint is not None:
            model.backbone.checkpoint = str(checkpoint)
        self.model = MODELS.build(model).to(device).eval()
        if not hasattr(self.model, "prepare"):
            raise SetupError(
                f"config {settings.filename}: {model.type} is trained, it segments no photos; give a config that is "
                "evaluated"
            )
        set_precision(self.model, precision or "auto", unstated_only=precision is None)
        self._told: set[str] = set()
        self._thresholds = (self.model.head.threshold, self.model.head.area_threshold)
        self._resize, self.short_side, note = _resize_steps(settings, short_side)
        self.protocol = "; ".join(filter(None, [settings.get("protocol") or f"config {settings.filename}", note]))

    @classmethod
    def from_config(cls, config: str | Path | Config, **kwargs) -> Segmenter:
        """Like ``Segmenter(config=config, ...)``."""
        return cls(config=config, **kwargs)

    @property
    def resizing(self) -> tuple[Any, ...]:
        """The steps that a photo goes through before windows are cut, in their order."""
        return tuple(self._resize)

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

        Models that bring a list of their training's words (nano-photo, nano) warn, once per word, of words they have
        not learned. A class that is only called "background" is what nano-photo's list says: grass, sky, food and some
        200 more, less what other classes go by; it takes the pixels below the threshold too.

        Raises:
            ValueError: for empty or duplicate names, or a ``background`` that is not among them.
        """
        vocabulary, head = self._words(vocabulary, background)
        self.model.set_vocabulary(vocabulary, head=head)

    def _words(
        self, vocabulary: Vocabulary | str | Sequence | Mapping, background: str | None
    ) -> tuple[Vocabulary, MaxQueryHead | ClassMapHead]:
        """A vocabulary, and the head with the thresholds that belong to it."""
        vocabulary = Vocabulary.of(vocabulary)
        if background is not None:
            vocabulary = vocabulary.with_background(background)
        learned = self.model.backbone.words
        if learned is not None:
            self._tell(learned.unknown(vocabulary.queries))
            vocabulary = _understood(vocabulary, learned)
        head = copy.copy(self.model.head)
        if vocabulary.background is None:
            head.threshold = head.area_threshold = 0.0
        else:
            head.background = vocabulary.background
            head.threshold, head.area_threshold = self._thresholds
            if background is not None and not (any(self._thresholds) or self.model.finds_background):
                warnings.warn(
                    f"background {background!r} is a class like any other: this method's config has no threshold; set "
                    "`threshold` of `model.head` in a config, as those for VOC21 do",
                    stacklevel=3,
                )
        return vocabulary, head

    def wording(self, vocabulary: Vocabulary | str | Sequence | Mapping, background: str | None = None) -> Wording:
        """Words made ready for many photos, without changing the segmenter's own: their embeddings and thresholds.

        Args:
            vocabulary, background: as in :meth:`set_vocabulary`.

        Raises:
            ValueError: as :meth:`set_vocabulary`.
        """
        return self.model.wording(*self._words(vocabulary, background))

    def _tell(self, unknown: Iterable[str]) -> None:
        """Warn of words that the model never saw in training, of each once."""
        new = [word for word in unknown if word not in self._told]
        self._told.update(new)
        if new:
            words = ", ".join(map(repr, new))
            warnings.warn(f"{self.model.backbone.weights} has not learned: {words}", stacklevel=4)

    def to(self, device: str | torch.device | None) -> Segmenter:
        """Move the model to a device; see ``device`` of the constructor. What was encoded before is encoded again.

        Raises:
            ValueError: for a device that this machine does not have.
        """
        self.model.to(resolve_device(device))
        return self

    def segment(
        self,
        image: Picture,
        *,
        confidence: bool = False,
        top: int = 0,
        channel_order: ChannelOrder | None = None,
        layout: Layout | None = None,
    ) -> SegmentationResult:
        """Segment one photo. Threads may call this at the same time; the words are those at the start of the call.

        Args:
            image: a path, an address (``https://...``), encoded bytes, a binary file object, a Pillow image, a NumPy
                array ``[H, W]`` or ``[H, W, C]``, or a torch tensor (``[C, H, W]`` or ``[H, W, C]``); uint8, or floats
                from 0 to 1. See :func:`ovseg.datasets.given.as_rgb`.
            confidence: fill ``result.confidence``: the largest class probability of every pixel, before thresholds and
                label refiners: where these gave a pixel to another class, it is not that class's. (CLIPer: the value
                of the largest map, before its cuts.)
            top: fill ``result.top_classes`` and ``result.top_probabilities`` with the best ``top`` classes (at most
                all), likewise.
            channel_order: of an array or tensor: ``'rgb'`` (the default) or ``'bgr'``, as OpenCV gives them.
            layout: of an array or tensor: ``'hwc'`` or ``'chw'``, where the shape does not say it.

        Returns:
            labels at the photo's own size.

        Raises:
            ImageReadError: naming the photo that cannot be read.
            TypeError: for anything that is no picture.
            ValueError: if no vocabulary was set, or for an array whose pixels are not clear.
        """
        wanted = Wanted(confidence, top)
        return self._segment([as_rgb(image, channel_order, layout)], [image], self.model.wording(), wanted)[0]

    def segment_batch(
        self,
        images: Iterable[Picture],
        *,
        confidence: bool = False,
        top: int = 0,
        channel_order: ChannelOrder | None = None,
        layout: Layout | None = None,
    ) -> list[SegmentationResult]:
        """Segment photos of any sizes; the result of each does not depend on the others.

        Args:
            images: a list of what :meth:`segment` takes, or an array or tensor of four dimensions.
            confidence, top, channel_order, layout: as in :meth:`segment`, for all of them.

        Raises:
            TypeError: for a single picture.
            ImageReadError, TypeError, ValueError: as in :meth:`segment`.
        """
        wanted, images = Wanted(confidence, top), as_list(images)
        arrays = [as_rgb(image, channel_order, layout) for image in images]
        return self._segment(arrays, images, self.model.wording(), wanted)

    def stream(
        self,
        images: Iterable[Picture],
        *,
        batch: int = 4,
        on_error: Literal["yield", "raise"] = "yield",
        confidence: bool = False,
        top: int = 0,
        channel_order: ChannelOrder | None = None,
        layout: Layout | None = None,
    ) -> Iterator[SegmentationResult | FailedPhoto]:
        """Segment any number of photos, in their order, in bounded memory.

        A background thread reads the next photos while these are segmented; at most ``3 * batch`` are held. It ends
        when the iteration does, also early (``close()`` of the iterator, or leaving it). The words are those at the
        call of ``stream``. Results are those of :meth:`segment`.

        Args:
            images: what :meth:`segment` takes, one after another: a list, a generator, a folder's ``glob``.
            batch: photos that are segmented together.
            on_error: ``'yield'``: a photo that fails gives a :class:`FailedPhoto` in its place; ``'raise'``: its error
                is raised, after the results before it.
            confidence, top, channel_order, layout: as in :meth:`segment`.

        Raises:
            ValueError: at the call: no vocabulary was set, or an argument that is none.
            TypeError: at the call: for a single picture.
        """
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise ValueError(f"batch is {batch!r}; give a number of photos from 1")
        if on_error not in ("yield", "raise"):
            raise ValueError(f"on_error is {on_error!r}; choose 'yield' or 'raise'")
        refuse_single(images)
        wanted, wording = Wanted(confidence, top), self.model.wording()

        def read(image: Picture) -> np.ndarray:
            return as_rgb(image, channel_order, layout)

        def segment(sources: list[Picture], arrays: list[np.ndarray]) -> list[SegmentationResult]:
            return self._segment(arrays, sources, wording, wanted)

        def work() -> Iterator[SegmentationResult | FailedPhoto]:
            with contextlib.closing(in_batches(images, read, segment, batch)) as outcomes:
                for source, result, error in outcomes:
                    if error is None:
                        assert result is not None  # one of the two is there
                        yield result
                    elif on_error == "raise":
                        raise error
                    else:
                        yield FailedPhoto(source, error)

        return work()

    def encode(
        self, image: Picture, *, channel_order: ChannelOrder | None = None, layout: Layout | None = None
    ) -> EncodedImage:
        """Do all that needs no word, once: ``model.encode(photo).segment(words)`` costs the words' side only.

        Args:
            image, channel_order, layout: as in :meth:`segment`.

        Raises:
            ImageReadError, TypeError, ValueError: as in :meth:`segment`; no vocabulary is needed.
        """
        return self._encode([as_rgb(image, channel_order, layout)], [image])[0]

    def encode_batch(
        self,
        images: Iterable[Picture],
        *,
        names: Sequence[str | Path] | None = None,
        channel_order: ChannelOrder | None = None,
        layout: Layout | None = None,
    ) -> list[EncodedImage]:
        """:meth:`encode` for photos of any sizes at once; none depends on the others.

        Args:
            images: as in :meth:`segment_batch`.
            names: one per photo, what configs that look files up by the photo's name go by; ``None``: the paths among
                ``images``.
            channel_order, layout: as in :meth:`segment`, for all of them.

        Raises:
            TypeError: for a single picture.
            ValueError: for another number of names.
            ImageReadError, TypeError, ValueError: as in :meth:`encode`.
        """
        images = as_list(images)
        if names is not None and len(names) != len(images):
            raise ValueError(f"{len(names)} names for {len(images)} photos: one for each is needed")
        arrays = [as_rgb(image, channel_order, layout) for image in images]
        return self._encode(arrays, images if names is None else names)

    def _encode(self, arrays: Sequence[np.ndarray], sources: Sequence[Picture]) -> list[EncodedImage]:
        watch = self.model.watch()  # before: what is changed meanwhile is noticed
        photos = [self._photo(array, source) for array, source in zip(arrays, sources, strict=True)]
        encoded = self.model.encode(photos)
        return [
            EncodedImage(self.model, self._words, one, array, watch) for one, array in zip(encoded, arrays, strict=True)
        ]

    def _photo(self, array: np.ndarray, source: Picture) -> Photo:
        """A photo made ready: resized as the config says."""
        results: dict[str, Any] = dict(image=array, original=array, ori_shape=array.shape[:2])
        if isinstance(source, str | Path):
            results["img_path"] = str(source)
        for step in self._resize:
            try:
                results = step.transform(results)
            except KeyError as error:
                if "img_path" in results or error.args != ("img_path",):
                    raise
                name = type(step).__name__
                raise SetupError(
                    f"{name} of this config looks a file up by the photo's name: give the photo as a path"
                ) from error
        regions = results.get("regions")
        regions = None if regions is None else torch.from_numpy(regions)
        return self.model.prepare(_to_tensor(results["image"]), array.shape[:2], _to_tensor(array), regions)

    def _segment(
        self, arrays: Sequence[np.ndarray], sources: Sequence[Picture], wording: Wording, wanted: Wanted
    ) -> list[SegmentationResult]:
        photos = [self._photo(array, source) for array, source in zip(arrays, sources, strict=True)]
        encoded = self.model.encode(photos)
        return [result_of(self.model, one, a, wording, wanted) for one, a in zip(encoded, arrays, strict=True)]


def load(
    method: str | Path | Config | None = None,
    weights: str | None = None,
    *,
    config: str | Path | Config | None = None,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    short_side: int | None = None,
    precision: str | None = None,
) -> Segmenter:
    """A :class:`Segmenter` by name: ``ovseg.load("trident", weights="openai/ViT-B-16")``.

    Args:
        method: a method's name (:func:`available_methods`), or a config: a file (``.py``, or a path with a folder) or
            an MMEngine config; ``None``: the default method.
        weights: CLIP weights by catalogue name; ``None``: the embedded default.
        config: a config, by name of the argument.
        checkpoint, device, short_side, precision: see :class:`Segmenter`.

    Raises:
        ValueError: for a config together with ``weights`` or a method, or as :class:`Segmenter`.
        WeightsError: for weights that are unknown, not here or damaged.
    """
    if config is None and _is_config(method):
        method, config = None, method
    if config is not None and (method is not None or weights is not None):
        given = f"method={method!r}" if method is not None else f"weights={weights!r}"
        raise SetupError(f"{given} together with a config, which names both: give one or the other")
    named: dict[str, Any] = {
        name: value for name, value in (("method", method), ("weights", weights)) if value is not None
    }
    return Segmenter(
        **named, config=config, checkpoint=checkpoint, device=device, short_side=short_side, precision=precision
    )


def _is_config(method: str | Path | Config | None) -> bool:
    """Whether the first argument of :func:`load` is a config and no method's name."""
    if isinstance(method, str):
        return method.endswith((".py", ".json", ".yaml", ".yml")) or "/" in method or "\\" in method
    return method is not None


def _understood(vocabulary: Vocabulary, learned: LearnedWords) -> Vocabulary:
    """The words as a small model needs them: a class that is only called "background" gets the model's own words for
    it, but those that another class goes by, and takes the pixels below the threshold."""
    plain = [i for i, names in enumerate(vocabulary.classes) if [n.strip().lower() for n in names] == ["background"]]
    if not learned.background or not plain:
        return vocabulary
    index, classes = plain[0], [*vocabulary.classes]
    taken = {name.lower() for i, names in enumerate(classes) if i != index for name in names}
    classes[index] = tuple(name for name in learned.background if name not in taken) or classes[index]
    shown = [*(vocabulary.shown or (None,) * len(classes))]
    shown[index] = vocabulary.display_names[index]
    taker = index if vocabulary.background is None else vocabulary.background
    return replace(vocabulary, classes=tuple(classes), shown=tuple(shown), background=taker)


def _config_of(config: str | Path | Config | None, method: str, weights: str) -> Config:
    """A checked config of what was asked for."""
    if config is None:
        return method_config(method, weights)
    if isinstance(config, Config):
        check_config(config)
        loaded = config
    elif isinstance(config, str | Path):
        loaded = load_config(config)
    else:
        raise SetupError(f"config is a {type(config).__name__}; give a file or an MMEngine Config")
    if not isinstance(loaded.get("model"), Mapping):
        raise SetupError(f"config {loaded.filename or ''} has no model: give the config of a method")
    return loaded


def _resize_steps(config: Config, short_side: int | None) -> tuple[list, int | None, str]:
    """The resizing of a config's test pipeline, for one photo without a label map.

    Returns:
        its steps, the short side they give (``None``: they do not say), and how this differs from the pipeline.
    """
    loader = config.get("test_dataloader") or {}
    pipeline = (loader.get("dataset") or {}).get("pipeline") or config.get("test_pipeline") or []
    steps = [dict(step) for step in pipeline if step.get("type") not in _NO_RESIZING]
    notes = []
    own = [step for step in steps if "short_side" in step]
    if not own:
        steps.insert(0, dict(type="ResizeShortSide", short_side=short_side or DEFAULT_SHORT_SIDE))
        own = steps[:1]
        if pipeline or short_side is not None:
            there = "there photos keep their size" if pipeline else "the config does not say"
            notes.append(f"short side {own[0]['short_side']}, {there}")
    wanted = short_side if short_side is not None else config.get("short_side")
    for step in own:
        if short_side is not None and step["short_side"] != short_side:
            notes.append(f"short side {short_side}, there {config.get('short_side') or step['short_side']}")
        if wanted is not None:
            step["short_side"] = side_in_pixels("short_side", wanted)
        if step.pop("center_crop", False):
            notes.append("the whole photo, there a central square")
    init_default_scope("ovseg")
    return [TRANSFORMS.build(step) for step in steps], own[-1]["short_side"], "; ".join(dict.fromkeys(notes))


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
