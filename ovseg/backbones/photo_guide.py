"""A guide that sees the photo as a whole, once, and hands every window its part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.ops import bilinear_matrix
from ovseg.photo import Photo
from ovseg.registry import GUIDES
from ovseg.windows import WindowLayout

WEIGHTS = 1 << 24
"""Bound on the numbers, regions times cells, that are held at once."""


@GUIDES.register_module()
class PhotoGuide(nn.Module):
    """Dense features of the whole photo for windows and regions (CorrCLIPv2).

    The photo at its own size goes through ``source`` once. Its features are thought of at every pixel of the resized
    photo (bilinear, then of unit length); this map is never built: a window's features, ``scale`` times finer than
    CLIP's patches, are read by plain bilinear interpolation (no antialiasing) from the pixels around each cell, and
    means of regions are sums of the source's cells, weighed by what the region's pixels take of each. Outside of the
    photo (padding) the last pixel is repeated.

    Args:
        source: config of a registered guide with a method ``dense`` (:class:`ovseg.backbones.DinoBackbone`).
        scale: cells per patch of CLIP along each side.

    Attributes:
        scope: ``'photo'``: :meth:`cut` takes the place of a call with windows.

    Raises:
        ValueError: for a source without dense features, or a scale below 1.
    """

    scope = "photo"

    def __init__(self, source: dict, scale: int = 2) -> None:
        super().__init__()
        self.source = GUIDES.build(source)
        if not hasattr(self.source, "dense"):
            raise ValueError(
                f"{type(self.source).__name__} has no dense features of a photo; use DinoBackbone or StemGuide"
            )
        if scale < 1:
            raise ValueError(f"scale is {scale}; the guide's cells per patch of CLIP are at least 1")
        self.scale, self.supervision = scale, self.source.supervision

    def describe(self) -> dict[str, object]:
        """What travels with a result."""
        return {**self.source.describe(), "scope": self.scope, "scale": self.scale}

    def forward(self, windows: Tensor, mean: Tensor, std: Tensor) -> None:
        """Refused: windows alone do not tell what lies around them.

        Raises:
            ValueError: always.
        """
        raise ValueError("PhotoGuide needs the photo that the windows are cut from; this method encodes windows alone")

    def dense(self, photo: Photo) -> Tensor:
        """Features ``[C, h, w]`` float32 of the photo at its own size, on the source's grid; kept with the photo."""
        if photo.dense is None:
            photo.dense = self.source.dense(photo.require_original())
        return photo.dense

    def cut(self, photo: Photo, layout: WindowLayout, patch_size: int) -> Tensor:
        """The windows' features ``[n, gh, gw, C]`` of unit length."""
        dense, parts = self.dense(photo), []
        axes = [self._axis(axis, layout, patch_size, dense.shape[1 + axis], dense) for axis in (0, 1)]
        for rows, of_rows in axes[0]:
            for columns, of_columns in axes[1]:
                pixels = F.normalize(rows @ dense @ columns.T, dim=0)
                parts.append(F.normalize(of_rows @ pixels @ of_columns.T, dim=0).permute(1, 2, 0))
        return torch.stack(parts)

    def _axis(
        self, axis: int, layout: WindowLayout, patch_size: int, cells: int, like: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """For each start along an axis: from dense cells to the pixels looked at, from these to the window's cells."""
        wanted = self.scale * max(1, layout.padded[axis] // patch_size)
        window = bilinear_matrix(layout.padded[axis], wanted)
        used = window.any(dim=0).nonzero()[:, 0]
        inside = (used - layout.offset[axis]).clamp(0, layout.window[axis] - 1)
        up = bilinear_matrix(cells, layout.image_size[axis])
        of_pixels = window[:, used].to(like)
        return [(up[start + inside].to(like), of_pixels) for start in layout.starts[axis]]

    def region_means(self, photo: Photo, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean features of regions.

        Args:
            photo: the photo.
            regions: ``[h, w]`` integer ids at any size.

        Returns:
            ids ``[R]`` ascending; means ``[R, C]`` float32 of the unit features of their pixels, of unit length.
        """
        dense, (ids, index) = self.dense(photo), regions.unique(return_inverse=True)
        axes = [bilinear_matrix(n, m).to(dense) for n, m in zip(dense.shape[1:], regions.shape, strict=True)]
        share = pixel_lengths(dense, *axes).clamp_min(1e-12).reciprocal()
        cells, step = dense.flatten(1).T, max(1, WEIGHTS // dense[0].numel())
        total = torch.cat(
            [
                _cell_weights(index - start, share, axes, min(step, len(ids) - start)) @ cells
                for start in range(0, len(ids), step)
            ]
        )
        return ids, F.normalize(total / torch.bincount(index.flatten(), minlength=len(ids))[:, None], dim=-1)


def pixel_lengths(dense: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Lengths ``[H, W]`` of the vectors ``rows @ dense @ columns^T``, which are never made.

    A pixel is a sum of at most four cells, so that its squared length is one of their products with each other: ten
    maps on the grid of cells, of which neighbours' products go with products of neighbouring weights.

    Args:
        dense: ``[C, h, w]``.
        rows, columns: bilinear ``[H, h]`` and ``[W, w]``.
    """
    right, below = (dense[:, :, :-1], dense[:, :, 1:]), (dense[:, :-1], dense[:, 1:])
    crossed = dense[:, :-1, :-1] * dense[:, 1:, 1:] + dense[:, :-1, 1:] * dense[:, 1:, :-1]
    own, across, down, aslant = (
        products.sum(0) for products in (dense * dense, right[0] * right[1], below[0] * below[1], crossed)
    )
    (row, row_pair), (column, column_pair) = ((m * m, m[:, :-1] * m[:, 1:]) for m in (rows, columns))
    square = (row @ own + 2 * row_pair @ down) @ column.T + 2 * (row @ across + row_pair @ aslant) @ column_pair.T
    return square.clamp_min(0).sqrt()


def _cell_weights(index: Tensor, share: Tensor, axes: Sequence[Tensor], regions: int) -> Tensor:
    """What the pixels of each region take of every cell: ``[regions, h * w]``.

    Args:
        index: ``[H, W]`` region of every pixel; pixels of another one than 0 .. ``regions - 1`` do not count.
        share: ``[H, W]`` weight of every pixel.
        axes: bilinear ``[H, h]`` and ``[W, w]``.
        regions: how many.
    """
    height, width = (matrix.shape[1] for matrix in axes)
    share = share * ((index >= 0) & (index < regions))
    first_cell = index.clamp(0, regions - 1) * (height * width)
    weights = share.new_zeros(regions * height * width)
    of_rows, of_columns = (_taps(matrix) for matrix in axes)
    for row, by_row in of_rows:
        for column, by_column in of_columns:
            places = first_cell + (row * width)[:, None] + column
            weights.index_add_(0, places.flatten(), (share * by_row[:, None] * by_column).flatten())
    return weights.view(regions, height * width)


def _taps(matrix: Tensor) -> list[tuple[Tensor, Tensor]]:
    """A bilinear matrix ``[H, h]`` as two taps for each row: cells ``[H]`` and weights ``[H]``."""
    first = (matrix != 0).to(torch.uint8).argmax(1)
    second = (first + 1).clamp_max(matrix.shape[1] - 1)
    weight = matrix.gather(1, first[:, None])[:, 0]
    return [(first, weight), (second, 1 - weight)]
