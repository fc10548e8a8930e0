"""RADSeg: the last block attends by what its own attention gave."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ovseg.attention.plain import PlainAttention
from ovseg.ops import correlation_attention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext


@ATTENTIONS.register_module()
class SelfRecursiveAttention(PlainAttention):
    """Values are mixed by the cosines of a first attention's outputs (RADSeg, self-correlating recursive attention).

    The block's own attention, output projection included, gives ``o``. Of each head's part of it, cosines that are not
    negative weigh the *original* values: ``softmax(scale o_i o_j) v``. Class and register tokens take part; residual
    and feed-forward stay, and the tokens come out after the tower's last LayerNorm.

    Args:
        scale: factor of the cosines.

    Raises:
        ValueError: if ``scale`` is not positive.
    """

    post_norm = False

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"scale is {scale}; it must be positive")
        self.scale = float(scale)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: AttentionContext) -> Tensor:
        block = context.tower.blocks[-1]
        first = block.unscaled_out(super().mix(q, k, v, context).transpose(1, 2).flatten(2))
        cosines_of = F.normalize(block.split_heads(first), dim=-1)
        mixed = correlation_attention(cosines_of.flatten(0, 1), v.flatten(0, 1), scale=self.scale)
        return mixed.unflatten(0, v.shape[:2])

    def finish(self, z: Tensor, context: AttentionContext) -> Tensor:
        return context.tower.post_norm(super().finish(z, context))
