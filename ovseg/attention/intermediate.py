"""Self-self attention that also listens to middle layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ovseg.attention.self_self import SelfSelfAttention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext


@ATTENTIONS.register_module()
class IntermediateAttention(SelfSelfAttention):
    """ITACLIP: the last block mixes with its own and with middle layers' attention (Aydın et al., CVPRW 2025).

    ``A = (1 - weight) * A_last + weight * mean(A_l)``, where ``A_l`` is the sum of softmax(t t^T / sqrt(d)) over the
    terms at layer l. Applying each map to v and averaging the results is the same and stores no map.

    Args:
        layers: 0-based indices of the middle blocks, negative: from the end. ITACLIP's layers 7, 8 and 10 of
            ViT-B/16 (counted from 1) are ``(-6, -5, -3)``, which small towers have too.
        weight: share of the middle layers.
        terms, average, residual, ffn: see :class:`SelfSelfAttention`; ITACLIP drops the feed-forward only.

    Raises:
        ValueError: without layers, or for a weight out of range.
    """

    def __init__(
        self,
        layers: tuple[int, ...] = (-6, -5, -3),
        weight: float = 0.5,
        terms: tuple[str, ...] = ("q", "k"),
        average: bool = False,
        residual: bool = True,
        ffn: bool = False,
    ) -> None:
        super().__init__(terms, average, residual, ffn)
        if not layers:
            raise ValueError("IntermediateAttention needs at least one middle layer; use SelfSelfAttention for none")
        if not 0 <= weight <= 1:
            raise ValueError(f"weight is {weight}; the share of the middle layers lies between 0 and 1")
        self.needs_inputs, self.weight = tuple(layers), float(weight)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: AttentionContext) -> Tensor:
        middle = 0
        blocks = context.tower.blocks
        for layer in self.needs_inputs_of(len(blocks)):
            block = blocks[layer]
            own_q, own_k, own_v = block.qkv(block.norm1(context.inputs[layer]), context.grid)
            tokens = {"q": own_q, "k": own_k, "v": own_v}
            for term in self.terms:
                t = tokens[term]
                middle = middle + F.scaled_dot_product_attention(t, t, v, scale=block.scale)
        middle = middle / (len(self.needs_inputs) * (len(self.terms) if self.average else 1))
        return (1 - self.weight) * super().mix(q, k, v, context) + self.weight * middle
