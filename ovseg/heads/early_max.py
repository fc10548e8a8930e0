"""LPOSS's head: the maximum over the words of a class comes before the last resize."""

from __future__ import annotations

import torch
from torch import Tensor

from ovseg.heads.class_head import ClassHead
from ovseg.registry import HEADS
from ovseg.scores import AnyScoreMap, ResizedScoreMap


@HEADS.register_module()
class EarlyMaxHead(ClassHead):
    """Labels of the largest raw score: over the words of a class first, at the size the stitch works at, over classes
    after that is resized to the photo.

    Needs a stitch that gives a :class:`ovseg.scores.ResizedScoreMap` (LPOSS's). The order matters, since a maximum does
    not commute with bilinear interpolation.

    Args:
        background: the background class, a class like any other here; there is no threshold.
    """

    def __init__(self, background: int | None = None) -> None:
        super().__init__(background=background, softmax=False)

    def by_class(
        self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int
    ) -> tuple[ResizedScoreMap, Tensor, int]:
        """The scores as maps of classes, and classes that are their own queries.

        Raises:
            ValueError: for scores that are not at another size first.
        """
        if not isinstance(scores, ResizedScoreMap):
            raise ValueError(
                f"EarlyMaxHead works with stitches that resize at the end (GraphStitch), not with "
                f"{type(scores).__name__}; use MaxQueryHead, and refine with GraphStitch(pixels=...)"
            )
        maps = scores if scores.classes is not None else scores.by_class(query_to_class, num_classes)
        return maps, torch.arange(num_classes, device=query_to_class.device), num_classes

    def probabilities(
        self,
        scores: AnyScoreMap,
        query_to_class: Tensor,
        num_classes: int,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> Tensor:
        """Scores of the classes ``[C, h, w]`` of a block of pixels; they may be negative."""
        return self.by_class(scores, query_to_class, num_classes)[0].block(rows=rows, columns=columns)
