"""Self-self attentions: a token attends to what has the same query (key, value) as itself."""

from __future__ import annotations

import torch
from torch import Tensor

from ovseg.attention.base import LastBlockAttention
from ovseg.attention.photo_scope import PhotoCells, checked_scope, photo_cells
from ovseg.ops import self_self_attention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext

TERMS = ("q", "k", "v")


@ATTENTIONS.register_module()
class SelfSelfAttention(LastBlockAttention):
    """Sum of softmax(t t^T / sqrt(d)) over the chosen terms t, times v.

    - SCLIP: q and k, with residual and feed-forward (Wang et al., ECCV 2024, equation 3)
    - ClearCLIP: q, without both (Lan et al., ECCV 2024, section 3.3)
    - CLIPtrase: q, k and v, with both (Shao et al., ECCV 2024)

    Args:
        terms: which projections attend to themselves, any of ``'q'``, ``'k'``, ``'v'``. The attention rows sum to the
            number of terms, as in the official code.
        average: divide by the number of terms (no paper does; useful with one's own methods).
        residual, ffn: see :class:`LastBlockAttention`.
        scope: ``'window'`` as in the papers; ``'photo'``: over all windows of a photo (ours, see
            :mod:`ovseg.attention.photo_scope`).

    Raises:
        ValueError: if ``terms`` is empty or unknown, or for an unknown scope.
    """

    def __init__(
        self,
        terms: tuple[str, ...] = ("q", "k"),
        average: bool = False,
        residual: bool = False,
        ffn: bool = False,
        scope: str = "window",
    ) -> None:
        super().__init__(residual, ffn)
        self.scope = checked_scope(scope)
        self.window_scope = "image" if scope == "photo" else "window"
        if not terms or any(t not in TERMS for t in terms):
            raise ValueError(f"terms is {terms!r}; give one or more of {', '.join(TERMS)}")
        self.terms, self.average, self.std = tuple(terms), average, 0.0

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: AttentionContext) -> Tensor:
        if self.scope == "window":
            return self._attend(q, k, v, context, context.grid)
        cells, prefix = photo_cells(context, context.grid, self), context.num_prefix
        merged = (_of_photo(t, cells, prefix) for t in (q, k, v))
        mixed = self._attend(*merged, context, cells.grid).transpose(1, 2)
        shared = mixed[:, :prefix].expand(len(q), -1, -1, -1)  # CLS of all windows is one
        return torch.cat([shared, cells.spread(mixed[:, prefix:])], dim=1).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, context: AttentionContext, grid: tuple[int, int]) -> Tensor:
        mixed = self_self_attention(
            q,
            k,
            v,
            terms=[2 * t for t in self.terms],
            scale=context.tower.blocks[-1].scale,
            neighbour_std=self.std,
            grid=grid,
        )
        return mixed / len(self.terms) if self.average else mixed


def _of_photo(t: Tensor, cells: PhotoCells, prefix: int) -> Tensor:
    """``[B, heads, P + N, c]`` of a photo's windows to ``[1, heads, P + places, c]``."""
    tokens = t.transpose(1, 2)  # [B, P + N, heads, c]
    patches = cells.merge(tokens[:, prefix:].flatten(2)).unflatten(2, tokens.shape[2:])
    return torch.cat([tokens[:, :prefix].mean(0, keepdim=True), patches], dim=1).transpose(1, 2)


@ATTENTIONS.register_module()
class NeighbourAttention(SelfSelfAttention):
    """NACLIP: key-key attention with a Gaussian bias towards neighbouring patches (Hajimiri et al., WACV 2025, eq. 5).

    Args:
        std: standard deviation of the Gaussian in patches.
        terms, average, residual, ffn, scope: see :class:`SelfSelfAttention`; NACLIP keeps neither residual nor
            feed-forward.

    Raises:
        ValueError: if ``std`` is not positive.
    """

    def __init__(
        self,
        std: float = 5.0,
        terms: tuple[str, ...] = ("k",),
        average: bool = False,
        residual: bool = False,
        ffn: bool = False,
        scope: str = "window",
    ) -> None:
        super().__init__(terms, average, residual, ffn, scope)
        if std <= 0:
            raise ValueError(f"std is {std}; the neighbourhood needs a positive standard deviation in patches")
        self.std = float(std)
