"""OVSeg's mask prompts: learned tokens in the place of a crop's patches that hold no pixel of the mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.backbones.towers import OpenClipTower


def patches_with_mask(masks: Tensor, patch_size: int) -> Tensor:
    """Which patches hold a pixel of a mask: 0 or 1, ``[B, h * w]`` float32.

    Args:
        masks: ``[B, H, W]`` of 0 and 1, or bool.
        patch_size: side of a patch in pixels.
    """
    return F.max_pool2d(masks.float()[:, None], patch_size).flatten(1)


def encode_masked(
    tower: OpenClipTower, crops: Tensor, kept: Tensor, prompts: Tensor, pos_embed: str = "size"
) -> Tensor:
    """CLIP's embedding of crops whose empty patches are prompts (Liang et al., OVSeg, CVPR 2023, section 3.3, eq. 2).

    After the patch convolution, and again after each of the first blocks, tokens of patches without a mask pixel are
    replaced by learned ones of their place; CLS and positions are as always.

    Args:
        tower: CLIP's ViT.
        crops: ``[B, 3, H, W]`` normalised.
        kept: ``[B, h * w]`` of 0 (prompt) and 1 (patch).
        prompts: ``[depth, h * w, d]``.
        pos_embed: how positions are resized, see :class:`ovseg.backbones.clip.ClipBackbone`.

    Returns:
        ``[B, D]``, not normalised.

    Raises:
        ValueError: if the prompts are of another grid or for more blocks than the tower has.
    """
    grid = tower.grid_of(*crops.shape[-2:])
    if prompts.shape[1] != grid[0] * grid[1] or not 0 < len(prompts) <= len(tower.blocks):
        raise ValueError(
            f"mask prompts {list(prompts.shape)} for a grid of {grid[0]} x {grid[1]} patches and {len(tower.blocks)} "
            "blocks: they belong to crops of another size, or to another CLIP"
        )
    kept = kept[..., None].to(crops.dtype)
    patches = tower.patches(crops)
    x = tower.tokens(patches * kept + prompts[0] * (1 - kept), grid, pos_embed)
    for depth, block in enumerate(tower.blocks, start=1):
        x = block(x, grid)
        if depth < len(prompts):
            cls, patches = x[:, : tower.num_prefix], x[:, tower.num_prefix :]
            x = torch.cat([cls, patches * kept + prompts[depth] * (1 - kept)], dim=1)
    return tower.project(tower.post_norm(x[:, 0]))


def crop_of(image: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A mask's box at ``size`` x ``size``, aspect ratio dropped.

    Outside the mask the image becomes zero (the mean colour). The image is resized bicubic without antialiasing, the
    mask nearest.

    Args:
        image: ``[3, h, w]`` normalised.
        mask: bool ``[h, w]``, not empty.

    Returns:
        ``[3, size, size]`` and ``[size, size]`` of 0 and 1, float32.
    """
    box = box_of(mask)
    inside = mask[box].to(image.dtype)[None, None]
    crop = F.interpolate(image[(slice(None), *box)][None] * inside, (size, size), mode="bicubic", align_corners=False)
    return crop[0], F.interpolate(inside, (size, size), mode="nearest")[0, 0]


def box_of(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the box of a mask ``[h, w]`` that is not empty."""
    places = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
    rows, columns = (slice(int(place[0]), int(place[-1]) + 1) for place in places)
    return rows, columns
