"""CLIPer: one attention map fused from all layers, applied to every layer's features."""

from __future__ import annotations

import torch
from torch import Tensor

from ovseg.attention.base import LastBlockAttention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, FeatureMap


@ATTENTIONS.register_module()
class FusedAttention(LastBlockAttention):
    """CLIPer's early-layer fusion (Sun et al., ICCV 2025): the fused map and feature sets of all layers.

    The attention maps of all blocks but the last are summed per head. The features that enter the blocks (normed by
    each block's own LayerNorm; the last one raw) pass one after the other through the last block's norm, value and
    output projection, mixed by the fused map; residual and feed-forward are dropped.

    The map is divided by its column sums and its row sums, symmetrised, centred by its column means, clamped at zero
    and its rows normalised.

    Args:
        cumulative: the official code divides the summed map *in place*, so that feature set n sees n rounds of column
            and row division (as in Sinkhorn's algorithm). The paper's numbers contain this; ``False``: one round for
            all.
    """

    def __init__(self, cumulative: bool = True) -> None:
        super().__init__(residual=False, ffn=False)
        self.cumulative = cumulative

    def needs_inputs_of(self, num_blocks: int) -> tuple[int, ...]:
        return tuple(range(num_blocks - 1))

    def forward(self, context: AttentionContext) -> FeatureMap:
        """Tokens ``[B * S, P + N, d]`` of S = number of blocks feature sets per window (sets of a window together,
        the last block's at the end) and ``affinity`` ``[B, P + N, P + N]``, the map of the last set averaged over
        heads."""
        blocks, grid = context.tower.blocks, context.grid
        last, sets, total = blocks[-1], [], 0
        for i, block in enumerate(blocks[:-1]):
            normed = block.norm1(context.inputs[i])
            q, k, _ = block.qkv(normed, grid)
            total = total + (q @ k.transpose(-1, -2) * block.scale).softmax(-1)
            sets.append(normed)
        sets.append(context.x)

        outputs, fused = [], None
        for tokens in sets:
            if self.cumulative or fused is None:
                total = total / total.sum(-2, keepdim=True)
                total = total / total.sum(-1, keepdim=True)
                fused = _centred(total)
            value = last.split_heads(last.value(last.norm1(tokens)))
            outputs.append(last.out((fused @ value).transpose(1, 2).flatten(2)))
        stacked = torch.stack(outputs, dim=1).flatten(0, 1)
        return FeatureMap(stacked, grid, context.num_prefix, affinity=fused.mean(1))


def _centred(attention: Tensor) -> Tensor:
    """Symmetric part minus column means, clamped, rows summing to 1."""
    fused = (attention + attention.transpose(-1, -2)) / 2
    fused = (fused - fused.mean(-2, keepdim=True)).clamp(min=0)
    return fused / fused.sum(-1, keepdim=True)
