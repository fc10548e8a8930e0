"""The same photo and words by several methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ovseg.apis import DEFAULT_WEIGHTS, Segmenter
from ovseg.datasets.given import Picture
from ovseg.explain.errors import error_map
from ovseg.results import SegmentationResult
from ovseg.text import Vocabulary


@dataclass(frozen=True)
class MethodResult:
    """What one method makes of a photo.

    Attributes:
        method: its name.
        result: the labels.
        miou: percent, over the classes that are in the photo or were predicted; ``None`` without a ground truth.
    """

    method: str
    result: SegmentationResult
    miou: float | None = None


def by_methods(
    image: Picture,
    words: Vocabulary | str | Sequence | Mapping,
    methods: Iterable[str],
    weights: str = DEFAULT_WEIGHTS,
    truth: np.ndarray | None = None,
    *,
    background: str | None = None,
    device: str | None = None,
    ignore_index: int = 255,
) -> Iterator[MethodResult]:
    """Segment a photo by several methods, one after the other; a model is let go before the next is loaded.

    Args:
        image, words, background: as in :meth:`ovseg.Segmenter.segment` and :meth:`ovseg.Segmenter.set_vocabulary`.
        methods: names; each takes its own settings for these weights.
        weights: CLIP weights by catalogue name.
        truth: integer ``[H, W]``, classes in the order of the words, or ``ignore_index``.
        device: see :class:`ovseg.Segmenter`.
        ignore_index: label of pixels that do not count.

    Raises:
        ValueError, WeightsError: as :class:`ovseg.Segmenter`, or for a ground truth that does not fit.
    """
    for method in methods:
        model = Segmenter(weights, method, device=device)
        model.set_vocabulary(words, background=background)
        result = model.segment(image)
        miou = None if truth is None else error_map(result.labels, truth, result.names, ignore_index).miou
        yield MethodResult(method, result, miou)
