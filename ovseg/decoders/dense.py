"""The smallest decoder: what a training-free attention says, so that finetuning begins where it stands."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ovseg.attention.base import LastBlockAttention
from ovseg.decoders.base import Decoder, Features, Prediction
from ovseg.registry import ATTENTIONS, DECODERS
from ovseg.structures import AttentionContext, Tower


@DECODERS.register_module()
class DenseDecoder(Decoder):
    """Patch embeddings of a last-block attention, compared with the words.

    Untrained it is the training-free method itself; what is trained is CLIP, by ``model.trained``, and the factor of
    the cosines. It is not the method of a paper.

    Args:
        tower: CLIP's image tower.
        attention: config of a registered attention that needs neither guide nor regions, e.g. NACLIP's.
        logit_scale: factor of the cosines at first.
        weights, checkpoint: see :class:`ovseg.decoders.Decoder`.

    Raises:
        ValueError: for a factor that is not positive, or an attention that changes scores or looks at whole photos.
    """

    def __init__(
        self,
        tower: Tower,
        attention: dict,
        logit_scale: float = 40.0,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        super().__init__(tower)
        if logit_scale <= 0:
            raise ValueError(f"logit_scale is {logit_scale}; it must be positive")
        self.attention: LastBlockAttention = ATTENTIONS.build(attention)
        if self.attention.rescores or self.attention.background or self.attention.window_scope != "window":
            raise ValueError(f"{type(self.attention).__name__} does more than give embeddings of a window's patches")
        self.needs_inputs = self.attention.needs_inputs
        self.log_scale = nn.Parameter(torch.tensor(math.log(logit_scale)))
        self.load(weights, checkpoint)

    def encode(self, context: AttentionContext) -> Features:
        """``dense`` ``[B, D, h, w]`` unit vectors."""
        found, tower = self.attention(context), context.tower
        patches = tower.post_norm(found.patches) if self.attention.post_norm else found.patches
        dense = F.normalize(tower.project(patches), dim=-1)
        return {"dense": dense.transpose(1, 2).unflatten(2, found.grid)}

    def forward(self, features: Features, text: torch.Tensor) -> Prediction:
        """As in the base class."""
        return Prediction(self.log_scale.exp() * torch.einsum("bdhw,qd->bqhw", features["dense"], text))
