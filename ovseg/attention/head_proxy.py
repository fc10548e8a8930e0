"""VIP: the blocks that were trained on top of DINOv3 attend by DINOv3's own patches."""

from __future__ import annotations

import torch.nn.functional as F

from ovseg.attention.base import LastBlockAttention
from ovseg.ops import correlation_attention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, FeatureMap


@ATTENTIONS.register_module()
class HeadProxyAttention(LastBlockAttention):
    """Both blocks on top of DINOv3 mix patches by the correspondence of the patches that enter the first of them
    (VIP, ICML 2026; for :class:`ovseg.backbones.DinoTxtBackbone`).

    ``A = softmax(gamma (S - beta mean(S)))`` where that is not negative, 0 elsewhere, with S the cosine of those
    patches: one A for both blocks and all their heads. Residual, layer scales and feed-forward stay. Class and register
    tokens are no part of A, so that patches do not depend on them: they are left out. A patch is never cut off from
    itself, see :class:`ovseg.attention.ProxyAttention`.

    Args:
        beta: cut-off relative to the mean similarity of a window.
        gamma: sharpness of the softmax.
        blocks: how many of the last blocks attend so; the patches that enter the first of them are compared.

    Raises:
        ValueError: if ``blocks`` is not positive.
    """

    def __init__(self, beta: float = 1.5, gamma: float = 0.5, blocks: int = 2) -> None:
        super().__init__(residual=True, ffn=True)
        if blocks < 1:
            raise ValueError(f"blocks is {blocks}; at least the last block attends by the patches that enter it")
        self.beta, self.gamma, self.blocks = float(beta), float(gamma), blocks
        self.needs_inputs = (-blocks,)

    def forward(self, context: AttentionContext) -> FeatureMap:
        blocks = context.tower.blocks
        (first,) = self.needs_inputs_of(len(blocks))
        x = context.inputs[first][:, context.num_prefix :]
        features = F.normalize(x, dim=-1)
        for block in blocks[first:]:
            values = block.value(block.norm1(x))
            x = x + block.out(correlation_attention(features, values, scale=self.gamma, beta=self.beta))
            x = x + block.ffn(x)
        return FeatureMap(x, context.grid)
