"""SimFeatUp's upsampler (SegEarth-OV): features of patches to features of pixels, led by the photo's colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = 4
TILE = 8
"""Side of the tiles that kernels are made and used in, in pixels."""
BLOCK_VALUES = 1 << 22
"""Bound on the numbers that tiles hold at once, besides their result."""


class JointBilateralLayer(nn.Module):
    """Kernels of a joint bilateral filter with learned colour distances (Li et al., CVPR 2025, section 3.3).

    Args:
        key_dim: width of the colour keys.
        radius: of the kernels; they have ``(2 radius + 1)^2`` taps.
    """

    def __init__(self, key_dim: int = 32, radius: int = 5) -> None:
        super().__init__()
        self.radius, taps = radius, (2 * radius + 1) ** 2
        self.range_temp, self.sigma_spatial = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(1.0))
        self.range_proj = _pointwise(3, key_dim, key_dim)
        self.fixup_proj = _pointwise(3 + taps, taps, taps)

    def forward(self, image: Tensor) -> Tensor:
        """Weights of the taps of every pixel.

        Args:
            image: ``[3, h, w]``, the normalised window at a stage's size.

        Returns:
            float32 ``[h, w, taps]``; rows sum to about 1 (a learned part is added without normalisation).
        """
        keys = self.range_proj(image[None])[0].permute(1, 2, 0)  # [h, w, key_dim]
        size, side = tuple(image.shape[1:]), 2 * self.radius + 1
        steps = torch.linspace(-1, 1, side, device=image.device)
        spatial = torch.exp(-(steps[:, None] ** 2 + steps**2).flatten() / (2 * self.sigma_spatial**2))
        heat = self.range_temp.exp().clamp(1e-4, 1e4)
        tiles = Tiles(size, self.radius)
        taps = tiles.taps(image.device)
        around, own, colours = tiles.around(keys), tiles.own(keys), tiles.own(image.permute(1, 2, 0))
        out = tiles.empty(image, side**2)
        for rows in tiles.rows(keys.shape[2]):
            logits = heat * own[rows].flatten(2, 3).flatten(0, 1) @ around[rows].flatten(2, 3).flatten(0, 1).mT
            alike = logits.flatten(1)[:, taps].unflatten(1, (TILE**2, -1))
            near = alike.softmax(-1) * spatial
            near = near / near.sum(-1, keepdim=True).clamp_min(1e-7)
            colour = colours[rows].flatten(2, 3).flatten(0, 1)
            learned = _per_pixel(self.fixup_proj, torch.cat([near, colour], -1))
            tiles.write(near + 0.1 * learned, out, rows)
        return out[: size[0], : size[1]]


class JointBilateralUpsampler(nn.Module):
    """``jbu_one``: four stages that double the size, with one shared layer; a 1 x 1 convolution at the end.

    Between its kernels and its last convolution everything is linear in the features and acts on every channel alike.
    So the convolution can come first (:meth:`mix`), and any channels, or products of features with words, can be
    upsampled on their own (:meth:`upsample`): nothing of size [channels, H, W] is needed.

    Args:
        width: of the features.
        key_dim, radius: of :class:`JointBilateralLayer`.
    """

    def __init__(self, width: int = 512, key_dim: int = 32, radius: int = 5) -> None:
        super().__init__()
        self.up = JointBilateralLayer(key_dim, radius)
        self.fixup_proj = nn.Sequential(nn.Dropout(0.2), nn.Conv2d(width, width, 1))

    def kernels(self, image: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """Weights of the taps of every stage, ``[h, w, taps]`` each, for a window ``[3, H, W]`` on a patch grid."""
        sizes = [(grid[0] << stage, grid[1] << stage) for stage in range(1, STAGES + 1)]
        return [self.up(F.adaptive_avg_pool2d(image[None], size)[0]) for size in sizes]

    def mix(self, features: Tensor) -> Tensor:
        """The linear part of the last convolution with its residual on features ``[..., width]``, before upsampling."""
        return features + 0.1 * features @ self.fixup_proj[1].weight[:, :, 0, 0].T

    @property
    def offset(self) -> Tensor:
        """``[width]`` what is added to mixed and upsampled features: the last convolution's bias."""
        return 0.1 * self.fixup_proj[1].bias

    def upsample(self, maps: Tensor, kernels: Sequence[Tensor]) -> Tensor:
        """Maps ``[c, h, w]`` on the patch grid to ``[c, 16 h, 16 w]`` with :meth:`kernels`."""
        for weights in kernels:
            maps = self._doubled(maps, weights)
        return maps

    def lengths(self, mixed: Tensor, kernels: Sequence[Tensor]) -> Tensor:
        """Euclidean length ``[H, W]`` of the final features of every pixel, which are held for some tiles only.

        Pixels are sums of the grid's cells, so that no more numbers than cells matter: with ``cells = R^T Q^T`` the
        length of ``w cells + o`` is that of ``w R^T + Q^T o`` and of the part of o that Q does not reach.

        Args:
            mixed: ``[h, w, width]`` of :meth:`mix`.
            kernels: of the window.
        """
        grid, offset, beyond = mixed.shape[:2], self.offset, 0.0
        if grid[0] * grid[1] < mixed.shape[2]:
            q, r = torch.linalg.qr(mixed.flatten(0, 1).T)
            mixed, inside = r.T.unflatten(0, grid), q.T @ offset
            beyond = (offset - q @ inside).square().sum()
            offset = inside
        *early, last = kernels
        maps = self.upsample(mixed.permute(2, 0, 1), early)

        def squared(pixels: Tensor) -> Tensor:
            return pixels.add_(offset).square_().sum(-1, keepdim=True)

        return (self._doubled(maps, last, squared, 1)[0] + beyond).sqrt()

    def _doubled(
        self, maps: Tensor, weights: Tensor, finish: Callable[[Tensor], Tensor] | None = None, channels: int = 0
    ) -> Tensor:
        """One stage: maps ``[c, h, w]`` with the weights of the taps ``[2 h, 2 w, taps]`` to ``[c, 2 h, 2 w]``.

        Args:
            maps: of any channels.
            weights: of :meth:`kernels`.
            finish: pixels ``[..., c]`` to what is kept of them, ``[..., channels]``; ``None``: all.
            channels: how many these are.
        """
        size, radius = tuple(weights.shape[:2]), self.up.radius
        source = F.interpolate(maps[None], size=size, mode="bicubic", align_corners=False)[0].permute(1, 2, 0)
        tiles = Tiles(size, radius)
        taps, around, own = tiles.taps(maps.device), tiles.around(source), tiles.own(weights)
        out, dense = tiles.empty(source, channels or len(maps)), None
        for rows in tiles.rows(len(maps)):
            some = own[rows].flatten(2).flatten(0, 1)
            if dense is None or len(dense) != len(some):
                dense = some.new_zeros(len(some), TILE**2 * tiles.side**2)
            dense[:, taps] = some  # always the same places
            pixels = dense.unflatten(1, (TILE**2, -1)) @ around[rows].flatten(2, 3).flatten(0, 1)
            tiles.write(pixels if finish is None else finish(pixels), out, rows)
        return out[: size[0], : size[1]].permute(2, 0, 1)

    def strips(self, features: Tensor, image: Tensor, channels: int = 64) -> Iterator[Tensor]:
        """The final features ``[c, H, W]``, some channels at a time, of patch features ``[h, w, width]``."""
        kernels = self.kernels(image, tuple(features.shape[:2]))
        for some, offset in zip(self.mix(features).split(channels, dim=2), self.offset.split(channels), strict=True):
            yield self.upsample(some.permute(2, 0, 1), kernels) + offset[:, None, None]


def _pointwise(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.GELU(), nn.Dropout(0.1), nn.Conv2d(hidden, outputs, 1))


def _per_pixel(layers: nn.Sequential, x: Tensor) -> Tensor:
    """What :func:`_pointwise` gives for ``[..., inputs]``, without its dropout: products of matrices."""
    first, last = layers[0], layers[3]
    hidden = F.gelu(F.linear(x, first.weight[:, :, 0, 0], first.bias))
    return F.linear(hidden, last.weight[:, :, 0, 0], last.bias)


class Tiles:
    """An image in tiles of ``TILE x TILE`` pixels, whose kernels look at almost the same pixels: sums over a kernel's
    taps are products of small matrices over a tile and ``radius`` more pixels on each side, several times as fast as
    gathering the taps of every pixel.

    Args:
        size: ``(h, w)`` of the image.
        radius: of the kernels.

    Attributes:
        count: tiles per column and per row; the last ones may reach beyond the image.
        side: pixels of a tile's side and its surroundings.
    """

    def __init__(self, size: tuple[int, int], radius: int) -> None:
        self.size, self.radius, self.side = size, radius, TILE + 2 * radius
        self.count = (-(-size[0] // TILE), -(-size[1] // TILE))

    def rows(self, channels: int) -> Iterator[slice]:
        """Rows of tiles that are worked on at once, for maps of so many channels."""
        step = max(1, BLOCK_VALUES // (self.count[1] * (self.side**2 * (TILE**2 + channels))))
        for start in range(0, self.count[0], step):
            yield slice(start, min(start + step, self.count[0]))

    def around(self, image: Tensor) -> Tensor:
        """View ``[rows, columns, side, side, c]`` of ``image [h, w, c]``: what the kernels of each tile see.

        Borders reflect, without repeating the border itself; a map narrower than the radius is reflected again and
        again.
        """
        y, x = (
            reflected(torch.arange(-self.radius, n * TILE + self.radius, device=image.device), length)
            for n, length in zip(self.count, self.size, strict=True)
        )
        whole = image[y][:, x]
        return whole.unfold(0, self.side, TILE).unfold(1, self.side, TILE).permute(0, 1, 3, 4, 2)

    def own(self, image: Tensor) -> Tensor:
        """View ``[rows, columns, TILE, TILE, c]`` of the tiles' own pixels; 0 beyond the image."""
        whole = image
        if self.size != self.padded:
            whole = image.new_zeros(*self.padded, image.shape[2])
            whole[: self.size[0], : self.size[1]] = image
        return whole.unfold(0, TILE, TILE).unfold(1, TILE, TILE).permute(0, 1, 3, 4, 2)

    @property
    def padded(self) -> tuple[int, int]:
        """``(h, w)`` of whole tiles."""
        return self.count[0] * TILE, self.count[1] * TILE

    def empty(self, like: Tensor, channels: int) -> Tensor:
        """``[h, w, channels]`` of whole tiles, to be written."""
        return like.new_empty(*self.padded, channels)

    def write(self, pixels: Tensor, image: Tensor, rows: slice) -> None:
        """``pixels [n, TILE * TILE, c]`` of rows of tiles into ``image`` of :meth:`empty`."""
        part = pixels.unflatten(1, (TILE, TILE)).unflatten(0, (-1, self.count[1]))
        image[rows.start * TILE : rows.stop * TILE] = part.transpose(1, 2).flatten(2, 3).flatten(0, 1)

    def taps(self, device: torch.device) -> Tensor:
        """int64 ``[TILE * TILE * taps]``: where the taps of a tile's pixels lie in the flattened matrix of all pairs
        ``[TILE * TILE, side * side]``."""
        return _taps(self.radius, device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # kept for callers inside and outside of it
def _taps(radius: int, device: torch.device) -> Tensor:
    side, taps = TILE + 2 * radius, torch.arange(2 * radius + 1, device=device)
    pixels = torch.arange(TILE, device=device)
    rows, columns = pixels[:, None, None, None] + taps[:, None], pixels[:, None, None] + taps
    seen = (rows * side + columns).flatten(2).flatten(0, 1)
    return (seen + torch.arange(TILE**2, device=device)[:, None] * side**2).flatten()


def reflected(at: Tensor, length: int) -> Tensor:
    """Indices of any size to those of an axis of ``length``, reflected at its ends."""
    if length == 1:
        return torch.zeros_like(at)
    at = at % (2 * length - 2)
    return torch.minimum(at, 2 * length - 2 - at)


def upsampler_keys(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of a training checkpoint (``upsampler.up.range_temp``) or of a plain one to those of the module."""
    prefix = next((key[: -len("up.range_temp")] for key in weights if key.endswith("up.range_temp")), "")
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
