"""Photos that were encoded, and the results that words make of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ovseg.content import Watch
from ovseg.datasets.given import Picture
from ovseg.results import SegmentationResult
from ovseg.segmentors.photos import PhotoSegmentor
from ovseg.segmentors.records import EncodedPhoto, Wording
from ovseg.text import Vocabulary


@dataclass(frozen=True)
class FailedPhoto:
    """What :meth:`Segmenter.stream` gives in place of a result.

    Attributes:
        source: what was to be segmented, as it was given.
        error: why it was not.
    """

    source: Picture
    error: Exception


@dataclass(frozen=True)
class Wanted:
    """What a result holds besides its labels.

    Attributes:
        confidence: the largest class probability of every pixel.
        top: number of best classes of every pixel; 0: none.

    Raises:
        ValueError: for a ``top`` that is no number of classes.
    """

    confidence: bool
    top: int

    def __post_init__(self) -> None:
        if isinstance(self.top, bool) or not isinstance(self.top, int) or self.top < 0:
            raise ValueError(f"top is {self.top!r}; give a number of classes, or 0 for none")


def result_of(
    model: PhotoSegmentor, encoded: EncodedPhoto, image: np.ndarray, wording: Wording, wanted: Wanted
) -> SegmentationResult:
    """The result of an encoded photo for given words.

    Args:
        image: the photo's pixels, uint8 RGB ``[H, W, 3]``.
    """
    found = model.decide(encoded, wording, max(wanted.top, int(wanted.confidence)))
    result = SegmentationResult(found.labels.cpu().numpy().astype(np.uint16), wording.vocabulary.display_names, image)
    if found.regions is not None:
        result.regions = found.regions.cpu().numpy()
    if wanted.confidence:
        assert found.top_probabilities is not None  # decide gives what it is asked for
        result.confidence = found.top_probabilities[0].cpu().numpy()
    if wanted.top:
        assert found.top_classes is not None and found.top_probabilities is not None
        result.top_classes = found.top_classes[: wanted.top].cpu().numpy().astype(np.uint16)
        result.top_probabilities = found.top_probabilities[: wanted.top].cpu().numpy()
    return result


class EncodedImage:
    """A photo after everything that no word can change; made by :meth:`Segmenter.encode`.

    Holds the patch embeddings of the photo's windows (:attr:`nbytes`), its pixels, and what the method keeps of the
    whole photo (regions, SAM's encoding). Threads may share it. It belongs to its segmenter, whose own words it neither
    needs nor changes.
    """

    def __init__(
        self,
        model: PhotoSegmentor,
        words: Callable[..., tuple[Vocabulary, Any]],
        encoded: EncodedPhoto,
        image: np.ndarray,
        watch: Watch,
    ) -> None:
        self._model, self._words, self._encoded, self._image, self._watch = model, words, encoded, image, watch

    @property
    def nbytes(self) -> int:
        """Bytes of the features that words are compared with, masks included."""
        return self._encoded.nbytes

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` of the photo in pixels."""
        return self._image.shape[:2]

    @property
    def image(self) -> np.ndarray:
        """The photo, uint8 RGB ``[H, W, 3]``."""
        return self._image

    def opened(self) -> tuple[PhotoSegmentor, EncodedPhoto]:
        """The model and what it made of the photo, for those who look behind the labels (:mod:`ovseg.explain`).

        Raises:
            ValueError: if the segmenter's weights were changed or moved since.
        """
        if not self._model.same_weights(self._watch):
            raise ValueError(
                "the model's weights were changed or moved since this photo was encoded: call encode(image) again"
            )
        return self._model, self._encoded

    def wording(
        self, words: Vocabulary | str | Sequence | Mapping | None = None, background: str | None = None
    ) -> Wording:
        """The words of a call with the thresholds that belong to them; arguments as in :meth:`segment`.

        Raises:
            ValueError: for words that are none, or where there are none.
        """
        if words is not None:
            return self._model.wording(*self._words(words, background))
        if background is not None:
            raise ValueError("background is for words: give both, or neither for the segmenter's own")
        return self._model.wording()

    def segment(
        self,
        words: Vocabulary | str | Sequence | Mapping | None = None,
        *,
        background: str | None = None,
        confidence: bool = False,
        top: int = 0,
    ) -> SegmentationResult:
        """The labels that :meth:`Segmenter.segment` gives with these words.

        Args:
            words, background: see :meth:`Segmenter.set_vocabulary`; ``None``: the segmenter's words.
            confidence, top: as in :meth:`Segmenter.segment`.

        Raises:
            ValueError: for words that are none, or if the segmenter's weights were changed or moved to another device
                since the photo was encoded.
        """
        wanted = Wanted(confidence, top)
        model, encoded = self.opened()
        return result_of(model, encoded, self._image, self.wording(words, background), wanted)

    def __repr__(self) -> str:
        height, width = self.size
        return f"EncodedImage({width} x {height} pixels, {self.nbytes / 1e6:.1f} MB of features)"
