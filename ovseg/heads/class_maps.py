"""CLIPer's head: every class's map is scaled on its own and cut at a fixed level."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ovseg.heads.ranking import RunningTop
from ovseg.registry import HEADS
from ovseg.scores import ScoreMap

EPS = 1e-5


@HEADS.register_module()
class ClassMapHead:
    """Labels from one map per foreground query (CLIPer's post-processing).

    With ``peak`` the largest value of a query's patch map, the map at the photo's size is divided by its maximum and
    multiplied by ``peak``; with ``normalise`` its minimum becomes 0 and its maximum 1. Values below ``threshold``
    become zero, queries whose ``peak`` is at most ``score_threshold`` are dropped, the largest map wins, and pixels
    where all are zero are background.

    Without a background class there is no such label: those pixels take the class of the largest map before the cuts.
    (The official code gives them a label outside the classes, which can only be wrong.)

    Args:
        threshold: level below which a map counts as zero.
        score_threshold: queries with a smaller or equal ``peak`` are dropped.
        normalise: min-max normalisation per map.
        background: the background class; ``None``: there is none.
    """

    def __init__(
        self,
        threshold: float = 0.6,
        score_threshold: float = 0.7,
        normalise: bool = True,
        background: int | None = 0,
    ) -> None:
        self.threshold, self.score_threshold = float(threshold), float(score_threshold)
        self.normalise, self.background = normalise, background
        self.area_threshold = 0.0  # part of every head's interface (see MaxQueryHead)

    @property
    def active_background(self) -> int | None:
        """The background class, or ``None`` where thresholds are off and it is a class like any other."""
        return self.background if self.threshold else None

    def __call__(self, scores: ScoreMap, query_to_class: Tensor, num_classes: int) -> Tensor:
        """Labels ``[H, W]`` int32; ``scores`` hold the foreground queries only (see ``LayerwiseStitch``)."""
        return self.labels_and_confidence(scores, query_to_class, num_classes)[0]

    def labels_and_confidence(
        self, scores: ScoreMap, query_to_class: Tensor, num_classes: int, threshold: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Labels int32 and the winning map's value float32, both ``[H, W]``.

        Args:
            threshold: ``False`` gives the argmax of the maps before the cuts.
        """
        device = scores.cells.device
        best = torch.zeros(scores.size, device=device)
        any_best = torch.full(scores.size, -torch.inf, device=device)
        labels = torch.full(scores.size, -1, dtype=torch.int32, device=device)
        fallback = torch.zeros_like(labels)
        for index, whole, cut in self._maps(scores):
            label = int(self._foreground(query_to_class)[index])
            labels.masked_fill_(cut > best, label)
            best = torch.maximum(best, cut)
            fallback.masked_fill_(whole > any_best, label)
            any_best = torch.maximum(any_best, whole)
        if not threshold:
            return fallback, any_best
        if self.active_background is None:
            return torch.where(labels < 0, fallback, labels), best
        return labels.masked_fill(labels < 0, self.active_background), best

    def top(self, scores: ScoreMap, query_to_class: Tensor, num_classes: int, k: int) -> tuple[Tensor, Tensor]:
        """The best k classes of every pixel, before the cuts: int32 and the values of their maps ``[k, H, W]``.

        The background, which has no map, comes last with 0.
        """
        device = scores.cells.device
        best = RunningTop(k, scores.size, num_classes, device)
        foreground = self._foreground(query_to_class)
        for index, whole, _ in self._maps(scores):
            best.update(slice(None), slice(None), whole[None], foreground[index : index + 1])
        labels = self.labels_and_confidence(scores, query_to_class, num_classes, threshold=False)[0]
        classes, missing = best.led_by(labels), best.classes < 0
        background = 0 if self.active_background is None else self.active_background
        return classes.masked_fill(missing, background), best.values.masked_fill(missing, 0.0)

    def probabilities(
        self,
        scores: ScoreMap,
        query_to_class: Tensor,
        num_classes: int,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> Tensor:
        """Maps ``[C, h, w]`` after the cuts, largest over a class's queries; the background's is zero."""
        out = None
        for index, _, cut in self._maps(scores):
            cut = cut[rows, columns]
            out = cut.new_zeros(num_classes, *cut.shape) if out is None else out
            label = int(self._foreground(query_to_class)[index])
            out[label] = torch.maximum(out[label], cut)
        return out

    def sampled(self, scores: ScoreMap, query_to_class: Tensor, classes: Tensor, step: int) -> Tensor:
        """Maps ``[K, h, w]`` of some classes at every ``step``-th pixel, before the cuts (see ``MaxQueryHead``)."""
        height, width = (-(-n // step) for n in scores.size)
        out = torch.zeros(len(classes), height, width, device=query_to_class.device)
        foreground = self._foreground(query_to_class)
        for index, whole, _ in self._maps(scores):
            places = (classes == foreground[index]).nonzero()[:, 0].tolist()
            for place in places:
                out[place] = torch.maximum(out[place], whole[::step, ::step])
        return out

    def describe(self) -> dict[str, object]:
        """What travels with a result."""
        return {
            "threshold": self.threshold,
            "score_threshold": self.score_threshold,
            "normalise": self.normalise,
            "background": self.background,
        }

    def _foreground(self, query_to_class: Tensor) -> Tensor:
        background = self.active_background
        return query_to_class if background is None else query_to_class[query_to_class != background]

    def _maps(self, scores: ScoreMap) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Query by query: index, map before and after the cuts ``[H, W]``."""
        for index in range(scores.num_queries):
            whole = scores.block(slice(index, index + 1))[0]
            peak = scores.cells[index].max()
            whole = whole / (whole.max() + EPS) * peak
            if self.normalise:
                low = whole.min()
                whole = (whole - low) / (whole.max() - low + EPS)
            kept = (whole >= self.threshold) & (peak > self.score_threshold)
            yield index, whole, whole * kept
