"""SegCLIP: learned centres gather CLIP's patches into a few regions, which go through CLIP's last blocks as tokens.

Luo et al., "SegCLIP: Patch Aggregation with Learnable Centers for Open-Vocabulary Semantic Segmentation", ICML 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from ovseg.backbones.kernels import attention
from ovseg.backbones.towers import OpenClipTower
from ovseg.decoders.base import Decoder, Encoder, Features, Prediction
from ovseg.registry import DECODERS


@dataclass
class Grouping:
    """What the semantic layer makes of a batch's patches.

    Attributes:
        logits: ``[B, G, N]`` of the patches' assignment to the centres.
        assignment: ``[B, G, N]`` 0 or 1, one centre for each patch; in training with the gradients of a softmax.
        tokens: ``[B, G, d]``, one of each centre.
    """

    logits: Tensor
    assignment: Tensor
    tokens: Tensor

    @property
    def spread(self) -> Tensor:
        """``[B, N, d]``: for each patch the token of its centre."""
        return self.assignment.transpose(1, 2) @ self.tokens


class CentreBlock(nn.Module):
    """A pre-norm block in which centres look at themselves and the patches.

    Args:
        width: of both.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.ffn = feed_forward(width)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, centres: Tensor, patches: Tensor) -> Tensor:
        """``[B, G, width]`` from centres ``[B, G, width]`` and patches ``[B, N, width]``."""
        seen = self.norm1(torch.cat([centres, patches], dim=1))
        k, v = self.kv(seen).chunk(2, dim=-1)
        q = self.q(seen[:, : centres.shape[1]])
        centres = centres + self.out(attention(self._heads(q), self._heads(k), self._heads(v), self.scale))
        return centres + self.ffn(self.norm2(centres))


def feed_forward(width: int) -> nn.Sequential:
    """CLIP's two layers with QuickGELU between."""
    return nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width))


class SemanticLayer(nn.Module):
    """Patches to centres, each patch to one, and from these to a token of each centre (section 3.2).

    ``A = centres . LN(k(LN(x)))^T``; in training each patch draws its centre from the softmax over ``A / tau``
    (straight-through Gumbel), at test it goes to the largest. ``token = QuickGELU(MLP(LN(centre + mean v)))`` with the
    mean over its patches, 0 where it has none. ``k`` and ``v`` of ``LN(x)`` are linear within groups of channels.

    Args:
        width: of the patches.
        heads: of the cross-attention.
        count: number of centres.
        blocks: of the cross-attention that the centres go through first.
        groups: of channels.
        tau: temperature of the Gumbel softmax.
    """

    def __init__(
        self, width: int, heads: int, count: int = 8, blocks: int = 2, groups: int = 12, tau: float = 0.9
    ) -> None:
        super().__init__()
        self.tau = float(tau)
        self.centres = nn.Parameter(width**-0.5 * torch.randn(count, width))
        self.blocks = nn.ModuleList(CentreBlock(width, heads) for _ in range(blocks))
        self.norm, self.norm_k, self.norm_token = (nn.LayerNorm(width) for _ in range(3))
        self.k, self.v = (nn.Conv1d(width, width, 1, groups=groups) for _ in range(2))
        self.mlp = nn.Sequential(feed_forward(width), QuickGELU())

    def forward(self, patches: Tensor) -> Grouping:
        """The grouping of patches ``[B, N, width]``."""
        centres = self.centres.expand(len(patches), -1, -1)
        for block in self.blocks:
            centres = block(centres, patches)
        normed = self.norm(patches).transpose(1, 2)
        keys, values = self.norm_k(self.k(normed).transpose(1, 2)), self.v(normed).transpose(1, 2)
        logits = centres @ keys.transpose(1, 2)
        if self.training:
            assignment = F.gumbel_softmax(logits, self.tau, hard=True, dim=1)
        else:
            assignment = one_of(logits)
        mean = assignment @ values / assignment.sum(dim=2, keepdim=True).clamp(min=1)
        return Grouping(logits, assignment, self.mlp(self.norm_token(centres + mean)))


def one_of(scores: Tensor) -> Tensor:
    """1 at the largest of the second axis, else 0."""
    return torch.zeros_like(scores).scatter_(1, scores.argmax(dim=1, keepdim=True), 1.0)


@DECODERS.register_module()
class SegClipDecoder(Decoder):
    """Regions are the patches of one centre, their embeddings what CLIP's last blocks make of the centres' tokens.

    Patches without CLIP's class token go through its blocks up to the semantic layer, the tokens through the rest. The
    photo's embedding is that of the largest values over the tokens. A region's class probability is the softmax over
    all words times the softmax over those that fit the photo best.

    Args:
        tower: CLIP's image tower, open_clip's own ViT.
        weights, checkpoint: see :class:`ovseg.decoders.Decoder`.
        before: number of blocks before the semantic layer; ``None``: all but the last two.
        centres: number of centres.
        centre_blocks, groups, tau: see :class:`SemanticLayer`.
        best: how many words fit the photo.

    Raises:
        ValueError: for another kind of tower, blocks that are not there, or groups that do not fit.
    """

    def __init__(
        self,
        tower: OpenClipTower,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
        before: int | None = None,
        centres: int = 8,
        centre_blocks: int = 2,
        groups: int = 12,
        tau: float = 0.9,
        best: int = 5,
    ) -> None:
        super().__init__(tower)
        if not isinstance(tower, OpenClipTower):
            raise ValueError(f"SegClipDecoder works inside open_clip's own ViT, not inside {type(tower).__name__}")
        blocks, width = len(tower.blocks), tower.width
        self.before, self.best = blocks - 2 if before is None else int(before), int(best)
        if not 0 < self.before < blocks:
            raise ValueError(
                f"before is {self.before}; it must lie between 1 and {blocks - 1}: CLIP has {blocks} blocks"
            )
        if width % groups:
            raise ValueError(f"groups is {groups}; it must divide the width of CLIP's tokens, {width}")
        if self.best < 1:
            raise ValueError(f"best is {best}; give at least 1 word")
        self.semantic = SemanticLayer(width, tower.blocks[0].num_heads, centres, centre_blocks, groups, tau)
        self.load(weights, checkpoint)

    def patches(self, frames: Tensor, backbone: Encoder) -> Tensor:
        """Patch tokens ``[B, N, d]`` before the first block, of normalised frames ``[B, 3, H, W]``."""
        return backbone.tower.embed(frames, backbone.pos_embed)[:, backbone.tower.num_prefix :]

    def group(self, patches: Tensor, backbone: Encoder) -> Grouping:
        """The grouping of patch tokens ``[B, N, d]``, all or some of a photo's, from before the first block."""
        for block in backbone.tower.blocks[: self.before]:
            patches = block(patches)
        return self.semantic(patches)

    def embed(self, tokens: Tensor, backbone: Encoder) -> tuple[Tensor, Tensor]:
        """Unit embeddings of the centres ``[B, G, D]`` and of the photos ``[B, D]``, of tokens ``[B, G, d]``."""
        tower = backbone.tower
        for block in tower.blocks[self.before :]:
            tokens = block(tokens)
        both = torch.cat([tokens, tokens.amax(dim=1, keepdim=True)], dim=1)
        found = F.normalize(tower.project(tower.post_norm(both)), dim=-1)
        return found[:, :-1], found[:, -1]

    def features(self, frames: Tensor, backbone: Encoder) -> Features:
        """``regions`` ``[B, G, D]`` and ``photo`` ``[B, D]`` unit vectors, ``assignment`` ``[B, G, h, w]`` softmax over
        the centres, ``scale`` ``[B]`` CLIP's factor of cosines.

        Args:
            frames: ``[B, 3, H, W]`` normalised.
            backbone: CLIP.
        """
        grouping = self.group(self.patches(frames, backbone), backbone)
        regions, photo = self.embed(grouping.tokens, backbone)
        grid = backbone.tower.grid_of(*frames.shape[-2:])
        return {
            "regions": regions,
            "photo": photo,
            "assignment": grouping.logits.softmax(dim=1).unflatten(2, grid),
            "scale": backbone.clip.logit_scale.exp().float().expand(len(frames)),
        }

    def forward(self, features: Features, text: Tensor) -> Prediction:
        """As in the base class: a map for each centre, to be made one-hot at the frame's size."""
        scale = features["scale"][:, None]
        fitting = (features["photo"] @ text.T).topk(min(self.best, len(text)), dim=1).indices
        logits = scale[..., None] * features["regions"] @ text.T  # [B, G, Q]
        outside = torch.ones(len(logits), 1, len(text), dtype=torch.bool, device=text.device)
        outside.scatter_(2, fitting[:, None], False)
        among = logits.masked_fill(outside, -torch.inf).softmax(dim=-1)
        return Prediction(features["assignment"], classes=among * logits.softmax(dim=-1))
