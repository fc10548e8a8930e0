"""CLIP's own attention and MaskCLIP's value path."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ovseg.attention.base import LastBlockAttention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, FeatureMap


@ATTENTIONS.register_module()
class PlainAttention(LastBlockAttention):
    """The last block as CLIP was trained: softmax(q k^T / sqrt(d)) v with residual and feed-forward.

    The baseline of every paper in the field; patch tokens were never asked to mean anything here.
    """

    def __init__(self, residual: bool = True, ffn: bool = True) -> None:
        super().__init__(residual, ffn)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: AttentionContext) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, scale=context.tower.blocks[-1].scale)


@ATTENTIONS.register_module()
class ValueAttention(LastBlockAttention):
    """MaskCLIP: every token keeps its own value, no mixing (Zhou et al., ECCV 2022, section 3.2).

    Defaults follow CLIP-DINOiser's MaskCLIP, the version papers compare with: residual and feed-forward are kept.
    ``residual=False, ffn=False`` is the option called "MaskCLIP" in ClearCLIP's code.

    Args:
        residual: add the block's input. ``'cls'``: to every token the class token's, as CAT-Seg's code does.
        ffn: run the block's feed-forward.

    Raises:
        ValueError: for another text as ``residual``.
    """

    def __init__(self, residual: bool | str = True, ffn: bool = True) -> None:
        if isinstance(residual, str) and residual != "cls":
            raise ValueError(f"residual is {residual!r}; give True, False or 'cls'")
        super().__init__(residual, ffn)

    def finish(self, z: Tensor, context: AttentionContext) -> Tensor:
        if self.residual != "cls":
            return super().finish(z, context)
        z = z + context.x[:, :1]
        return z + context.tower.blocks[-1].ffn(z) if self.ffn else z

    def forward(self, context: AttentionContext) -> FeatureMap:
        block = context.tower.blocks[-1]
        z = block.out(block.value(block.norm1(context.x)))
        return FeatureMap(self.finish(z, context), context.grid, context.num_prefix)
