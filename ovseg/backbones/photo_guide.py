"""A guide that sees the photo as a whole, once, and hands every window its part."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.ops import bilinear_matrix
from ovseg.photo import Photo
from ovseg.registry import GUIDES
from ovseg.windows import WindowLayout

STRIP_VALUES = 1 << 24
"""Bound on the features at pixel size that are held at once."""


@GUIDES.register_module()
class PhotoGuide(nn.Module):
    """Dense features of the whole photo for windows and regions (CorrCLIPv2).

    The photo at its own size goes through ``source`` once. Its features are thought of at every pixel of the resized
    photo (bilinear, then of unit length); this map is never built: a window's features, ``scale`` times finer than
    CLIP's patches, are read by plain bilinear interpolation (no antialiasing) from the pixels around each cell, and
    means of regions are summed strip by strip. Outside of the photo (padding) the last pixel is repeated.

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
        ids, index = regions.unique(return_inverse=True)
        total, count = 0, torch.bincount(index.flatten(), minlength=len(ids))
        for rows, pixels in self.strips(photo, tuple(regions.shape)):
            summed = pixels.new_zeros(len(ids), len(pixels))
            total = total + summed.index_add_(0, index[rows].flatten(), pixels.flatten(1).T)
        return ids, F.normalize(total / count[:, None], dim=-1)

    def strips(self, photo: Photo, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
        """Unit features at every pixel of ``size``, some rows at a time: the rows, and ``[C, rows, w]``."""
        dense = self.dense(photo)
        up, across = (bilinear_matrix(n, m).to(dense) for n, m in zip(dense.shape[1:], size, strict=True))
        wide = dense @ across.T
        step = max(1, STRIP_VALUES // (len(dense) * size[1]))
        for start in range(0, size[0], step):
            rows = slice(start, min(start + step, size[0]))
            yield rows, F.normalize(up[rows] @ wide, dim=0)
