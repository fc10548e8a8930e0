"""The head for score maps of classes, where names were put together before."""

from __future__ import annotations

import torch
from torch import Tensor

from ovseg.heads.max_query import MaxQueryHead
from ovseg.registry import HEADS
from ovseg.scores import AnyScoreMap


@HEADS.register_module()
class ClassHead(MaxQueryHead):
    """As :class:`MaxQueryHead` for stitches whose maps are of classes, not of their names: softmax over classes,
    threshold, argmax (VIP's ``AliasStitch``, which scales its logits itself).

    Args:
        logit_scale, threshold, background, softmax: see :class:`MaxQueryHead`.
        unlabelled: pixels below the threshold get no class in place of the background's: label C, one more than the
            classes have (VIP where a benchmark has no background). For evaluation, with ``SegMetric(unlabelled=True)``.

    Raises:
        ValueError: for values out of range, or a background beside ``unlabelled``.
    """

    def __init__(
        self,
        logit_scale: float = 1.0,
        threshold: float = 0.0,
        background: int | None = 0,
        softmax: bool = True,
        unlabelled: bool = False,
    ) -> None:
        if unlabelled and background is not None:
            raise ValueError(f"background is {background}, but unlabelled pixels have no class; set background=None")
        super().__init__(logit_scale, threshold, 0 if unlabelled else background, softmax=softmax)
        self.background, self.unlabelled = background, unlabelled

    @property
    def leaves_out(self) -> bool:
        """Whether pixels below the threshold get no class: words of one's own may bring a background after all."""
        return self.unlabelled and self.background is None

    def by_class(
        self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int
    ) -> tuple[AnyScoreMap, Tensor, int]:
        """The scores as maps of classes, and classes that are their own queries.

        Raises:
            ValueError: if these are not maps of classes.
        """
        if scores.num_queries != num_classes:
            raise ValueError(
                f"{type(self).__name__} takes one map for each of {num_classes} classes, but there are "
                f"{scores.num_queries}; use a stitch that gives maps of classes (AliasStitch), or MaxQueryHead"
            )
        return scores, torch.arange(num_classes, device=query_to_class.device), num_classes

    def __call__(self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int) -> Tensor:
        if self.leaves_out and self.threshold:
            return self.labels_and_confidence(scores, query_to_class, num_classes)[0]
        return super().__call__(*self.by_class(scores, query_to_class, num_classes))

    def labels_and_confidence(
        self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int, threshold: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Labels int32 and the largest class's value float32, both ``[H, W]``; label C where a pixel is left out."""
        maps, leave_out = self.by_class(scores, query_to_class, num_classes), threshold and self.leaves_out
        labels, confidence = super().labels_and_confidence(*maps, threshold and not leave_out)
        if leave_out:
            labels = labels.masked_fill(confidence < self.threshold, num_classes)
        return labels, confidence

    def top(self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int, k: int) -> tuple[Tensor, Tensor]:
        """The best k classes of every pixel: int32 and float32 values ``[k, H, W]``."""
        return super().top(*self.by_class(scores, query_to_class, num_classes), k)

    def probabilities(
        self,
        scores: AnyScoreMap,
        query_to_class: Tensor,
        num_classes: int,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> Tensor:
        """Values of the classes ``[C, h, w]`` of a block of pixels."""
        return super().probabilities(*self.by_class(scores, query_to_class, num_classes), rows, columns)

    def sampled(self, scores: AnyScoreMap, query_to_class: Tensor, classes: Tensor, step: int) -> Tensor:
        """Values ``[K, h, w]`` of some classes at every ``step``-th pixel, before any threshold."""
        scores, index, _ = self.by_class(scores, query_to_class, int(query_to_class.max()) + 1)
        return super().sampled(scores, index, classes, step)

    def describe(self) -> dict[str, object]:
        """What travels with a result."""
        return {**super().describe(), **({"unlabelled": True} if self.unlabelled else {})}
