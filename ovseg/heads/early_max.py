"""LPOSS's head: the maximum over the words of a class comes before the last resize."""

from __future__ import annotations

import torch
from torch import Tensor

from ovseg.heads.max_query import MaxQueryHead
from ovseg.registry import HEADS
from ovseg.scores import AnyScoreMap, ResizedScoreMap


@HEADS.register_module()
class EarlyMaxHead(MaxQueryHead):
    """Labels of the largest raw score: over the words of a class first, at the size the stitch works at, over classes
    after that is resized to the photo.

    Needs a stitch that gives a :class:`ovseg.scores.ResizedScoreMap` (LPOSS's). The order matters, since a maximum does
    not commute with bilinear interpolation.

    Args:
        background: the background class, a class like any other here; there is no threshold.
    """

    def __init__(self, background: int | None = None) -> None:
        super().__init__(logit_scale=1.0, background=background, softmax=False)

    def __call__(self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int) -> Tensor:
        return super().__call__(*_by_class(scores, query_to_class, num_classes))

    def labels_and_confidence(
        self,
        scores: AnyScoreMap,
        query_to_class: Tensor,
        num_classes: int,
        threshold: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Labels int32 and the largest score float32, both ``[H, W]``."""
        return super().labels_and_confidence(*_by_class(scores, query_to_class, num_classes), threshold)

    def top(self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int, k: int) -> tuple[Tensor, Tensor]:
        """The best k classes of every pixel: int32 and float32 scores ``[k, H, W]``."""
        return super().top(*_by_class(scores, query_to_class, num_classes), k)

    def probabilities(
        self,
        scores: AnyScoreMap,
        query_to_class: Tensor,
        num_classes: int,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> Tensor:
        """Scores of the classes ``[C, h, w]`` of a block of pixels."""
        return _by_class(scores, query_to_class, num_classes)[0].block(rows=rows, columns=columns)


def _by_class(scores: AnyScoreMap, query_to_class: Tensor, num_classes: int) -> tuple[ResizedScoreMap, Tensor, int]:
    """The scores as maps of classes, and classes that are their own queries.

    Raises:
        ValueError: for scores that are not at another size first.
    """
    if not isinstance(scores, ResizedScoreMap):
        raise ValueError(
            f"EarlyMaxHead works with stitches that resize at the end (GraphStitch), not with {type(scores).__name__}; "
            "use MaxQueryHead, and refine with GraphStitch(pixels=...)"
        )
    maps = scores if scores.classes is not None else scores.by_class(query_to_class, num_classes)
    return maps, torch.arange(num_classes, device=query_to_class.device), num_classes
