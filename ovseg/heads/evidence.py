"""What labels were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ovseg.heads.class_maps import ClassMapHead
from ovseg.heads.max_query import MaxQueryHead
from ovseg.ops import bilinear_matrix
from ovseg.scores import AnyScoreMap

BLOCK_VALUES = 2**24
"""Bound on the numbers in a block of scores at full size."""


@dataclass
class Evidence:
    """What the labels of a photo are made from, for label refiners that look behind them.

    Attributes:
        scores: the score map, after the score refiners.
        head: the head that makes the labels.
        query_to_class: ``[Q]`` class of every query.
        num_classes: number of classes.
    """

    scores: AnyScoreMap
    head: MaxQueryHead | ClassMapHead
    query_to_class: Tensor
    num_classes: int

    def labels(self) -> Tensor:
        """The head's labels ``[H, W]`` int32, before any label refiner."""
        return self.head(self.scores, self.query_to_class, self.num_classes)

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        """The best k classes of every pixel (all, where there are fewer) before any threshold, best first: int32 and
        float32 ``[k, H, W]``."""
        return self.head.top(self.scores, self.query_to_class, self.num_classes, min(k, self.num_classes))

    def probabilities(self, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """Class probabilities ``[C, h, w]`` of a block of pixels, before any threshold."""
        return self.head.probabilities(self.scores, self.query_to_class, self.num_classes, rows, columns)

    def of_classes(self, classes: Sequence[int], rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """As :meth:`probabilities`, for some classes only and without ever holding the others at full size."""
        height, width = self.scores.size
        first, last, _ = rows.indices(height)
        step = max(1, BLOCK_VALUES // (self.scores.num_queries * len(range(*columns.indices(width)))))
        index = torch.tensor(list(classes), dtype=torch.long, device=self.query_to_class.device)
        starts = range(first, last, step)
        blocks = [self.probabilities(slice(y, min(y + step, last)), columns)[index] for y in starts]
        return torch.cat(blocks, dim=1)

    def sampled(self, classes: Sequence[int], step: int) -> Tensor:
        """Probabilities before any threshold, for some classes at every ``step``-th pixel: ``[K, h, w]``.

        Streamed: memory grows with ``classes`` and the pixels looked at.
        """
        index = torch.as_tensor(list(classes), dtype=torch.long, device=self.query_to_class.device)
        return self.head.sampled(self.scores, self.query_to_class, index, step)

    def best_at(self, size: tuple[int, int], rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """Largest class probability ``[h, w]`` after a part of the photo is resized (bilinear) to ``size``.

        Resizing comes before the maximum, as in the official code; done in bands, so that memory does not grow with
        classes x pixels.
        """
        height, width = self.scores.size
        y0, y1, _ = rows.indices(height)
        x0, x1, _ = columns.indices(width)
        device = self.query_to_class.device
        to_rows, to_columns = (bilinear_matrix(n, m).to(device) for n, m in zip((y1 - y0, x1 - x0), size, strict=True))
        step = max(1, BLOCK_VALUES * size[0] // (self.scores.num_queries * (x1 - x0) * (y1 - y0)))
        best = []
        for start in range(0, size[0], step):
            weights = to_rows[start : start + step]
            used = weights.any(dim=0).nonzero()
            first, last = int(used[0]), int(used[-1]) + 1
            block = self.probabilities(slice(y0 + first, y0 + last), slice(x0, x1))
            best.append((weights[:, first:last] @ block @ to_columns.T).amax(0))
        return torch.cat(best)
