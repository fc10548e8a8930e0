"""SegEarth-OV's stitch: what the class token says everywhere is taken out of the patches' scores."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ovseg.encoder import Features, WindowBatch, WindowEncoder
from ovseg.queries import unit_patches
from ovseg.registry import STITCHES
from ovseg.stitches.average import ScoreStitch
from ovseg.structures import FeatureMap


@STITCHES.register_module()
class ClassTokenStitch(ScoreStitch):
    """Scores are ``cos(patch, text) + weight cos(class token, text)``, class token of the same window and last block.

    SegEarth-OV (Li et al., CVPR 2025, section 3.4, "global bias alleviation"): weight -0.3. The sum is linear in the
    text, so it is one dot product with ``patch + weight * class token``, both of unit length.

    Args:
        weight: of the class token; 0: plain cosines.

    Raises:
        ValueError: at call time, where the attention leaves the class token out or the CLIP has none.
    """

    def __init__(self, weight: float = -0.3) -> None:
        self.weight = float(weight)

    def encode(self, batch: WindowBatch, encoder: WindowEncoder) -> Features:
        """``embeddings [B, gh, gw, D]``; not of unit length."""
        tokens = encoder.tokens(batch)
        patches = unit_patches(encoder.project(tokens))
        return {"embeddings": patches + self.weight * self.class_token(tokens, encoder)}

    def class_token(self, tokens: FeatureMap, encoder: WindowEncoder) -> Tensor:
        """``[B, 1, 1, D]`` of unit length."""
        if tokens.num_prefix < 1:
            raise ValueError(
                f"{type(self).__name__} needs the class token after the last block: use a CLIP with one and an "
                "attention that keeps it (SelfSelfAttention, PlainAttention, ...)"
            )
        projected = encoder.project(FeatureMap(tokens.tokens[:, :1], (1, 1)))
        return F.normalize(projected.patches.float(), dim=-1)[:, :, None]
