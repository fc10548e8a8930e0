"""Attention over all windows of a photo at once: the option ``scope="photo"`` of several attentions. **Ours.**

OV-Stitcher (arXiv 2604.08110) lets the last block attend over a whole photo; its code is not published, and this is
not it. Here every window runs CLIP's earlier blocks on its own, as ever. In the last block the tokens of all windows
are laid on one grid of cells of the photo: where windows overlap their queries, keys and values (a guide's features
alike) are averaged, and one attention runs over the grid, in the operators' own tiles, so that its memory grows with
the number of cells and not with its square. Every window then takes the cells that it sees. A photo of one window is
computed as with ``scope="window"``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ovseg.structures import AttentionContext
from ovseg.windows import WindowLayout

SCOPES = ("window", "photo")


def checked_scope(scope: str) -> str:
    """``scope`` if there is one of that name.

    Raises:
        ValueError: if there is not.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope is {scope!r}; choose one of {', '.join(SCOPES)}")
    return scope


@dataclass(frozen=True)
class PhotoCells:
    """Where the tokens of a photo's windows lie on one grid of the photo.

    Attributes:
        index: int64 ``[B * N]`` place of every token: first the tokens of padding, each at a place of its own, then the
            cells of the grid row by row.
        grid: ``(rows, columns)`` of cells; each is seen by a window.
        padding: number of places before the grid.
        windows: B.
    """

    index: Tensor
    grid: tuple[int, int]
    padding: int
    windows: int

    @classmethod
    def of(cls, layout: WindowLayout, grid: tuple[int, int], device: torch.device) -> PhotoCells:
        """Cells of the size of a window's tokens.

        Args:
            layout: of the windows.
            grid: ``(h, w)`` tokens of a window, padding included.
            device: where the tokens are.
        """
        axes = [_places(layout, axis, grid[axis]) for axis in (0, 1)]
        (rows, inside_rows), (columns, inside_columns) = axes
        size = tuple(int(places[inside].max()) + 1 for places, inside in axes)
        inside = inside_rows[:, None, :, None] & inside_columns[None, :, None, :]  # [windows y, windows x, h, w]
        cell = (rows[:, None, :, None] * size[1] + columns[None, :, None, :]).flatten()
        inside = inside.flatten()
        padding = int((~inside).sum())
        index = torch.where(inside, cell + padding, (~inside).cumsum(0) - 1)
        return cls(index.to(device), size, padding, len(layout))

    @property
    def count(self) -> int:
        """Number of places."""
        return self.padding + self.grid[0] * self.grid[1]

    def merge(self, tokens: Tensor) -> Tensor:
        """Means ``[1, count, d]`` of tokens ``[B, N, d]`` at one place, in the order of the windows."""
        flat = tokens.flatten(0, 1)
        total = flat.new_zeros(self.count, flat.shape[1]).index_add_(0, self.index, flat)
        visits = torch.bincount(self.index, minlength=self.count).to(flat)
        return (total / visits[:, None])[None]

    def merge_ids(self, ids: Tensor) -> Tensor:
        """Region ids ``[1, count]`` of ``[B, N]``; where windows round differently, the largest."""
        flat = ids.flatten()
        lowest = flat.new_full((self.count,), torch.iinfo(ids.dtype).min)
        return lowest.scatter_reduce_(0, self.index, flat, "amax")[None]

    def spread(self, tokens: Tensor) -> Tensor:
        """``[1, count, ...]`` back to the windows, ``[B, N, ...]``."""
        return tokens[0, self.index].unflatten(0, (self.windows, -1))


def _places(layout: WindowLayout, axis: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Along one axis: the cell ``[windows, tokens]`` in which a token's centre lies, and whether that is no padding."""
    cell = layout.padded[axis] / tokens
    centre = (torch.arange(tokens) + 0.5) * cell - layout.offset[axis]
    inside = (centre >= 0) & (centre < layout.window[axis])
    at = torch.tensor(layout.starts[axis])[:, None] + centre
    return (at / cell).floor().long(), inside.expand(len(at), -1)


def photo_cells(context: AttentionContext, grid: tuple[int, int], who: object) -> PhotoCells:
    """The cells of a photo whose windows are a batch.

    Raises:
        ValueError: where the batch does not say how the windows lie.
    """
    if context.layout is None:
        raise ValueError(
            f"{type(who).__name__}(scope='photo') needs all windows of a photo and how they lie; it runs in a segmentor"
        )
    return PhotoCells.of(context.layout, grid, context.x.device)
