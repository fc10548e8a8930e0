"""ZegCLIP and Cascade-CLIP: prompts in a frozen CLIP's blocks, words related to the photo, masks by cross-attention.

Zhou et al., "ZegCLIP: Towards Adapting CLIP for Zero-shot Semantic Segmentation", CVPR 2023; Li et al., "Cascade-CLIP:
Cascaded Vision-Language Embeddings Alignment for Zero-Shot Semantic Segmentation", ICML 2024, which gives the maps of
earlier blocks decoders of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.backbones.kernels import attention
from ovseg.backbones.towers import OpenClipTower
from ovseg.decoders.base import Decoder, Encoder, Features, Prediction
from ovseg.registry import DECODERS


class DeepPrompts(nn.Module):
    """Learned tokens that take part in CLIP's blocks: other ones before each block (deep VPT, Jia et al., ECCV 2022).

    Args:
        width: of CLIP's tokens.
        blocks: how many CLIP has.
        count: tokens per block.
        dropout: of the projected tokens, in training.
    """

    def __init__(self, width: int, blocks: int, count: int, dropout: float = 0.1) -> None:
        super().__init__()
        bound = math.sqrt(3 / width)
        self.prompt_embeddings = nn.Parameter(torch.empty(1, count, width).uniform_(-bound, bound))
        self.deep_prompt_embeddings = nn.Parameter(torch.empty(blocks - 1, count, width).uniform_(-bound, bound))
        self.prompt_proj = nn.Linear(width, width)
        self.prompt_norm = nn.LayerNorm(width, eps=1e-6)
        self.prompt_dropout = nn.Dropout(dropout)

    @property
    def count(self) -> int:
        return self.prompt_embeddings.shape[1]

    def tokens(self, block: int, batch: int) -> Tensor:
        """``[B, count, width]`` of a block (0-based)."""
        own = self.prompt_embeddings if block == 0 else self.deep_prompt_embeddings[block - 1][None]
        return self.prompt_dropout(self.prompt_proj(own)).expand(batch, -1, -1)

    def run(self, tower: OpenClipTower, x: Tensor, taps: Sequence[int]) -> dict[int, Tensor]:
        """The blocks with the prompts between class token and patches.

        Args:
            tower: CLIP's image tower.
            x: ``[B, 1 + N, width]`` class token and patches before the first block.
            taps: blocks (0-based) whose outputs are wanted.

        Returns:
            their outputs ``[B, 1 + N, width]``, normed, without prompts.
        """
        found = {}
        for i, block in enumerate(tower.blocks):
            x = block(torch.cat([x[:, :1], self.tokens(i, len(x)), x[:, 1:]], dim=1))
            x = torch.cat([x[:, :1], x[:, 1 + self.count :]], dim=1)  # replaced before the next block
            if i in taps:
                found[i] = self.prompt_norm(x)
        return found


class WordMaps(nn.Module):
    """Queries of words and keys of patches: maps are the mean over the heads of their scaled products.

    Args:
        width: of both.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, words: Tensor, patches: Tensor) -> Tensor:
        """``[B, Q, width]`` and ``[B, N, width]`` to ``[B, Q, N]``; the mean is one product over all heads."""
        return self.q(words) @ self.k(patches).transpose(1, 2) * (self.scale / self.heads)


class CrossLayer(WordMaps):
    """Words look at the patches: attention, norm, feed-forward, norm; no attention among the words.

    Args:
        width, heads: see :class:`WordMaps`.
        hidden: of the feed-forward.
        dropout: of what is added to the words, in training.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__(width, heads)
        self.v, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, words: Tensor, patches: Tensor) -> Tensor:
        """``[B, Q, width]`` words after the layer."""
        q, k, v = (self._heads(t) for t in (self.q(words), self.k(patches), self.v(patches)))
        words = self.norm1(words + self.dropout(self.out(attention(q, k, v, self.scale))))
        return self.norm2(words + self.dropout(self.ffn(words)))


class MaskStage(nn.Module):
    """Words, each with what relates it to the photo, through cross-attention layers to a map each.

    Args:
        width: of the text space.
        layers: of the cross-attention; of the last one only the maps are wanted.
        heads, hidden, dropout: see :class:`CrossLayer`.
    """

    def __init__(self, width: int, layers: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.q_proj = nn.Linear(2 * width, width)
        self.layers = nn.ModuleList(CrossLayer(width, heads, hidden, dropout) for _ in range(layers - 1))
        self.maps = WordMaps(width, heads)

    def forward(self, patches: Tensor, photo: Tensor, text: Tensor) -> Tensor:
        """Logits ``[B, Q, N]``.

        Args:
            patches: ``[B, N, width]``.
            photo: ``[B, width]``, the class token's embedding.
            text: ``[Q, width]``.
        """
        related = photo[:, None] * text  # the relation descriptor: [B, Q, width]
        words = self.q_proj(torch.cat([related, text.expand_as(related)], dim=-1))
        for layer in self.layers:
            words = layer(words, patches)
        return self.maps(words, patches)


@DECODERS.register_module()
class RelationDecoder(Decoder):
    """ZegCLIP's decoder on the last block's patches, and Cascade-CLIP's: one on each group of earlier blocks, too.

    CLIP is frozen; deep prompts are trained inside it. A word is told by its embedding and by the product of that and
    the photo's class embedding. Its map is the scaled product of query and keys in the last cross-attention; the maps
    of all stages are summed before the sigmoid. Patches of a group are summed with learned weights, which begin as
    a half Gaussian, the deepest at 1 (neighbourhood Gaussian aggregation). Earlier blocks' patches are brought into
    the text space by a norm and a product of their own, which stay as they are at random.

    Words do not see each other: a word's map does not depend on the vocabulary.

    Args:
        tower: CLIP's image tower, open_clip's own ViT.
        weights, checkpoint: see :class:`ovseg.decoders.Decoder`.
        groups: blocks (0-based) of each group, e.g. ``((5, 6, 7), (8, 9, 10))``; none: ZegCLIP.
        prompts: tokens per block (50 for COCO-Stuff, 35 for Context, 10 for VOC).
        layers, heads, hidden, dropout: of the stages, see :class:`MaskStage`.
        class_twice: add the class embedding twice to the class token, as the recipes' code does.

    Raises:
        ValueError: for another kind of tower, groups of blocks that are not there, or heads that do not fit.
    """

    def __init__(
        self,
        tower: OpenClipTower,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
        groups: Sequence[Sequence[int]] = (),
        prompts: int = 10,
        layers: int = 3,
        heads: int = 8,
        hidden: int = 2048,
        dropout: float = 0.1,
        class_twice: bool = True,
    ) -> None:
        super().__init__(tower)
        if not isinstance(tower, OpenClipTower):
            raise ValueError(f"RelationDecoder puts prompts into open_clip's own ViT, not into {type(tower).__name__}")
        blocks, width = len(tower.blocks), tower.embed_dim
        self.groups, self.class_twice = tuple(tuple(group) for group in groups), class_twice
        taps = [block for group in self.groups for block in group]
        if any(not 0 <= block < blocks - 1 for block in taps) or len(set(taps)) < len(taps) or not all(self.groups):
            raise ValueError(
                f"groups are {self.groups}: each must name blocks from 0 to {blocks - 2}, and a block once; the last "
                "block is a stage of its own"
            )
        if width % heads:
            raise ValueError(f"heads is {heads}; it must divide the width of the text space, {width}")
        self.prompts = DeepPrompts(tower.width, blocks, prompts, dropout)
        self.tap_norms = nn.ModuleDict({str(block): nn.LayerNorm(tower.width) for block in taps})
        scale = tower.width**-0.5
        self.tap_projections = nn.ParameterDict(
            {str(block): nn.Parameter(scale * torch.randn(tower.width, width)) for block in taps}
        )
        self.group_weights = nn.ParameterList(
            nn.Parameter(torch.exp(-0.5 * torch.arange(len(group) - 1.0, -1.0, -1.0) ** 2)) for group in self.groups
        )
        self.stages = nn.ModuleList(
            MaskStage(width, layers, heads, hidden, dropout) for _ in range(len(self.groups) + 1)
        )
        self.load(weights, checkpoint)

    def features(self, frames: Tensor, backbone: Encoder) -> Features:
        """``patches`` ``[B, S, N, D]`` of each stage, ``photo`` ``[B, D]`` unit vectors, ``grid`` ``[B, 2]``.

        Args:
            frames: ``[B, 3, H, W]`` normalised.
            backbone: CLIP.
        """
        tower = backbone.tower
        x = tower.embed(frames, backbone.pos_embed)
        if self.class_twice:
            visual = tower.visual
            token = visual.ln_pre(2 * visual.class_embedding + visual.positional_embedding[0])
            x = torch.cat([token.expand(len(x), 1, -1), x[:, 1:]], dim=1)
        last = len(tower.blocks) - 1
        found = self.prompts.run(tower, x, [*(block for group in self.groups for block in group), last])
        embedded = F.normalize(tower.project(tower.post_norm(found[last])), dim=-1)
        stages = []
        for group, weights in zip(self.groups, self.group_weights, strict=True):
            maps = [self._tapped(block, found[block][:, 1:]) for block in group]
            stages.append(sum(weight * each for weight, each in zip(weights, maps, strict=True)))
        grid = torch.tensor(tower.grid_of(*frames.shape[-2:]), device=frames.device)
        return {
            "patches": torch.stack([*stages, embedded[:, 1:]], dim=1),
            "photo": embedded[:, 0],
            "grid": grid.expand(len(frames), 2),
        }

    def _tapped(self, block: int, patches: Tensor) -> Tensor:
        normed = self.tap_norms[str(block)](patches)
        return F.normalize(normed @ self.tap_projections[str(block)], dim=-1)

    def forward(self, features: Features, text: Tensor) -> Prediction:
        """As in the base class."""
        patches, photo = features["patches"], features["photo"]
        maps = sum(stage(patches[:, i], photo, text) for i, stage in enumerate(self.stages))
        rows, columns = features["grid"][0].tolist()
        return Prediction(maps.unflatten(2, (rows, columns)))
