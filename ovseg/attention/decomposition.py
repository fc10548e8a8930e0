"""CLIP's image embedding as a sum of contributions of layers, heads and patches.

Gandelsman, Efros, Steinhardt, "Interpreting CLIP's Image Representation via Text-Based Decomposition", ICLR 2024. The
class token's residual stream is a sum over layers; each attention output is itself a sum over heads and tokens; the
last LayerNorm is linear once its mean and deviation are held, and so is the projection.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ovseg.attention.base import LastBlockAttention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, Block, FeatureMap, Tower


@ATTENTIONS.register_module()
class DecomposedAttention(LastBlockAttention):
    """Patch tokens become what each patch adds to the class token through the attention of the late layers.

    Their sum over patches, projected, is a part of the image embedding, so that text . token says how much a patch
    speaks for a class. Early attention layers and all MLPs have no place in the picture and hardly any direct effect:
    the paper replaces them by their mean over a data set, a constant that no heat map needs.

    Args:
        layers: how many of the last attention layers count (the paper: 4 for ViT-B/16, where almost all the direct
            effect lies).

    Raises:
        ValueError: if ``layers`` is below 1; at call time for towers without a class token.
    """

    post_norm = False  # its linear part is applied here

    def __init__(self, layers: int = 4) -> None:
        super().__init__(residual=False, ffn=False)
        if layers < 1:
            raise ValueError(f"layers is {layers}; at least the last attention layer must count")
        self.layers, self.needs_inputs = layers, tuple(range(-layers, 0))

    def forward(self, context: AttentionContext) -> FeatureMap:
        """Tokens ``[B, P + N, d]`` after the linear part of the last LayerNorm, in units of the image embedding's
        length: the sum of text . projected token over tokens, layers and all other terms is a cosine."""
        tower = context.tower
        _need_class_token(tower)
        final = tower.blocks[-1](context.x, context.grid)[:, :1]
        total = 0
        for layer in self.needs_inputs_of(len(tower.blocks)):
            block = tower.blocks[layer]
            parts = class_token_parts(block, context.inputs[layer], context.grid)
            total = total + _project_out(block, parts.transpose(1, 2).flatten(2))
        embedding = tower.project(tower.post_norm(final))
        tokens = linear_post_norm(tower, total, final) / embedding.norm(dim=-1, keepdim=True)
        return FeatureMap(tokens, context.grid, context.num_prefix)


def class_token_parts(block: Block, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """What each token adds to the class token in a block's attention, per head, before the output projection.

    Args:
        block: the block.
        x: ``[B, P + N, d]`` tokens that enter it.
        grid: of the patches.

    Returns:
        ``[B, heads, P + N, d / heads]``: attention of the class token to the token, times the token's value.
    """
    q, k, v = block.qkv(block.norm1(x), grid)
    weights = (q[:, :, :1] @ k.transpose(-1, -2) * block.scale).softmax(-1)
    return weights.transpose(-1, -2) * v


def linear_post_norm(tower: Tower, parts: Tensor, whole: Tensor) -> Tensor:
    """The last LayerNorm without its bias, with mean and deviation of ``whole`` ``[B, 1, d]``, on parts of it.

    It is linear in the parts: over parts that sum to ``whole`` the results sum to ``post_norm(whole) - bias``.
    """
    norm = tower.final_norm
    deviation = (whole.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    return (parts - parts.mean(-1, keepdim=True)) / deviation * norm.weight


@dataclass
class Decomposition:
    """The image embedding as a sum, all in the joint space (not normalised).

    Attributes:
        attention: ``[B, L, heads, P + N, D]`` contribution of every layer, head and token.
        attention_bias: ``[B, L, D]`` output biases of the attentions.
        mlp: ``[B, L, D]`` contributions of the MLPs.
        start: ``[B, D]`` the class token before the first block, with the last LayerNorm's bias.
        embedding: ``[B, D]`` the image embedding itself, as the model computes it.
    """

    attention: Tensor
    attention_bias: Tensor
    mlp: Tensor
    start: Tensor
    embedding: Tensor

    def total(self) -> Tensor:
        """``[B, D]`` the sum of all terms; equals ``embedding`` up to rounding."""
        return self.attention.sum((1, 2, 3)) + self.attention_bias.sum(1) + self.mlp.sum(1) + self.start


@torch.no_grad()
def decompose(tower: Tower, images: Tensor, pos_embed: str = "size") -> Decomposition:
    """The full decomposition of images' embeddings into layers, heads and tokens, for analysis.

    Args:
        tower: a tower with a class token.
        images: ``[B, 3, H, W]`` normalised.
        pos_embed: see :meth:`ovseg.backbones.towers.VisionTower.positions`.

    Raises:
        ValueError: for towers without a class token.
    """
    _need_class_token(tower)
    grid = tower.grid_of(*images.shape[-2:])
    x = start = tower.embed(images, pos_embed)
    attention, biases, mlps = [], [], []
    for block in tower.blocks:
        parts = class_token_parts(block, x, grid)
        heads = torch.eye(block.num_heads, device=x.device)[None, :, None, :, None] * parts[:, :, :, None]
        attention.append(_project_out(block, heads.flatten(3)))
        biases.append(block.out(torch.zeros_like(x[:1, 0])).expand(len(x), -1))
        after = block(x, grid)
        mixed = attention[-1].sum((1, 2)) + biases[-1]
        mlps.append(after[:, 0] - x[:, 0] - mixed)
        x = after
    final = x[:, :1]

    def joint(parts: Tensor) -> Tensor:
        whole = final.view(len(x), *[1] * (parts.ndim - 2), -1)
        return tower.project(linear_post_norm(tower, parts, whole))

    bias = tower.project(tower.final_norm.bias)
    return Decomposition(
        joint(torch.stack(attention, 1)),
        joint(torch.stack(biases, 1)),
        joint(torch.stack(mlps, 1)),
        joint(start[:, 0]) + bias,
        tower.project(tower.post_norm(final))[:, 0],
    )


def _project_out(block: Block, mixed: Tensor) -> Tensor:
    """The output projection without its bias, so that it is linear."""
    return block.out(mixed) - block.out(torch.zeros_like(mixed[..., :1, :]))


def _need_class_token(tower: Tower) -> None:
    if tower.num_prefix < 1 or not isinstance(tower.final_norm, torch.nn.LayerNorm):
        raise ValueError(
            f"{type(tower).__name__} has no class token with a final LayerNorm: its embedding is no sum over patches; "
            "use a CLIP with a class token (OpenAI, LAION, DataComp, MetaCLIP, nano)"
        )
