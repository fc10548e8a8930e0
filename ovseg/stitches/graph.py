"""LPOSS: scores spread over one graph of all patches of all windows of a photo."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.encoder import Features, WindowBatch, WindowEncoder
from ovseg.ops import conjugate_gradients
from ovseg.photo import Photo
from ovseg.queries import Queries, unit_patches
from ovseg.registry import REFINERS, STITCHES
from ovseg.scores import RefinedScoreMap, ResizedScoreMap, ScoreMap
from ovseg.stitches.average import ScoreStitch
from ovseg.structures import FeatureMap
from ovseg.windows import WindowLayout

ROW_ELEMENTS = 1 << 22
"""Similarities held at once while neighbours are looked for."""


@STITCHES.register_module()
class GraphStitch(ScoreStitch):
    """Label propagation over patches (Stojnić et al., CVPR 2025, "LPOSS", sections 3.2 and 3.3).

    Nodes are all patches of all windows of the photo; a place that two windows see is two nodes. A node's neighbours
    are the ``neighbours`` nodes most alike in the guide (itself included, exact search), with weight
    ``max(cosine, 0)^gamma exp(-sigma distance)``, distance in pixels of the resized photo. With K these weights,
    ``W = K + K^T`` without its diagonal and ``S = D^-1/2 W D^-1/2``, the cosines y of CLIP become the iterate of
    ``iterations`` steps of conjugate gradients for ``(I - alpha S) f = y`` in float64. The steps are part of the
    method, which does not converge in them.

    Propagated scores are averaged over windows at the resized photo's size, where ``pixels`` may refine them (LPOSS+)
    and where :class:`ovseg.heads.EarlyMaxHead` takes the maximum over the words of a class, and resized from there.

    The graph is sparse: 16 bytes per edge, at most ``2 neighbours`` edges per patch, found a block of rows at a time.

    Args:
        neighbours: per node. A photo with fewer patches takes all (the official code fails there).
        gamma: sharpness of the similarities.
        sigma: how fast weights fall with distance.
        alpha: how far scores spread.
        iterations, tolerance: of the solver.
        pixels: config of a registered refiner of scores, applied at the resized photo's size.

    Raises:
        ValueError: for values out of range; at call time without a guide.
    """

    def __init__(
        self,
        neighbours: int = 400,
        gamma: float = 3.0,
        sigma: float = 0.01,
        alpha: float = 0.95,
        iterations: int = 10,
        tolerance: float = 1e-6,
        pixels: dict | None = None,
    ) -> None:
        if neighbours < 1 or not 0 <= alpha < 1 or iterations < 1:
            raise ValueError(
                f"neighbours {neighbours}, alpha {alpha}, iterations {iterations}: give at least one neighbour and one "
                "iteration, and alpha in [0, 1)"
            )
        self.neighbours, self.gamma, self.sigma = neighbours, float(gamma), float(sigma)
        self.alpha, self.iterations, self.tolerance = float(alpha), iterations, float(tolerance)
        self.pixels = REFINERS.build(pixels) if pixels else None

    def encode(self, batch: WindowBatch, encoder: WindowEncoder) -> Features:
        """``embeddings [B, gh, gw, D]`` of CLIP and ``guide [B, gh, gw, C]``, both of unit length, on the guide's
        grid."""
        if encoder.guide is None:
            raise ValueError("GraphStitch needs a guide: add guide=dict(type='DinoBackbone', ...) to the model config")
        guide = encoder.guide_of(batch)
        clip = replace(encoder, guide=None).encode(replace(batch, guide=None))
        if clip.grid != guide.grid:
            unit = F.normalize(clip.patches.float(), dim=-1).transpose(1, 2).unflatten(2, clip.grid)
            resized = F.interpolate(unit, size=guide.grid, mode="bilinear", align_corners=False)
            clip = FeatureMap(resized.flatten(2).transpose(1, 2), guide.grid)
        return {"embeddings": unit_patches(clip), "guide": unit_patches(guide)}

    def gather(self, features: Features, layout: WindowLayout, photo: Photo, encoder: WindowEncoder) -> Features:
        """``embeddings`` as they were and the photo's graph: ``edges`` int64 ``[2, E]``, ``weights`` float64
        ``[E]``."""
        grid = tuple(features["guide"].shape[1:3])
        edges, weights = self.graph(features["guide"].flatten(0, 2), centres(layout, grid).to(features["guide"]))
        return {"embeddings": features["embeddings"], "edges": edges, "weights": weights}

    def graph(self, features: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """The normalised graph S of nodes.

        Args:
            features: ``[n, C]`` unit vectors.
            places: ``[n, 2]`` in pixels.

        Returns:
            edges ``[2, E]`` int64, sorted, both directions of every pair; weights ``[E]`` float64.
        """
        count, device = len(features), features.device
        near = min(self.neighbours, count)
        found, strength = [], []
        for rows in torch.arange(count, device=device).split(max(1, ROW_ELEMENTS // count)):
            best = (features[rows] @ features.T).topk(near, dim=1)
            distance = (places[rows][:, None] - places[best.indices]).norm(dim=-1)
            weight = best.values.clamp_min(0).double() ** self.gamma * torch.exp(-self.sigma * distance.double())
            found.append(torch.stack([rows[:, None].expand_as(best.indices), best.indices]).flatten(1))
            strength.append(weight.flatten())
        edges, weights = torch.cat(found, 1), torch.cat(strength)
        apart = edges[0] != edges[1]
        (start, end), weights = edges[:, apart], weights[apart]
        pairs, place = torch.cat([start * count + end, end * count + start]).unique(return_inverse=True)
        edges = torch.stack([pairs // count, pairs % count])
        weights = weights.new_zeros(len(pairs)).index_add_(0, place, torch.cat([weights, weights]))
        degree = torch.zeros(count, dtype=torch.float64, device=device).index_add_(0, edges[0], weights)
        inverse = torch.where(degree > 0, degree, 1).rsqrt()
        return edges, weights * inverse[edges[0]] * inverse[edges[1]]

    def score(self, features: Features, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """Propagated scores ``[n, Q, gh, gw]``."""
        embeddings = features["embeddings"]
        n, gh, gw, _ = embeddings.shape
        scores = queries.scores(queries.products(embeddings)).transpose(0, 1)  # [Q, n, gh, gw]
        spread = self.propagate(features["edges"], features["weights"], scores.flatten(1))
        return spread.view(-1, n, gh, gw).transpose(0, 1).contiguous()

    def propagate(self, edges: Tensor, weights: Tensor, scores: Tensor) -> Tensor:
        """Scores ``[Q, nodes]`` spread over the graph; type of the scores."""
        rows, columns = edges
        neighbours = torch.bincount(rows, minlength=scores.shape[1])
        first = neighbours.cumsum(0) - neighbours

        def multiply(x: Tensor) -> Tensor:
            spread = F.embedding_bag(columns, x.T.contiguous(), first, mode="sum", per_sample_weights=weights)
            return x - self.alpha * spread.T

        rhs = scores.double()
        return conjugate_gradients(multiply, rhs, self.iterations, self.tolerance).to(scores.dtype)

    def merge(self, scores: Tensor, layout: WindowLayout, photo: Photo) -> ResizedScoreMap:
        """Averaged at the resized photo's size, refined there, resized to the photo."""
        base: ScoreMap | RefinedScoreMap = ScoreMap.from_windows(scores, layout, layout.image_size)
        if self.pixels is not None:
            state = self.pixels.prepare(photo.image)
            base = RefinedScoreMap(base, lambda maps: self.pixels.apply(state, maps))
        return ResizedScoreMap(base, photo.size)


def centres(layout: WindowLayout, grid: tuple[int, int]) -> Tensor:
    """Centres of all cells of all windows, ``[n * gh * gw, 2]`` float32 rows and columns in pixels of the photo that
    the windows were cut from."""
    axes = []
    for axis, cells in enumerate(grid):
        side = layout.padded[axis] / cells
        inside = (torch.arange(cells) + 0.5) * side - layout.offset[axis]
        axes.append(torch.tensor(layout.starts[axis])[:, None] + inside)
    rows, columns = axes  # [ny, gh], [nx, gw]
    ny, nx = layout.shape
    rows = rows[:, None, :, None].expand(ny, nx, *grid)
    columns = columns[None, :, None, :].expand(ny, nx, *grid)
    return torch.stack([rows, columns], dim=-1).reshape(-1, 2)
