"""DeCLIP's last block: a token attends to what has its own query, and the queries are features of their own."""

from __future__ import annotations

from torch import Tensor

from ovseg.attention.base import LastBlockAttention
from ovseg.ops import self_self_attention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, FeatureMap


@ATTENTIONS.register_module()
class DeclipAttention(LastBlockAttention):
    """softmax(q q^T) v without rotary positions, residual and feed-forward (Wang et al., CVPR 2025, section 3.2).

    What the towers that DeCLIP has tuned are used with; with others it is ClearCLIP's attention but for the positions.

    Args:
        scaled: divide q q^T by the root of the head's width. DeCLIP does so for OpenAI's ViT and not for EVA-02.
    """

    def __init__(self, scaled: bool = True) -> None:
        super().__init__()
        self.scaled = bool(scaled)

    def forward(self, context: AttentionContext) -> FeatureMap:
        return self.content_and_context(context)[0]

    def content_and_context(self, context: AttentionContext) -> tuple[FeatureMap, Tensor]:
        """The tokens, and the patches' queries ``[B, N, d]`` (heads side by side, not normalised)."""
        block = context.tower.blocks[-1]
        q, _, v = block.qkv_unrotated(block.norm1(context.x))
        scale = block.scale if self.scaled else 1.0
        mixed = self_self_attention(q, q, v, terms=["qq"], scale=scale, grid=context.grid)
        tokens = FeatureMap(block.out(mixed.transpose(1, 2).flatten(2)), context.grid, context.num_prefix)
        return tokens, q[:, :, context.num_prefix :].transpose(1, 2).flatten(2)
