"""SimFeatUp's upsampler (SegEarth-OV): features of patches to features of pixels, led by the photo's colours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = 4
ROW_VALUES = 1 << 22
"""Bound on the numbers that a kernel or an upsampled strip holds at once, besides its result."""


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
        around = neighbours(*image.shape[1:], self.radius, image.device)
        steps = torch.linspace(-1, 1, 2 * self.radius + 1, device=image.device)
        distance = (steps[:, None] ** 2 + steps**2).flatten()
        spatial = torch.exp(-distance / (2 * self.sigma_spatial**2))
        heat = self.range_temp.exp().clamp(1e-4, 1e4)
        flat, colours = keys.flatten(0, 1), image.flatten(1).T
        rows = max(1, ROW_VALUES // (around.shape[1] * flat.shape[1]))
        parts = []
        for own, taps, colour in zip(flat.split(rows), around.split(rows), colours.split(rows), strict=True):
            near = (heat * (flat[taps] @ own[:, :, None])[..., 0]).softmax(-1) * spatial
            near = near / near.sum(-1, keepdim=True).clamp_min(1e-7)
            learned = self.fixup_proj(torch.cat([near, colour], 1).T[None, :, None])[0, :, 0].T
            parts.append(near + 0.1 * learned)
        return torch.cat(parts).unflatten(0, tuple(image.shape[1:]))


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
            size = tuple(weights.shape[:2])
            source = F.interpolate(maps[None], size=size, mode="bicubic", align_corners=False)[0]
            around = neighbours(*size, self.up.radius, maps.device)
            maps = F.embedding_bag(
                around, source.flatten(1).T.contiguous(), mode="sum", per_sample_weights=weights.flatten(0, 1)
            )
            maps = maps.T.unflatten(1, size)
        return maps

    def lengths(self, mixed: Tensor, kernels: Sequence[Tensor], channels: int = 64) -> Tensor:
        """Euclidean length ``[H, W]`` of the final features of every pixel.

        Args:
            mixed: ``[h, w, width]`` of :meth:`mix`.
            kernels: of the window.
            channels: upsampled at once.
        """
        total: Tensor | float = 0.0
        for some, offset in zip(mixed.split(channels, dim=2), self.offset.split(channels), strict=True):
            final = self.upsample(some.permute(2, 0, 1), kernels) + offset[:, None, None]
            total = total + final.square().sum(0)
        return total.sqrt()

    def strips(self, features: Tensor, image: Tensor, channels: int = 64) -> Iterator[Tensor]:
        """The final features ``[c, H, W]``, some channels at a time, of patch features ``[h, w, width]``."""
        kernels = self.kernels(image, tuple(features.shape[:2]))
        for some, offset in zip(self.mix(features).split(channels, dim=2), self.offset.split(channels), strict=True):
            yield self.upsample(some.permute(2, 0, 1), kernels) + offset[:, None, None]


def _pointwise(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.GELU(), nn.Dropout(0.1), nn.Conv2d(hidden, outputs, 1))


def neighbours(height: int, width: int, radius: int, device: torch.device | None = None) -> Tensor:
    """int64 ``[h * w, taps]``: the pixels of a square around each pixel, reflected at the borders (without repeating
    the border itself; a map narrower than the radius is reflected again and again)."""

    def along(length: int) -> Tensor:
        at = torch.arange(length, device=device)[:, None] + torch.arange(-radius, radius + 1, device=device)
        period = max(1, 2 * (length - 1))
        at = at % period
        return torch.minimum(at, period - at) if length > 1 else torch.zeros_like(at)

    rows, columns = along(height), along(width)
    cells = rows[:, None, :, None] * width + columns[None, :, None, :]
    return cells.flatten(2).flatten(0, 1)


def upsampler_keys(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of a training checkpoint (``upsampler.up.range_temp``) or of a plain one to those of the module."""
    prefix = next((key[: -len("up.range_temp")] for key in weights if key.endswith("up.range_temp")), "")
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
