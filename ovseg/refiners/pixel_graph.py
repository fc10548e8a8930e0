"""LPOSS+: scores spread over neighbouring pixels of one colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor

from ovseg.ops import conjugate_gradients
from ovseg.ops.torch_pamr import CPU_QUERIES, weighted_neighbours
from ovseg.registry import REFINERS

XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)
LAB_SCALE = (100.0, 128.0, 128.0)


@dataclass
class PixelGraph:
    """A photo's graph: ``weights`` float32 ``[H, W, K]`` of the neighbours at K ``offsets``, normalised."""

    weights: Tensor
    offsets: list[tuple[int, int]]


@REFINERS.register_module()
class PixelPropagation:
    """Label propagation over pixels (Stojnić et al., CVPR 2025, "LPOSS", section 3.4).

    Pixels are neighbours within a square of side ``2 reach + 1``; their weight is ``exp(-|difference of Lab| / tau)``,
    with Lab divided by 100, 128, 128. With ``S = D^-1/2 W D^-1/2``, scores y become the iterate of ``iterations`` steps
    of conjugate gradients for ``(I - alpha S) f = y``: the steps are part of the method, which does not converge.

    The graph takes ``4 (2 reach + 1)^2`` bytes per pixel, whatever the number of classes; official code: float64, here
    float32 with float64 sums.

    Args:
        tau: of the colours.
        reach: of the neighbours, in pixels.
        alpha: how far scores spread.
        iterations: steps of the solver.
        tolerance: a query whose residual falls below this share of its scores stops earlier.
        mean, std: of the normalisation of the image given to :meth:`prepare`, on the scale 0..1; the default is CLIP's.

    Raises:
        ValueError: for values out of range.
    """

    def __init__(
        self,
        tau: float = 0.01,
        reach: int = 6,
        alpha: float = 0.95,
        iterations: int = 10,
        tolerance: float = 1e-6,
        mean: Sequence[float] = OPENAI_DATASET_MEAN,
        std: Sequence[float] = OPENAI_DATASET_STD,
    ) -> None:
        if tau <= 0 or reach < 1 or not 0 <= alpha < 1 or iterations < 1:
            raise ValueError(
                f"tau {tau}, reach {reach}, alpha {alpha}, iterations {iterations}: tau must be positive, reach and "
                "iterations at least 1, alpha in [0, 1)"
            )
        self.tau, self.reach, self.alpha = float(tau), reach, float(alpha)
        self.iterations, self.tolerance = iterations, float(tolerance)
        self.mean, self.std = tuple(mean), tuple(std)

    def prepare(self, image: Tensor) -> PixelGraph:
        """Normalised image ``[3, H, W]`` to its graph."""
        mean, std = (torch.tensor(v, device=image.device).view(3, 1, 1) for v in (self.mean, self.std))
        return self.graph(image.float() * std + mean)

    def graph(self, rgb: Tensor) -> PixelGraph:
        """RGB ``[3, H, W]`` in 0..1 to its graph."""
        lab = rgb_to_lab(rgb.clamp(0, 1)) / torch.tensor(LAB_SCALE, device=rgb.device).view(3, 1, 1)
        span = range(-self.reach, self.reach + 1)
        offsets = [(dy, dx) for dy in span for dx in span if (dy, dx) != (0, 0)]
        height, width = rgb.shape[1:]
        weights = rgb.new_zeros(height, width, len(offsets), dtype=torch.float32)
        for k, offset in enumerate(offsets):
            here, there = _pair(height, offset[0]), _pair(width, offset[1])
            ours, theirs = lab[:, here[0], there[0]], lab[:, here[1], there[1]]
            weights[here[0], there[0], k] = torch.exp((ours - theirs).norm(dim=0) / -self.tau)
        degree = weights.sum(-1, dtype=torch.float64)
        inverse = torch.where(degree > 0, degree, 1).rsqrt().float()
        for k, offset in enumerate(offsets):
            here, there = _pair(height, offset[0]), _pair(width, offset[1])
            weights[here[0], there[0], k] *= inverse[here[0], there[0]] * inverse[here[1], there[1]]
        return PixelGraph(weights, offsets)

    def apply(self, state: PixelGraph, scores: Tensor) -> Tensor:
        """Scores ``[q, H, W]``, any chunk of the queries, to propagated scores of the same shape and type."""
        step = CPU_QUERIES if scores.device.type == "cpu" else len(scores)
        parts = [self._solve(state, part) for part in scores.float().split(max(1, step))]
        return torch.cat(parts).to(scores.dtype)

    def _solve(self, graph: PixelGraph, scores: Tensor) -> Tensor:
        def multiply(rows: Tensor) -> Tensor:
            spread = weighted_neighbours(graph.weights, rows.view_as(scores), graph.offsets)
            return rows - self.alpha * spread.reshape(len(rows), -1)

        rows = scores.reshape(len(scores), -1)
        return conjugate_gradients(multiply, rows, self.iterations, self.tolerance).view_as(scores)


def _pair(length: int, offset: int) -> tuple[slice, slice]:
    """Places along an axis that have a neighbour ``offset`` away inside of it, and those neighbours."""
    first, last = max(0, -offset), min(length, length - offset)
    last = max(first, last)
    return slice(first, last), slice(first + offset, last + offset)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB ``[3, H, W]`` in 0..1 to CIE Lab (white D65) ``[3, H, W]``: L in 0..100."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ij,jhw->ihw", rgb.new_tensor(XYZ), linear) / rgb.new_tensor(WHITE).view(3, 1, 1)
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp_min(1e-12) ** (1 / 3), 7.787 * xyz + 4 / 29)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])
