"""ResCLIP: the last block also listens to middle layers, and to a first prediction."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from ovseg.attention.self_self import SelfSelfAttention
from ovseg.ops.reference import neighbour_bias
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, FeatureMap


@ATTENTIONS.register_module()
class ResidualAttention(SelfSelfAttention):
    """ResCLIP over another method's last block (Yang et al., CVPR 2025, sections 3.2 and 3.3).

    *Residual cross-correlation*: with A the base's attention and R the mean of the attention that CLIP itself has in
    middle layers, values are mixed by ``strength ((1 - weight) A + weight R)``.

    *Semantic feedback* (:meth:`again`, driven by :class:`ovseg.stitches.FeedbackStitch`): the logits of A,
    ``t t^T / sqrt(d)``, become ``sharpness ((1 - feedback) t t^T / sqrt(d) + feedback E)``, with E from the labels of a
    first prediction; one E for all heads. The paper's base is NACLIP. Over others each term's logits are treated alike.

    Args:
        layers: blocks whose attention R averages (0-based, negative from the end): 6 to 9 of 12, counted from 1.
        weight: share of R (the paper's lambda_rcs).
        strength: what the rows of the mixed attention sum to, per term of the base.
        feedback: share of E in the logits (lambda_sfr).
        sharpness: factor of the logits with feedback.
        std: of the neighbour bias in patches, 0: none.
        terms, residual, ffn: of the base, see :class:`SelfSelfAttention`.

    Raises:
        ValueError: without layers, or for values out of range.
    """

    def __init__(
        self,
        layers: tuple[int, ...] = (-7, -6, -5, -4),
        weight: float = 0.3,
        strength: float = 2.0,
        feedback: float = 0.7,
        sharpness: float = 1.8,
        std: float = 5.0,
        terms: tuple[str, ...] = ("k",),
        residual: bool = False,
        ffn: bool = False,
    ) -> None:
        super().__init__(terms, False, residual, ffn)
        if not layers:
            raise ValueError("ResidualAttention needs at least one middle layer; use the base alone for none")
        for name, share in (("weight", weight), ("feedback", feedback)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; it is a share between 0 and 1")
        if std < 0:
            raise ValueError(f"std is {std}; it is a deviation in patches, or 0 for no neighbour bias")
        self.needs_inputs = self.layers = tuple(layers)
        self.weight, self.strength = float(weight), float(strength)
        self.feedback, self.sharpness, self.std = float(feedback), float(sharpness), float(std)

    def forward(self, context: AttentionContext) -> FeatureMap:
        """The first pass; ``carried`` holds what :meth:`again` starts from."""
        block = context.tower.blocks[-1]
        q, k, v = block.qkv(block.norm1(context.x), context.grid)
        middle = self._middle(v, context)
        features = self._blend(super().mix(q, k, v, context), middle, context)
        return replace(features, carried={"x": context.x, "middle": middle})

    def again(self, context: AttentionContext, middle: Tensor, feedback: Tensor) -> FeatureMap:
        """The last block once more, with feedback.

        Args:
            context: ``x``, ``grid`` and ``tower`` of one window.
            middle: ``[1, heads, P + N, d / heads]`` of ``carried``.
            feedback: ``[N, N]`` in 0..1 of :func:`ovseg.attention.feedback.feedback_matrix`.
        """
        block = context.tower.blocks[-1]
        q, k, v = block.qkv(block.norm1(context.x), context.grid)
        tensors, prefix = {"q": q, "k": k, "v": v}, context.num_prefix
        bias = self.sharpness * self.feedback * F.pad(feedback, (prefix, 0, prefix, 0))
        if self.std:
            bias = bias + neighbour_bias(context.grid, self.std, k.shape[2], k.device)
        scale = block.scale * self.sharpness * (1 - self.feedback)
        terms = [tensors[t] for t in self.terms]
        mixed = sum(F.scaled_dot_product_attention(t, t, v, attn_mask=bias.to(v.dtype), scale=scale) for t in terms)
        return self._blend(mixed, middle, context)

    def _middle(self, v: Tensor, context: AttentionContext) -> Tensor:
        """``R v``, ``[B, heads, P + N, d / heads]``, without a map."""
        mixed, blocks = 0, context.tower.blocks
        for layer in self.needs_inputs_of(len(blocks)):
            block = blocks[layer]
            q, k, _ = block.qkv(block.norm1(context.inputs[layer]), context.grid)
            mixed = mixed + F.scaled_dot_product_attention(q, k, v, scale=block.scale)
        return mixed / len(self.layers)

    def _blend(self, own: Tensor, middle: Tensor, context: AttentionContext) -> FeatureMap:
        mixed = self.strength * ((1 - self.weight) * own + self.weight * middle)
        z = context.tower.blocks[-1].out(mixed.transpose(1, 2).flatten(2))
        return FeatureMap(self.finish(z, context), context.grid, context.num_prefix)
