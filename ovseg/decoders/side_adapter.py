"""SAN: a small transformer beside a frozen CLIP proposes masks and steers CLIP's last blocks to recognise them.

Xu et al., "Side Adapter Network for Open-Vocabulary Semantic Segmentation", CVPR 2023. CLIP runs once: up to ``split``
blocks for the side network to read from, and the rest with one copy of the class token per mask, whose attention to the
patches is biased by the mask's query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor, nn

from ovseg.backbones.kernels import apply_linear, attention
from ovseg.backbones.towers import TimmBlock
from ovseg.decoders.base import Decoder, Encoder, Features, Prediction
from ovseg.registry import DECODERS, construct
from ovseg.structures import Block, Tower

TokenMap = tuple[Tensor, tuple[int, int]]
"""Tokens ``[B, h * w, d]`` of a grid and the grid ``(h, w)``."""


@dataclass(frozen=True)
class Proposals:
    """Masks without names, as the side network gives them.

    Attributes:
        masks: ``[B, Q, h, w]`` mask logits on the side network's grid.
        bias: ``[B, heads, Q, h, w]`` what is added to the attention logits of each mask's token in CLIP.
    """

    masks: Tensor
    bias: Tensor


class TokenMLP(nn.Module):
    """Three layers with ReLU between, on tokens ``[B, N, d_in] -> [B, N, d_out]``.

    Args:
        widths: of the input, the hidden layers and the output.
        convolutions: the layers are stored as 1x1 convolutions, not as linear layers.
    """

    def __init__(self, widths: Sequence[int], convolutions: bool = False) -> None:
        super().__init__()
        make = (lambda i, o: nn.Conv2d(i, o, 1)) if convolutions else nn.Linear
        self.layers = nn.ModuleList(make(i, o) for i, o in zip(widths[:-1], widths[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(apply_linear(x, layer))
        return apply_linear(x, self.layers[-1])


class Fusion(nn.Module):
    """Adds a map of CLIP's tokens to the side network's: norm, 1x1 projection, bilinear resizing (section 3.2)."""

    def __init__(self, clip_width: int, width: int) -> None:
        super().__init__()
        self.input_proj = nn.Sequential(nn.LayerNorm(clip_width, eps=1e-6), nn.Conv2d(clip_width, width, 1))
        nn.init.kaiming_uniform_(self.input_proj[1].weight, a=1)
        nn.init.zeros_(self.input_proj[1].bias)

    def forward(self, clip: TokenMap, grid: tuple[int, int]) -> Tensor:
        """``[B, h * w, d]`` of the side network's ``grid``."""
        tokens, clip_grid = clip
        image = apply_linear(self.input_proj[0](tokens), self.input_proj[1]).transpose(1, 2).unflatten(2, clip_grid)
        return F.interpolate(image, size=grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)


class MaskDecoder(nn.Module):
    """Mask logits and attention biases as products of queries and patches (section 3.3)."""

    def __init__(self, width: int, clip_heads: int, channels: int = 256) -> None:
        super().__init__()
        hidden = [width, channels, channels]
        self.query_mlp = TokenMLP([*hidden, channels])
        self.pix_mlp = TokenMLP([*hidden, channels], convolutions=True)
        self.attn_mlp = TokenMLP([*hidden, channels * clip_heads], convolutions=True)
        self.bias_scaling = nn.Linear(1, 1)
        self.clip_heads = clip_heads

    def forward(self, queries: Tensor, patches: Tensor, grid: tuple[int, int]) -> Proposals:
        """From ``[B, Q, d]`` and ``[B, h * w, d]``."""
        q = self.query_mlp(queries)
        masks = q @ self.pix_mlp(patches).transpose(1, 2)
        keys = self.attn_mlp(patches).unflatten(2, (self.clip_heads, -1)).permute(0, 2, 3, 1)  # [B, heads, c, N]
        bias = self.bias_scaling.weight * (q[:, None] @ keys) + self.bias_scaling.bias
        return Proposals(masks.unflatten(2, grid), bias.unflatten(3, grid))


class SideAdapterNetwork(nn.Module):
    """The small transformer: image and CLIP's early tokens in, masks and attention biases out.

    Args:
        clip_width, clip_heads: of the CLIP it stands beside.
        fusion: pairs ``(n, m)``: CLIP's tokens after n blocks are added to the side network's after m of its own.
        width, depth, num_heads, patch_size, queries: sizes of the side network.
        image_size: side of the images whose grid its positions are learnt on.
    """

    def __init__(
        self,
        clip_width: int,
        clip_heads: int,
        fusion: Sequence[tuple[int, int]],
        width: int = 240,
        depth: int = 8,
        num_heads: int = 6,
        patch_size: int = 16,
        queries: int = 100,
        image_size: int = 640,
    ) -> None:
        super().__init__()
        self.vit_model = VisionTransformer(
            image_size,
            patch_size,
            embed_dim=width,
            depth=depth,
            num_heads=num_heads,
            num_classes=0,
            class_token=False,
            global_pool="",
            final_norm=False,
        )
        self.query_embed = nn.Parameter(torch.empty(1, queries, width).normal_(std=0.02))
        self.query_pos_embed = nn.Parameter(torch.empty(1, queries, width).normal_(std=0.02))
        self.fusion = {int(ours): int(clips) for clips, ours in fusion}
        self.fusion_layers = nn.ModuleDict({f"layer_{i}": Fusion(clip_width, width) for i in self.fusion})
        self.mask_decoder = MaskDecoder(width, clip_heads)
        self._blocks = [TimmBlock(block) for block in self.vit_model.blocks]  # in a list: the transformer owns them

    @property
    def clip_layers(self) -> tuple[int, ...]:
        """After how many blocks CLIP's tokens are read, ascending."""
        return tuple(sorted(self.fusion.values()))

    def forward(self, images: Tensor, clip: Mapping[int, TokenMap], layers: Sequence[int]) -> list[Proposals]:
        """Proposals after the named blocks.

        Args:
            images: ``[B, 3, H, W]`` normalised; H and W multiples of the patch size.
            clip: CLIP's patch tokens after each number of blocks in :attr:`clip_layers`.
            layers: after how many blocks proposals are made.
        """
        count = self.query_embed.shape[1]
        x = self.vit_model.patch_embed.proj(images)
        grid = tuple(x.shape[2:])
        positions = torch.cat([self.query_pos_embed, self._positions(grid)], dim=1)
        queries = self.query_embed.expand(len(images), -1, -1)
        x = torch.cat([queries, x.flatten(2).transpose(1, 2)], dim=1) + positions
        proposals = {}
        for depth in range(len(self._blocks) + 1):
            if depth:
                x = self._blocks[depth - 1](x)
            if depth in self.fusion:
                fused = self.fusion_layers[f"layer_{depth}"](clip[self.fusion[depth]], grid)
                x = torch.cat([x[:, :count], x[:, count:] + fused], dim=1)
            if depth in layers:
                proposals[depth] = self.mask_decoder(x[:, :count], x[:, count:], grid)
            if 0 < depth < len(self._blocks):
                x = x + positions
        return [proposals[depth] for depth in layers]

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Positions ``[1, h * w, d]`` of a grid; a grid of as many cells as the learnt one takes it as it is."""
        table, native = self.vit_model.pos_embed, self.vit_model.patch_embed.grid_size
        if grid[0] * grid[1] == table.shape[1]:
            return table
        image = table.transpose(1, 2).unflatten(2, native)
        return F.interpolate(image, size=grid, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)


def recognise(blocks: Sequence[Block], tokens: Tensor, bias: Tensor) -> Tensor:
    """CLIP's last blocks with one copy of the class token per mask (section 3.3, "attention bias").

    A mask's token sees itself and the patches, these with its bias; class token and patches do not see it. What would
    leak through the paper's -100 on all other pairs is below the rounding of float32.

    Args:
        blocks: the blocks after the split.
        tokens: ``[B, 1 + N, d]`` class token and patches that enter them.
        bias: ``[B, heads, Q, N]``.

    Returns:
        the masks' tokens ``[B, Q, d]``.
    """
    masks = tokens[:, :1].expand(-1, bias.shape[2], -1)
    for index, block in enumerate(blocks):
        q, k, v = block.qkv(block.norm1(tokens))
        own_q, own_k, own_v = block.qkv(block.norm1(masks))
        seen = own_q @ k[:, :, 1:].transpose(2, 3) * block.scale + bias
        itself = (own_q * own_k).sum(-1, keepdim=True) * block.scale
        weights = torch.cat([seen, itself], dim=-1).softmax(-1)
        mixed = weights[..., :-1] @ v[:, :, 1:] + weights[..., -1:] * own_v
        masks = masks + block.out(mixed.transpose(1, 2).flatten(2))
        masks = masks + block.ffn(masks)
        if index < len(blocks) - 1:  # nothing looks at the patches after the last one
            tokens = tokens + block.out(attention(q, k, v, block.scale))
            tokens = tokens + block.ffn(tokens)
    return masks


@DECODERS.register_module()
class SideAdapterDecoder(Decoder):
    """SAN: masks from the side network, an embedding for each from CLIP's last blocks, compared with the words.

    A word's score at a pixel is the sum over the masks of its probability for the mask times the mask's (equation 4).

    Args:
        tower: CLIP's image tower.
        weights, checkpoint: see :class:`ovseg.decoders.Decoder`.
        split: number of CLIP's blocks that run before the masks are known.
        clip_scale: factor between the image and what CLIP sees of it (0.5 for ViT-B/16, 0.7 for ViT-L/14).
        fusion: pairs ``(n, m)``: CLIP's tokens after n blocks are added to the side network's after m of its own.
        network: further arguments of :class:`SideAdapterNetwork`.
        supervised: after how many blocks of the side network masks are made in training; the last of them in inference.

    Raises:
        ValueError: if the blocks of ``split`` or ``fusion`` do not exist.
    """

    def __init__(
        self,
        tower: Tower,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
        split: int = 9,
        clip_scale: float = 0.5,
        fusion: Sequence[tuple[int, int]] = ((0, 0), (3, 1), (6, 2), (9, 3)),
        network: dict | None = None,
        supervised: Sequence[int] = (7, 8),
    ) -> None:
        super().__init__(tower)
        deepest = max(n for n, _ in fusion)
        if not 0 < split < len(tower.blocks) or deepest > split:
            raise ValueError(
                f"split is {split} and fusion reads after block {deepest}, but CLIP has {len(tower.blocks)} blocks; "
                "the fused ones must not lie behind the split, and some blocks must"
            )
        self.split, self.clip_scale, self.supervised = int(split), float(clip_scale), tuple(supervised)
        arguments = dict(network or {}, clip_width=tower.width, clip_heads=tower.blocks[0].num_heads, fusion=fusion)
        self.network = construct(SideAdapterNetwork, arguments, "network")
        self.bg_embed = nn.Parameter(torch.empty(1, tower.embed_dim).normal_(std=tower.embed_dim**-0.5))
        self.load(weights, checkpoint)

    def features(self, frames: Tensor, backbone: Encoder) -> Features:
        """``masks`` ``[B, L, Q, h, w]`` logits, ``embeddings`` ``[B, L, Q, D]`` unit vectors, and ``scale`` ``[B]``,
        CLIP's factor of cosines.

        L is 1, in training the number of supervised blocks, the last one last.

        Args:
            frames: ``[B, 3, H, W]`` normalised; H and W multiples of 32.
            backbone: CLIP.
        """
        layers = self.supervised if self.training else self.supervised[-1:]
        small = F.interpolate(frames, scale_factor=self.clip_scale, mode="bilinear", align_corners=False)
        context = backbone(small, self.network.clip_layers, self.split)
        tower, prefix = context.tower, context.num_prefix
        clip = {depth: (tokens[:, prefix:], context.grid) for depth, tokens in context.inputs.items()}
        proposals = self.network(frames, clip, layers)
        bias = torch.cat([pooled(p.bias, context.grid) for p in proposals], dim=2)  # masks do not see each other
        tokens = recognise(tower.blocks[self.split :], context.x, bias)
        embeddings = F.normalize(tower.project(tower.post_norm(tokens)), dim=-1)
        return {
            "masks": torch.stack([p.masks for p in proposals], dim=1),
            "embeddings": embeddings.unflatten(1, (len(layers), -1)),
            "scale": backbone.clip.logit_scale.exp().expand(len(frames)),
        }

    def forward(self, features: Features, text: Tensor) -> Prediction:
        """As in the base class; ``extras`` hold ``class_logits`` ``[B, Q, T + 1]`` (the last class is "no object") and,
        in training, ``earlier_masks`` ``[B, L - 1, Q, h, w]`` and ``earlier_class_logits`` likewise."""
        rows = torch.cat([text, F.normalize(self.bg_embed.to(text.dtype), dim=-1)])
        logits = features["scale"].view(-1, 1, 1, 1) * features["embeddings"] @ rows.T
        masks = features["masks"]
        extras = {"class_logits": logits[:, -1]}
        if masks.shape[1] > 1:
            extras |= {"earlier_masks": masks[:, :-1], "earlier_class_logits": logits[:, :-1]}
        return Prediction(masks[:, -1], logits[:, -1].softmax(-1)[..., :-1], extras)


def pooled(bias: Tensor, grid: tuple[int, int]) -> Tensor:
    """Largest bias within each of CLIP's patches: ``[B, heads, Q, h, w] -> [B, heads, Q, N]``."""
    return F.adaptive_max_pool2d(bias.flatten(0, 1), grid).unflatten(0, bias.shape[:2]).flatten(3)
