"""CorrCLIP's last block: patches share values inside regions only."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ovseg.attention.base import LastBlockAttention
from ovseg.attention.photo_scope import PhotoCells, checked_scope, photo_cells
from ovseg.attention.proxy import require_guide, values_on
from ovseg.ops import correlation_attention, region_pool
from ovseg.region_maps import resize_regions
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, FeatureMap

UNSEGMENTED = 0
"""Index of the region that plays 'no mask here' in a window: the smallest id."""


@ATTENTIONS.register_module()
class RegionAttention(LastBlockAttention):
    """CorrCLIP v1: scope and value reconstruction (Zhang et al., ICCV 2025, sections 3.2 to 3.4).

    *Scope*: a patch attends to the patches of its own region; to, from and among unsegmented patches attention flows
    where the guide's cosine exceeds its mean over the window. Regions of a window are merged first where the guide's
    mean features agree. *Value*: ``softmax(temperature * S)`` over that scope, one matrix for all heads, applied to the
    values of the last block's input (main) and of the mean of earlier layers' outputs (spatial); plus, for each region,
    a CLS token that sees this region only, in all blocks (semantic). The three are normed and summed.

    Quirks of the official code that are kept: the *smallest id of the window* plays the unsegmented one, even where
    every pixel of the window is segmented; padding is a region of its own.

    Args:
        temperature: factor of the cosines in the softmax.
        merge_eps: regions are merged whose similarity is within this of the largest similarity of any pair (single
            linkage: DBSCAN with one sample); ``None``: never (CorrCLIP v2).
        spatial_weight: weight of the spatial branch; 0: off.
        semantic_weight: weight of the semantic branch; 0: off.
        spatial_layers: how many layers the spatial branch averages, ending with the last but two.
        scope: ``'window'`` as in the paper; ``'photo'``: a patch attends to its region in all windows of the photo, and
            the smallest id of the *photo* plays the unsegmented one (ours, see :mod:`ovseg.attention.photo_scope`).
            The semantic branch stays the window's.
    """

    post_norm = False

    def __init__(
        self,
        temperature: float = 4.0,
        merge_eps: float | None = 0.2,
        spatial_weight: float = 1.0,
        semantic_weight: float = 0.5,
        spatial_layers: int = 5,
        scope: str = "window",
    ) -> None:
        super().__init__()
        self.scope = checked_scope(scope)
        self.window_scope = "image" if scope == "photo" else "window"
        self.temperature, self.merge_eps = float(temperature), merge_eps
        self.spatial_weight, self.semantic_weight = float(spatial_weight), float(semantic_weight)
        self.spatial_layers = spatial_layers
        # a layer's output is the next one's input
        self.needs_inputs = tuple(range(-1 - spatial_layers, -1)) if spatial_weight else ()

    def needs_inputs_of(self, num_blocks: int) -> tuple[int, ...]:
        return tuple(range(num_blocks)) if self.semantic_weight else super().needs_inputs_of(num_blocks)

    def forward(self, context: AttentionContext) -> FeatureMap:
        """``[B, N, d]`` normed tokens on the guide's grid.

        Raises:
            ValueError: without a guide or without regions.
        """
        guide = require_guide(context, self)
        if context.regions is None:
            raise ValueError(
                f"{type(self).__name__} needs regions: add regions=dict(type=...) to the model config, or give region "
                "ids with the photo"
            )
        tower = context.tower
        features, found, cells = guide.patches, self._on(guide.grid, context), None
        if self.scope == "photo":
            cells = photo_cells(context, guide.grid, self)
            features, found = F.normalize(cells.merge(features), dim=-1), cells.merge_ids(found)
        scoped = torch.stack([self._merge(f, r) for f, r in zip(features, found, strict=True)])
        ids = scoped if cells is None else cells.spread(scoped)
        reconstruct = partial(self._reconstruct, features=features, ids=scoped, cells=cells, context=context)
        out = reconstruct(context.x)
        if self.spatial_weight:
            inputs = [context.inputs[i] for i in super().needs_inputs_of(len(tower.blocks))]
            out = out + self.spatial_weight * reconstruct(torch.stack(inputs).mean(0))
        if self.semantic_weight:
            coarse = resize_regions(ids.unflatten(1, guide.grid), context.grid).flatten(1)
            semantic = tower.post_norm(self._region_tokens(coarse, context))
            semantic = resize_nearest(semantic.unflatten(1, context.grid), guide.grid)
            out = out + self.semantic_weight * semantic
        return FeatureMap(out, guide.grid)

    def _on(self, grid: tuple[int, int], context: AttentionContext) -> Tensor:
        return resize_regions(context.regions, grid).flatten(1)

    def _reconstruct(
        self, x: Tensor, features: Tensor, ids: Tensor, cells: PhotoCells | None, context: AttentionContext
    ) -> Tensor:
        """The last block's attention output for values of ``x`` with the guide's scope, normed: ``[B, N, d]``."""
        values = values_on(require_guide(context, self).grid, x, context)
        mixed = correlation_attention(
            features,
            values if cells is None else cells.merge(values),
            scale=self.temperature,
            beta=1.0,
            region_ids=ids,
            unsegmented=ids.new_full((len(ids),), UNSEGMENTED),
        )
        mixed = mixed if cells is None else cells.spread(mixed)
        return context.tower.post_norm(context.tower.blocks[-1].out(mixed))

    def _merge(self, features: Tensor, regions: Tensor) -> Tensor:
        """Region index of every patch of a window ``[N]``: 0 for the smallest id, then merged regions from 1."""
        ids, index = regions.unique(return_inverse=True)
        if self.merge_eps is None or len(ids) <= 2:
            return index
        means = F.normalize(region_pool(features, index).means[1:], dim=-1)
        similarity = means @ means.T
        near = similarity >= similarity.max() - self.merge_eps
        merged = connected_components(near.cpu().numpy(), directed=False)[1]
        table = torch.cat([index.new_zeros(1), torch.from_numpy(merged).to(index) + 1])
        return table[index]

    def _region_tokens(self, ids: Tensor, context: AttentionContext) -> Tensor:
        """The semantic branch: one CLS per region, run through all blocks, given to the region's patches ``[B, N, d]``.

        The copies of CLS start where CLS starts and are queries only: in every block each sees CLS and its region's
        patches; no copy is seen, not even by itself, so that the other tokens are those of the plain encoder.

        Raises:
            ValueError: for a CLIP without CLS token.
        """
        tower, prefix = context.tower, context.num_prefix
        if not prefix:
            raise ValueError("this CLIP has no CLS token: set semantic_weight=0 in RegionAttention")
        own = F.one_hot(ids, int(ids.max()) + 1).transpose(1, 2).bool()  # [B, regions, N]
        seen = F.pad(own, (1, 0), value=True)[:, None]
        copies = context.inputs[0][:, :1].expand(-1, own.shape[1], -1)
        for index, block in enumerate(tower.blocks):
            q = block.qkv(block.norm1(copies))[0]
            _, k, v = block.qkv(block.norm1(context.inputs[index]), context.grid)
            k, v = (torch.cat([t[:, :, :1], t[:, :, prefix:]], dim=2) for t in (k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=block.scale)
            copies = copies + block.out(mixed.transpose(1, 2).flatten(2))
            copies = copies + block.ffn(copies)
        return copies.gather(1, ids[..., None].expand(-1, -1, copies.shape[-1]))


def resize_nearest(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """``[B, h, w, d]`` tokens to ``[B, H * W, d]`` on another grid, nearest neighbour."""
    return resize_regions(tokens.permute(0, 3, 1, 2), grid).flatten(2).transpose(1, 2)
