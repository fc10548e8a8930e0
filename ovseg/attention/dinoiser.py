"""CLIP-DINOiser: MaskCLIP's features, pooled by a correlation that two small heads read from CLIP itself."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.attention.plain import ValueAttention
from ovseg.ops import correlation_attention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, FeatureMap
from ovseg.weights import load_heads


@ATTENTIONS.register_module()
class DinoiserAttention(ValueAttention):
    """CLIP-DINOiser's inference (Wysoczanska et al., ECCV 2024, sections 3.3 and 3.4).

    Two convolutions look at the map that enters the feed-forward of an intermediate block (after its LayerNorm):
    ``obj_proj`` gives features whose cosine W imitates DINO's correlation, ``bkg_decoder`` tells objects from
    background as FOUND would. MaskCLIP's features are averaged with the weights W where W reaches ``threshold``;
    patches without a confident class that are not objects become background.

    Args:
        heads: name of the trained heads in the weights catalogue; ``None``: fresh heads, for training.
        checkpoint: file to read instead of the catalogue's: the official ``last.pt`` or one of ovseg's training.
        width: token dimension of the CLIP, needed for fresh heads only.
        block: the block whose map is read (the official code takes ``resblocks[-3]``).
        threshold: correlations below it are cut.
        background: whether to place the background; needs a background class in the vocabulary.
        confidence: patches whose best probability reaches it stay as they are.
        objectness: patches whose objectness exceeds it are objects.

    Attributes:
        heads: ``obj_proj`` (3 x 3, replicate padding, 256 channels) and ``bkg_decoder`` (1 x 1, one channel).
    """

    weights_argument = "heads"

    post_norm = False

    def __init__(
        self,
        heads: str | None = "clip_dinoiser/last",
        checkpoint: str | Path | None = None,
        width: int = 768,
        block: int = -3,
        threshold: float = 0.2,
        background: bool = True,
        confidence: float = 0.99,
        objectness: float = 0.5,
    ) -> None:
        super().__init__(residual=True, ffn=True)
        self.block, self.threshold = block, float(threshold)
        self.background, self.confidence, self.objectness = background, float(confidence), float(objectness)
        self.needs_inputs = (block,)
        self.heads = new_heads(width) if heads is None else load_heads(heads, checkpoint=checkpoint).model
        self.heads_name = heads

    def guide_map(self, context: AttentionContext) -> Tensor:
        """The map the heads read: ``ln_2`` of the chosen block, ``[B, d, h, w]``."""
        index = self.needs_inputs_of(len(context.tower.blocks))[0]
        block, x = context.tower.blocks[index], context.inputs[index]
        q, k, v = block.qkv(block.norm1(x), context.grid)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=block.scale).transpose(1, 2).flatten(2)
        y = block.norm2(x + block.out(mixed))[:, context.num_prefix :]
        return y.transpose(1, 2).unflatten(2, context.grid)

    def read_heads(self, guide_map: Tensor) -> tuple[Tensor, Tensor]:
        """Correlation features ``[B, N, 256]`` of unit length and objectness logits ``[B, N]``."""
        features = F.normalize(self.heads["obj_proj"](guide_map).flatten(2).transpose(1, 2), dim=-1)
        logits = self.heads["bkg_decoder"](F.normalize(guide_map, dim=1)).flatten(1)
        return features, logits

    def forward(self, context: AttentionContext) -> FeatureMap:
        features, logits = self.read_heads(self.guide_map(context))
        values = context.tower.post_norm(super().forward(context).patches)
        pooled = correlation_attention(features, values, scale=1.0, threshold=self.threshold, normaliser="sum")
        return FeatureMap(pooled, context.grid, objectness=logits.sigmoid())

    def place_background(self, scores: Tensor, features: FeatureMap, background: int) -> Tensor:
        if not self.background or features.objectness is None:
            return scores
        objectness = features.objectness.unflatten(1, features.grid)
        found = (scores.amax(1) < self.confidence) & (objectness <= self.objectness)
        scores[:, background] = scores[:, background].masked_fill(found, 1.0)
        return scores


def new_heads(width: int, channels: int = 256) -> nn.ModuleDict:
    """Untrained heads in the layout of the official checkpoint."""
    return nn.ModuleDict(
        {
            "obj_proj": nn.Conv2d(width, channels, 3, padding=1, padding_mode="replicate"),
            "bkg_decoder": nn.Conv2d(width, 1, 1),
        }
    )
