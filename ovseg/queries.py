"""The words as the pipeline sees them, and the comparison of patches with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ovseg.structures import FeatureMap
from ovseg.text import Vocabulary


def unit_patches(features: FeatureMap) -> Tensor:
    """Patch embeddings as unit vectors on their grid, ``[B, gh, gw, D]`` float32: what queries are compared with."""
    return F.normalize(features.patches.float(), dim=-1).unflatten(1, features.grid)


@dataclass(frozen=True)
class Queries:
    """One embedding per query, and what the queries stand for.

    Attributes:
        text: ``[Q, D]`` float32 unit vectors, or means of such (``keep_length``).
        query_to_class: ``[Q]`` int64 class of every query.
        num_classes: number of classes.
        background: the vocabulary's background class; ``None``: there is none.
        cut_to: class of the pixels that the head's threshold leaves without one; ``None``: no threshold is on.
        probability_scale: ``None``: patches are scored by cosines. A number: by softmax(number * cosine).
        apart: with a ``probability_scale``, by sigmoid(number * cosine) instead: no query competes with another.
        embed: further words to unit vectors ``[q, D]``, for methods in which words compete that are no classes.
        vocabulary: the words themselves, for methods that embed them with another CLIP, too.
    """

    text: Tensor
    query_to_class: Tensor
    num_classes: int
    background: int | None = None
    cut_to: int | None = None
    probability_scale: float | None = None
    apart: bool = False
    embed: Callable[[Vocabulary], Tensor] | None = None
    vocabulary: Vocabulary | None = None

    def __len__(self) -> int:
        return len(self.text)

    def cosines(self, features: FeatureMap) -> Tensor:
        """Cosine of every patch embedding with every query, ``[B, Q, gh, gw]`` float32."""
        return self.products(unit_patches(features))

    def products(self, embeddings: Tensor) -> Tensor:
        """Dot product of every patch embedding ``[B, gh, gw, D]`` with every query, ``[B, Q, gh, gw]``."""
        return (self.text @ embeddings.flatten(1, 2).transpose(1, 2)).unflatten(2, embeddings.shape[1:3])

    def scores(self, cosines: Tensor) -> Tensor:
        """What is stitched, ``[B, Q, gh, gw]``: the cosines, or probabilities with ``probability_scale``.

        Where queries are scored apart and a threshold gives pixels to the background, the threshold is the background's
        score (Talk2DINO's constant channel): its own words, of which the method has none, score 0.
        """
        if self.probability_scale is None:
            return cosines
        scores = cosines * self.probability_scale
        if not self.apart:
            return scores.softmax(dim=1)
        return scores.sigmoid() * self.competing().to(scores.dtype)[:, None, None]

    def competing(self) -> Tensor:
        """``[Q]`` bool: queries of other classes than that which the head's threshold gives pixels to."""
        return self.query_to_class != (-1 if self.cut_to is None else self.cut_to)

    def background_query(self) -> int:
        """The first query of the background class; there must be one."""
        return int((self.query_to_class == self.background).nonzero()[0])
