"""What teaches SegCLIP's centres which patches belong together (Luo et al., ICML 2023, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn


def superpixel_loss(logits: Tensor, superpixels: Tensor) -> Tensor:
    """How far the patches of a superpixel are from their mean: symmetrical KL divergence of their softmaxes.

    ``(KL(p || m) + KL(m || p)) / 2`` of each patch's distribution over the centres and the mean one of its superpixel,
    averaged over the patches.

    Args:
        logits: ``[B, G, N]`` of the assignment to G centres.
        superpixels: int64 ``[B, N]`` ids, of each photo its own.
    """
    logs = logits.float().log_softmax(dim=1).transpose(1, 2).flatten(0, 1)  # [B * N, G]
    shares = logs.exp()
    photo = torch.arange(len(superpixels), device=superpixels.device)[:, None].expand_as(superpixels)
    _, index = torch.stack([photo, superpixels]).flatten(1).unique(dim=1, return_inverse=True)
    count = index.bincount().to(shares)[:, None]
    mean = torch.zeros(len(count), shares.shape[1]).to(shares).index_add_(0, index, shares) / count
    mean = mean[index]
    difference = (shares - mean) * (logs - mean.clamp(min=torch.finfo(mean.dtype).tiny).log())
    return difference.sum(dim=1).mean() / 2


def patches_of(images: Tensor, side: int) -> Tensor:
    """The pixels of each patch, row by row: ``[B, 3, H, W]`` to ``[B, N, 3 * side * side]``."""
    return F.pixel_unshuffle(images, side).flatten(2).transpose(1, 2)


class PatchReconstruction(nn.Module):
    """Pixels of patches that were left out, from the centres' tokens that those which were not are assigned to.

    Each patch that was seen has its centre's token; blocks of CLIP's width, then a decoder as in MAE (He et al.,
    CVPR 2022): narrower, with a learned token for each patch left out and fixed sine positions.

    Args:
        width: of the tokens.
        heads: of the blocks of that width.
        patch: side of a patch in pixels.
        blocks: number of the former.
        decoder_width, decoder_heads, decoder_blocks: of the decoder.
        share: of the patches that are left out.

    Raises:
        ValueError: for a share outside of 0..1.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        patch: int,
        blocks: int = 2,
        decoder_width: int = 384,
        decoder_heads: int = 8,
        decoder_blocks: int = 3,
        share: float = 0.75,
    ) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise ValueError(f"share is {share}; it must lie between 0 and 1, both ends excluded")
        self.patch, self.share = int(patch), float(share)
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True, act_layer=QuickGELU) for _ in range(blocks)))
        self.embed = nn.Linear(width, decoder_width)
        self.left_out = nn.Parameter(0.02 * torch.randn(decoder_width))
        layers = (Block(decoder_width, decoder_heads, qkv_bias=True) for _ in range(decoder_blocks))
        self.decoder = nn.Sequential(*layers, nn.LayerNorm(decoder_width))
        self.pixels = nn.Linear(decoder_width, 3 * self.patch**2)

    def choose(self, batch: int, count: int, device: torch.device) -> Tensor:
        """Random patches of each photo that are seen: int64 ``[B, n]``, at least one."""
        seen = max(1, round(count * (1 - self.share)))
        return torch.rand(batch, count, device=device).argsort(dim=1)[:, :seen]

    def forward(self, tokens: Tensor, seen: Tensor, grid: tuple[int, int]) -> Tensor:
        """Pixels ``[B, N, 3 * patch * patch]`` of all patches.

        Args:
            tokens: ``[B, n, width]`` of the patches that were seen.
            seen: int64 ``[B, n]``, which these are.
            grid: rows and columns of all N patches.
        """
        known = self.embed(self.blocks(tokens))
        full = self.left_out.expand(len(known), grid[0] * grid[1], -1)
        full = full.scatter(1, seen[..., None].expand_as(known), known.to(full.dtype))
        positions = build_sincos2d_pos_embed(list(grid), full.shape[-1], device=full.device, dtype=full.dtype)
        return self.pixels(self.decoder(full + positions))

    def loss(self, tokens: Tensor, seen: Tensor, images: Tensor) -> Tensor:
        """Mean squared error of the pixels of the patches that were left out.

        Args:
            tokens, seen: see :meth:`forward`.
            images: normalised ``[B, 3, H, W]``.
        """
        grid = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        error = (self(tokens, seen, grid) - patches_of(images, self.patch)).square().mean(dim=2)
        out = torch.ones_like(error).scatter_(1, seen, 0.0)
        return (error * out).sum() / out.sum()
