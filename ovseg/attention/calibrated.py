"""SC-CLIP and SFP: CLIP repairs its own patch tokens and mixes them by its middle layers' similarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.attention.base import LastBlockAttention
from ovseg.attention.outliers import (
    KINDS,
    beyond_quantile,
    class_and_self_attention,
    largest,
    local_outlier_factor,
    repair,
)
from ovseg.attention.self_self import TERMS
from ovseg.ops import correlation_attention, self_self_attention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, FeatureMap

SIMILARITIES = ("mean", "thresholded")
ROW_ELEMENTS = 1 << 22
"""Similarities held at once while their mean is taken."""


@ATTENTIONS.register_module()
class CalibratedAttention(LastBlockAttention):
    """SC-CLIP (Bai et al., "Self-Calibrated CLIP", 2024) and, by its options, SFP (Jin et al., ICCV 2025).

    With ``h_n`` the patch tokens after block n, ``c_n`` the class token there and x, c those that enter the last block:

    1. *outliers* of x are found and replaced by the mean of their neighbours, in x and in a middle layer, whose cosines
       are the similarity M;
    2. *early aggregation*: tokens are averaged with the weights M where M reaches ``threshold``;
    3. *last block*: values are mixed by the mean of one softmax of M, shared by all heads, and of self-self attention;
       neither residual nor feed-forward, but ``class_weight`` times the class token (not normed) is added;
    4. *multi-level pass*: the sums of ``h_n`` and of ``c_n`` over ``multi_layers`` go the same way;
    5. *late aggregation*: the sum of both is averaged with the cosines of an early layer where these reach
       ``threshold``.

    ======================  ==================  ===================================
    option                  SC-CLIP             SFP
    ======================  ==================  ===================================
    outliers                "lof"               "class_attention"
    keep_alone              True                False
    similarity              "mean"              "thresholded"
    terms / multi_terms     ("k",) / ("k",)     ("q", "k") / ()
    ======================  ==================  ===================================

    The official code turns an outlier's index into a place with the number of rows where it means columns; both are
    equal in the square windows that the papers use. Here other windows are right, too.

    Args:
        outliers: ``'lof'``: the local outlier factor exceeds its ``quantile``; ``'class_attention'``: the ``count``
            patches that the class token attends to most in the last block but one, of those where 1.5 times this
            exceeds the attention of the patch to itself; ``'norm'``: the ``count`` longest tokens; ``None``: none.
        quantile, neighbours: of the local outlier factor.
        count: outliers at most.
        keep_alone: an outlier whose neighbours are all outliers keeps its value; ``False``: it becomes 0.
        similarity: ``'mean'``: pairs below the mean of M take no part in its softmax; ``'thresholded'``: M is set to 0
            below ``threshold`` first, so that pairs below this or below the mean of what is left take no part.
        gamma: sharpness of the softmax of M.
        terms: self-self attentions beside the softmax of M, any of ``'q'``, ``'k'``, ``'v'``.
        multi_terms: the same in the multi-level pass.
        threshold: of the aggregations.
        class_weight: factor of the class token.
        similarity_layer, late_layer, multi_layers: blocks whose *input* is read (0-based, negative from the end): for
            ViT-B/16 the outputs of blocks 9, 4, and 4 to 10, counted from 1.

    Raises:
        ValueError: for unknown options or values out of range; at call time for towers without a class token.
    """

    rewrites_tokens = True

    def __init__(
        self,
        outliers: str | None = "lof",
        quantile: float = 0.95,
        neighbours: int = 30,
        count: int = 10,
        keep_alone: bool = True,
        similarity: str = "mean",
        gamma: float = 3.0,
        terms: tuple[str, ...] = ("k",),
        multi_terms: tuple[str, ...] = ("k",),
        threshold: float = 0.4,
        class_weight: float = 0.3,
        similarity_layer: int = -3,
        late_layer: int = -8,
        multi_layers: tuple[int, ...] = (-8, -7, -6, -5, -4, -3, -2),
    ) -> None:
        super().__init__()
        if outliers is not None and outliers not in KINDS:
            raise ValueError(f"outliers is {outliers!r}; choose one of {', '.join(KINDS)}, or None")
        if similarity not in SIMILARITIES:
            raise ValueError(f"similarity is {similarity!r}; choose one of {', '.join(SIMILARITIES)}")
        for name, given in (("terms", terms), ("multi_terms", multi_terms)):
            if any(t not in TERMS for t in given):
                raise ValueError(f"{name} is {given!r}; give any of {', '.join(TERMS)}")
        if not 0 < quantile < 1 or neighbours < 1 or count < 0:
            raise ValueError(
                f"quantile {quantile}, neighbours {neighbours}, count {count}: give a quantile between 0 and 1, at "
                "least one neighbour, and a count that is not negative"
            )
        self.outliers, self.quantile, self.neighbours, self.count = outliers, float(quantile), neighbours, count
        self.keep_alone, self.similarity, self.gamma = keep_alone, similarity, float(gamma)
        self.terms, self.multi_terms = tuple(terms), tuple(multi_terms)
        self.threshold, self.class_weight = float(threshold), float(class_weight)
        self.similarity_layer, self.late_layer, self.multi_layers = similarity_layer, late_layer, tuple(multi_layers)
        read = {similarity_layer, late_layer, *multi_layers}
        self.needs_inputs = tuple(sorted(read | {-2} if outliers == "class_attention" else read))

    def forward(self, context: AttentionContext) -> FeatureMap:
        """Tokens ``[B, N, d]`` of the patches, without their last LayerNorm."""
        prefix, layer = context.num_prefix, self._layers(context)
        if prefix < 1:
            raise ValueError(f"{type(self).__name__} adds the class token to the patches, and this CLIP has none")
        outliers = self.find_outliers(context)

        def mend(tokens: Tensor) -> Tensor:
            return repair(tokens[:, prefix:], outliers, context.grid, self.keep_alone)

        middle = F.normalize(mend(layer(self.similarity_layer)), dim=-1)
        x = self._average(middle, mend(context.x))
        summed = sum(layer(i) for i in self.multi_layers)
        # one pass over M for both sets of tokens
        sets = ((x, context.x[:, :1], self.terms), (summed[:, prefix:], summed[:, :1], self.multi_terms))
        mixed = self._mix(middle, [tokens for tokens, _, _ in sets], context)
        parts = [self._finish(m, *one, context) for m, one in zip(mixed, sets, strict=True)]
        late = F.normalize(layer(self.late_layer)[:, prefix:], dim=-1)
        return FeatureMap(self._average(late, sum(parts)), context.grid)

    def find_outliers(self, context: AttentionContext) -> Tensor:
        """bool ``[B, N]``: patches that are replaced."""
        patches = context.x[:, context.num_prefix :]
        if self.outliers is None:
            return torch.zeros_like(patches[..., 0], dtype=torch.bool)
        if self.outliers == "lof":
            return beyond_quantile(local_outlier_factor(patches, self.neighbours), self.quantile)
        if self.outliers == "norm":
            return largest(patches.norm(dim=-1), self.count)
        block, x = context.tower.blocks[-2], self._layers(context)(-2)
        of_class, own = class_and_self_attention(block, x, context.grid, context.num_prefix)
        return largest(of_class, self.count, 1.5 * of_class > own)

    def _layers(self, context: AttentionContext):
        index = dict(zip(self.needs_inputs, self.needs_inputs_of(len(context.tower.blocks)), strict=True))
        return lambda layer: context.inputs[index[layer]]

    def _average(self, unit: Tensor, tokens: Tensor) -> Tensor:
        """``tokens [B, N, d]`` averaged with the similarities of ``unit [B, N, c]`` that reach the threshold."""
        return correlation_attention(unit, tokens, scale=1.0, threshold=self.threshold, normaliser="sum")

    def _mix(self, unit: Tensor, sets: list[Tensor], context: AttentionContext) -> list[Tensor]:
        """Values of each set of tokens ``[B, N, d]``, mixed by the softmax of the similarity."""
        block = context.tower.blocks[-1]
        values = torch.cat([block.value(block.norm1(tokens)) for tokens in sets], dim=-1)
        if self.similarity == "mean":
            mixed = correlation_attention(unit, values, scale=self.gamma, beta=1.0)
        else:
            limits = [max(self.threshold, mean_above(window, self.threshold)) for window in unit]
            mixed = torch.cat(
                [
                    correlation_attention(unit[i : i + 1], values[i : i + 1], scale=self.gamma, threshold=limit)
                    for i, limit in enumerate(limits)
                ]
            )
        return list(mixed.chunk(len(sets), dim=-1))

    def _finish(
        self, mixed: Tensor, tokens: Tensor, class_token: Tensor, terms: tuple[str, ...], context: AttentionContext
    ) -> Tensor:
        """Self-self attention beside the mixed values, output projection, class token."""
        block = context.tower.blocks[-1]
        if terms:
            # rotary positions count from the prefix, so it travels along as far as q and k
            whole = torch.cat([context.x[:, : context.num_prefix], tokens], dim=1)
            parts = block.qkv(block.norm1(whole), context.grid)
            q, k, v = (t[:, :, context.num_prefix :] for t in parts)
            own = self_self_attention(q, k, v, terms=[2 * t for t in terms], scale=block.scale)
            mixed = (mixed + own.transpose(1, 2).flatten(2)) / (1 + len(terms))
        return block.out(mixed) + self.class_weight * class_token


def mean_above(unit: Tensor, threshold: float) -> float:
    """Mean over all pairs of the dot products of ``unit [N, c]``, those below the threshold counted as 0."""
    count = len(unit)
    rows = unit.split(max(1, ROW_ELEMENTS // count))
    kept = (F.threshold(part @ unit.T, threshold, 0.0).sum(dtype=torch.float64) for part in rows)
    return float(sum(kept)) / count**2
