"""VIP's stitch: the names of a class are summed up, those most that a window as a whole speaks for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.encoder import Features, WindowEncoder
from ovseg.queries import Queries
from ovseg.registry import STITCHES
from ovseg.stitches.average import ScoreStitch


@STITCHES.register_module()
class AliasStitch(ScoreStitch):
    """One map per class: ``1/tau log sum_a exp(tau scale cos_a n w_a)`` over the n names a of a class (VIP, ICML 2026,
    saliency-aware soft aggregation).

    ``w_a`` is a softmax over the class's names of how well each fits the window, ``g . t_a / temperature`` with g the
    mean of the window's patches and t_a the word, both of unit length. A class with one name keeps its logit. Windows'
    maps are averaged as by :class:`ScoreStitch`; use a head for maps of classes (:class:`ovseg.heads.ClassHead`).

    Cosines are means over templates where the model keeps the words' length (``keep_length=True``), as in the paper.

    Args:
        tau: sharpness of the sum; a large one takes the best name.
        temperature: of the softmax over names; a large one lets all count the same.
        scale: factor of the cosines.

    Raises:
        ValueError: if one of them is not positive.
    """

    def __init__(self, tau: float = 3.0, temperature: float = 0.3, scale: float = 40.0) -> None:
        for name, value in (("tau", tau), ("temperature", temperature), ("scale", scale)):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        self.tau, self.temperature, self.scale = float(tau), float(temperature), float(scale)

    def score(self, features: Features, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """Logits of the classes ``[B, C, gh, gw]``."""
        classes, count = queries.query_to_class, queries.num_classes
        logits = self.scale * queries.products(features["embeddings"])
        weights = self.weights(features["embeddings"], queries)
        names = torch.bincount(classes, minlength=count)[classes]
        terms = self.tau * logits * (names * weights)[..., None, None]
        return _log_sum_exp(terms, classes, count) / self.tau

    def weights(self, embeddings: Tensor, queries: Queries) -> Tensor:
        """``[B, Q]`` share of every name in its class, from ``[B, gh, gw, D]`` patches of unit length."""
        window = F.normalize(embeddings.flatten(1, 2).mean(1), dim=-1)
        fits = window @ F.normalize(queries.text, dim=-1).T / self.temperature
        total = _log_sum_exp(fits[..., None, None], queries.query_to_class, queries.num_classes)[..., 0, 0]
        return (fits - total[:, queries.query_to_class]).exp()


def _log_sum_exp(terms: Tensor, classes: Tensor, count: int) -> Tensor:
    """Over the queries of every class: ``[B, Q, h, w]`` to ``[B, C, h, w]``; -inf for a class without a query."""
    index = classes[None, :, None, None].expand_as(terms)
    shape = (terms.shape[0], count, *terms.shape[2:])
    largest = terms.new_full(shape, -torch.inf).scatter_reduce(1, index, terms, "amax")
    sums = terms.new_zeros(shape).scatter_add(1, index, (terms - largest.gather(1, index)).exp())
    return largest + sums.log()
