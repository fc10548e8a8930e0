"""CLIPtrase: self-correlation in the last block, and the affinity its clustering works on."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from ovseg.attention.self_self import SelfSelfAttention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, FeatureMap


@ATTENTIONS.register_module()
class SelfCorrelationAttention(SelfSelfAttention):
    """CLIPtrase (Shao et al., ECCV 2024): q-q, k-k and v-v attention, and patch affinities for its clustering.

    The affinities come from an earlier block: ``C = (cos(q, q) + cos(k, k) + cos(v, v)) / 3``, averaged over heads.
    What a patch shares with the class token carries no place, so the class token's row is subtracted from every
    patch's row and negative values are set to zero.

    Args:
        affinity_layer: block whose q, k, v give the affinities; negative: from the end (-2: the last but one).
        terms, average, residual, ffn: see :class:`SelfSelfAttention`; the paper keeps residual and feed-forward.
    """

    def __init__(
        self,
        affinity_layer: int = -2,
        terms: tuple[str, ...] = ("q", "k", "v"),
        average: bool = False,
        residual: bool = True,
        ffn: bool = True,
    ) -> None:
        super().__init__(terms, average, residual, ffn)
        self.affinity_layer, self.needs_inputs = affinity_layer, (affinity_layer,)

    def forward(self, context: AttentionContext) -> FeatureMap:
        """Tokens of the last block; ``affinity`` ``[B, N, N]`` >= 0 between patches."""
        return replace(super().forward(context), affinity=self.affinity(context))

    def affinity(self, context: AttentionContext) -> Tensor:
        """``[B, N, N]``: row i is what patch i has in common with every patch beyond the class token."""
        layer = self.needs_inputs_of(len(context.tower.blocks))[0]
        block = context.tower.blocks[layer]
        heads = [F.normalize(t, dim=-1) for t in block.qkv(block.norm1(context.inputs[layer]), context.grid)]
        # the mean over heads of dot products is one dot product of all heads side by side
        unit = [t.transpose(1, 2).flatten(2) for t in heads]
        correlation = sum(t @ t.transpose(1, 2) for t in unit) / (len(unit) * block.num_heads)
        prefix = context.num_prefix
        patches = correlation[:, prefix:, prefix:]
        if prefix:
            patches = patches - correlation[:, :1, prefix:]
        return patches.clamp(min=0)
