"""Encoders as the official code of the methods runs them: fp32, every attention matrix of every head in full.

The modules are those of open_clip, timm and segment_anything; nothing of ovseg's own engine is used. CLIP's blocks
before the last are open_clip's own (the methods vendored a copy of it), DINO's attention is written out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.modeling.image_encoder import (
    Attention,
    add_decomposed_rel_pos,
    get_rel_pos,
    window_partition,
    window_unpartition,
)
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn

from ovseg.backbones.sam import LastBlock, SamTile


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor | float = 0.0) -> Tensor:
    """``softmax(scale q k^T + bias) v`` with the whole matrix of every head; all ``[..., N, d / heads]``."""
    return (q @ k.transpose(-1, -2) * scale + bias).softmax(-1) @ v


def split_heads(t: Tensor, heads: int) -> Tensor:
    """``[B, N, d]`` to ``[B, heads, N, d / heads]``."""
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(t: Tensor) -> Tensor:
    """``[B, heads, N, d / heads]`` to ``[B, N, d]``."""
    return t.transpose(1, 2).flatten(2)


def positions(table: Tensor, native: tuple[int, int], grid: tuple[int, int], mode: str) -> Tensor:
    """Patch positions ``[h0 * w0, d]`` resized to ``grid``: ``[h * w, d]``.

    ``mode`` is ``'size'`` (MaskCLIP), ``'scale'`` (the others: scale factor with 0.1 added, nothing where the number of
    patches is the native one), ``'antialias'`` (DINOv2 with registers) or ``'square_corners'`` (C-RADIOv3-B).
    """
    if grid == native or (mode == "scale" and grid[0] * grid[1] == native[0] * native[1]):
        return table
    image = table.T.reshape(1, -1, *native)
    if mode == "scale":
        factor = ((grid[0] + 0.1) / native[0], (grid[1] + 0.1) / native[1])
        image = F.interpolate(image, scale_factor=factor, mode="bicubic", align_corners=False)
    elif mode == "square_corners":
        image = F.interpolate(image, size=(max(grid), max(grid)), mode="bilinear", align_corners=True)
        image = image[..., : grid[0], : grid[1]]
    else:
        antialias = mode == "antialias"
        image = F.interpolate(image, size=grid, mode="bicubic", align_corners=False, antialias=antialias)
    return image[0].flatten(1).T


# CLIP ----------------------------------------------------------------------------------------------------------------
def clip_embed(visual: nn.Module, images: Tensor, mode: str) -> tuple[Tensor, tuple[int, int]]:
    """Normalised images ``[B, 3, H, W]`` to the first block's tokens ``[B, 1 + h * w, d]``, and the grid."""
    x = visual.conv1(images)
    grid = tuple(x.shape[2:])
    x = x.flatten(2).transpose(1, 2)
    table = visual.positional_embedding
    x = x + positions(table[1:], tuple(visual.grid_size), grid, mode)
    token = (visual.class_embedding + table[0]).expand(len(x), 1, -1)
    return visual.ln_pre(torch.cat([token, x], dim=1)), grid


def clip_qkv(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v ``[B, N, d]`` of a block of open_clip for its input ``[B, N, d]``."""
    attention = block.attn
    return F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)


# DINO ----------------------------------------------------------------------------------------------------------------
def dino_features(trunk: nn.Module, images: Tensor, feature: str) -> tuple[Tensor, tuple[int, int]]:
    """Unit patch features ``[B, h * w, d]`` of a timm DINO, and the grid.

    Args:
        trunk: timm's ``VisionTransformer``.
        images: ``[B, 3, H, W]`` with ImageNet's normalisation.
        feature: ``'tokens'``: the last block's output after the final LayerNorm; or a sum of ``'q'``, ``'k'``, ``'v'``
            of the last block, e.g. ``'q+k'``.
    """
    x = trunk.patch_embed.proj(images)
    grid = tuple(x.shape[2:])
    table = trunk.pos_embed[0]
    native = tuple(trunk.patch_embed.grid_size)
    x = x.flatten(2).transpose(1, 2) + positions(table[1:], native, grid, "scale")
    x = torch.cat([(trunk.cls_token + table[:1]).expand(len(x), -1, -1), x], dim=1)
    for index, block in enumerate(trunk.blocks):
        heads, scale = block.attn.num_heads, block.attn.scale
        q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)
        if feature != "tokens" and index == len(trunk.blocks) - 1:
            parts = {"q": q, "k": k, "v": v}
            return F.normalize(sum(parts[name] for name in feature.split("+"))[:, 1:], dim=-1), grid
        mixed = explicit_attention(*(split_heads(t, heads) for t in (q, k, v)), scale)
        x = x + block.attn.proj(merge_heads(mixed))
        x = x + block.mlp(block.norm2(x))
    return F.normalize(trunk.norm(x)[:, 1:], dim=-1), grid


# DINOv2, DINOv3, RADIO -----------------------------------------------------------------------------------------------
def timm_embed(trunk: nn.Module, images: Tensor, mode: str) -> tuple[Tensor, tuple[int, int]]:
    """Images ``[B, 3, H, W]`` to the first block's tokens of a timm ViT ``[B, P + h * w, d]``, and the grid."""
    x = trunk.patch_embed.proj(images)
    grid = tuple(x.shape[2:])
    x = x.flatten(2).transpose(1, 2)
    prefix = torch.cat([t for t in (trunk.cls_token, trunk.reg_token) if t is not None], dim=1)
    if trunk.pos_embed is not None:
        table, own = trunk.pos_embed[0], 0 if trunk.no_embed_class else prefix.shape[1]
        x = x + positions(table[own:], tuple(trunk.patch_embed.grid_size), grid, mode)
        prefix = prefix + table[:own] if own else prefix
    return torch.cat([prefix.expand(len(x), -1, -1), x], dim=1), grid


def timm_blocks(trunk: nn.Module, x: Tensor, grid: tuple[int, int], blocks: Sequence[nn.Module]) -> Tensor:
    """Tokens through timm's own blocks, with the rotary positions of its ``Eva``."""
    rope = getattr(trunk, "rope", None)
    if rope is None:
        for block in blocks:
            x = block(x)
        return x
    table = rope.get_embed(shape=list(grid))
    for block in blocks:
        x = block(x, rope=table)
    return x


def timm_features(trunk: nn.Module, images: Tensor, mode: str = "scale") -> Tensor:
    """Patch tokens ``[B, h * w, d]`` of a timm ViT's last block after the final LayerNorm, not normalised."""
    x, grid = timm_embed(trunk, images, mode)
    return trunk.norm(timm_blocks(trunk, x, grid, trunk.blocks))[:, trunk.num_prefix_tokens :]


# SAM -----------------------------------------------------------------------------------------------------------------
def sam_encode(sam: Sam, pixels: Tensor) -> tuple[Tensor, Tensor, LastBlock]:
    """segment_anything's image encoder on ``[1, 3, side, side]``, and what its last block attended to.

    Returns:
        embedding ``[1, 256, s, s]``, attention probabilities ``[heads, N, N]`` of the last block, and its q, k, v.
    """
    encoder = sam.image_encoder
    x = encoder.patch_embed(pixels)
    if encoder.pos_embed is not None:
        x = x + encoder.pos_embed
    for block in encoder.blocks[:-1]:
        x = block(x)
    block, y = encoder.blocks[-1], encoder.blocks[-1].norm1(x)
    if block.window_size > 0:
        y, padded = window_partition(y, block.window_size)
    probabilities, last = sam_attention(block.attn, y)
    z = (probabilities @ last.v).unflatten(1, y.shape[1:3]).permute(1, 2, 0, 3).flatten(2)[None]
    z = block.attn.proj(z)
    if block.window_size > 0:
        z = window_unpartition(z, block.window_size, padded, tuple(x.shape[1:3]))
    x = x + z
    x = x + block.mlp(block.norm2(x))
    return encoder.neck(x.permute(0, 3, 1, 2)), probabilities, last


def sam_attention(attention: Attention, y: Tensor) -> tuple[Tensor, LastBlock]:
    """Probabilities ``[heads, N, N]`` and q, k, v ``[heads, N, d / heads]`` of SAM's attention on ``[1, h, w, d]``."""
    _, height, width, _ = y.shape
    qkv = attention.qkv(y).reshape(1, height * width, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.reshape(3, attention.num_heads, height * width, -1).unbind(0)
    logits = (q * attention.scale) @ k.transpose(-2, -1)
    size = (height, width)
    logits = add_decomposed_rel_pos(logits, q, attention.rel_pos_h, attention.rel_pos_w, size, size)
    tables = [get_rel_pos(n, n, t) for n, t in ((height, attention.rel_pos_h), (width, attention.rel_pos_w))]
    return logits.softmax(dim=-1), LastBlock(q, k, v, *tables, attention.scale)


class PromptedTile(SamTile):
    """A tile whose prompts are decoded by segment_anything's own mask decoder."""

    @cached_property
    def decoder(self) -> Callable[..., tuple[Tensor, Tensor]]:
        return partial(self.sam.mask_decoder, self.embedding, self.sam.prompt_encoder.get_dense_pe())


def sam_tile(
    sam: Sam, image: np.ndarray, box: tuple[int, int, int, int], multiple_of: int | None
) -> tuple[PromptedTile, Tensor]:
    """A part of a photo as SAM sees it, with the last block's attention probabilities.

    Args:
        sam: the model.
        image: uint8 RGB ``[h, w, 3]``, the part itself.
        box: where it lies in the photo, ``(y0, y1, x0, x1)``.
        multiple_of: sides are rounded up to a multiple of this by resizing.
    """
    if multiple_of:
        h, w = (-(-n // multiple_of) * multiple_of for n in image.shape[:2])
        image = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    resized = ResizeLongestSide(sam.image_encoder.img_size).apply_image(np.ascontiguousarray(image))
    pixels = sam.preprocess(torch.from_numpy(resized).permute(2, 0, 1).to(sam.device))[None]
    embedding, probabilities, last = sam_encode(sam, pixels)
    return PromptedTile(box, image.shape[:2], resized.shape[:2], embedding, sam, last), probabilities
