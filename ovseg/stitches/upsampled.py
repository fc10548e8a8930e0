"""SegEarth-OV's stitch with its upsampler: scores of every pixel, never all classes at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ovseg.encoder import Features, WindowBatch, WindowEncoder
from ovseg.float32 import all_finite
from ovseg.photo import Photo
from ovseg.queries import Queries
from ovseg.registry import STITCHES
from ovseg.scores import ScoreMap
from ovseg.stitches.class_token import ClassTokenStitch
from ovseg.weights import load_heads
from ovseg.weights.simfeatup import JointBilateralUpsampler
from ovseg.windows import WindowLayout


@dataclass
class UpsampledScores:
    """Scores of n windows before they are upsampled.

    Attributes:
        upsampler: does it.
        windows: ``[n, 3, H, W]`` normalised.
        products: ``[n, Q, gh, gw]`` mixed features times words.
        offsets: ``[Q]`` the upsampler's bias times words.
        added: ``[n, Q]`` summand of each window: the class token's.
        lengths: ``[n, H, W]`` of the final features.
    """

    upsampler: JointBilateralUpsampler
    windows: Tensor
    products: Tensor
    offsets: Tensor
    added: Tensor
    lengths: Tensor

    def __getitem__(self, index: int) -> Tensor:
        """All scores ``[Q, H, W]`` of a window."""
        return self.of(index, slice(None))

    def of(self, index: int, queries: slice) -> Tensor:
        """Scores ``[q, H, W]`` of a window: a cosine, plus the window's summand."""
        products = self.products[index]
        kernels = self.upsampler.kernels(self.windows[index], tuple(products.shape[1:]))
        dots = self.upsampler.upsample(products[queries], kernels) + self.offsets[queries, None, None]
        return dots / self.lengths[index] + self.added[index, queries, None, None]


class UpsampledScoreMap:
    """Score map of windows whose scores are upsampled for a few queries at a time.

    Args:
        scores: of the windows.
        layout: of the windows.
        size: ``(H, W)`` of the output in pixels.
        max_values: bound on the numbers in a block.
    """

    def __init__(
        self, scores: UpsampledScores, layout: WindowLayout, size: tuple[int, int], max_values: int = 2**24
    ) -> None:
        self.scores, self.layout, self.size, self.max_values = scores, layout, tuple(size), max_values
        self.num_queries = scores.products.shape[1]

    @property
    def finite(self) -> bool:
        """Whether nothing that the scores are made of is NaN or infinite."""
        return all(all_finite(part) for part in (self.scores.products, self.scores.added, self.scores.lengths))

    def block(self, queries: slice = slice(None), rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """``[q, h, w]`` scores; whole windows are upsampled, so rows and columns save little."""
        windows = torch.stack([self.scores.of(index, queries) for index in range(len(self.layout))])
        return ScoreMap.from_windows(windows, self.layout, self.size).block(rows=rows, columns=columns)

    def blocks(self) -> Iterator[tuple[slice, slice, slice, Tensor]]:
        """All scores, some queries of the whole photo at a time."""
        height, width = self.layout.padded
        step = max(1, self.max_values // (len(self.layout) * height * width))
        for start in range(0, self.num_queries, step):
            queries = slice(start, min(start + step, self.num_queries))
            yield queries, slice(0, self.size[0]), slice(0, self.size[1]), self.block(queries)


@STITCHES.register_module()
class UpsampledStitch(ClassTokenStitch):
    """SegEarth-OV (Li et al., CVPR 2025): features upsampled to pixels by SimFeatUp, then compared with the words.

    The upsampler is linear in the features before their length is taken, so words are compared on the patch grid and
    their scores upsampled; the length of every pixel's features is found once per window, some tiles at a time.
    Equal to upsampling all features first, up to rounding, and as many times cheaper as there are fewer words than
    channels.

    Args:
        upsampler: name of the weights in the catalogue.
        checkpoint: file to read instead of the catalogue's.
        weight: see :class:`ClassTokenStitch`.
    """

    weights_argument = "upsampler"

    def __init__(
        self, upsampler: str = "segearth/jbu_one", checkpoint: str | Path | None = None, weight: float = -0.3
    ) -> None:
        super().__init__(weight)
        self.upsampler = load_heads(upsampler, checkpoint=checkpoint).model.eval().requires_grad_(False)
        self.upsampler_name = upsampler

    def encode(self, batch: WindowBatch, encoder: WindowEncoder) -> Features:
        """``mixed [B, gh, gw, D]`` features as the upsampler takes them, ``lengths [B, H, W]`` of its results,
        ``class_token [B, 1, 1, D]``, ``windows [B, 3, H, W]``."""
        tokens = encoder.tokens(batch)
        projected = encoder.project(tokens)
        self.upsampler.to(projected.patches.device)  # a stitch is no part of the model that `.to(device)` moves
        mixed = self.upsampler.mix(projected.patches.float()).unflatten(1, projected.grid)
        lengths = [
            self.upsampler.lengths(m, self.upsampler.kernels(window, projected.grid))
            for m, window in zip(mixed, batch.windows, strict=True)
        ]
        return {
            "mixed": mixed,
            "lengths": torch.stack(lengths),
            "class_token": self.class_token(tokens, encoder),
            "windows": batch.windows,
        }

    def score(self, features: Features, encoder: WindowEncoder, queries: Queries) -> UpsampledScores:
        """Scores that are upsampled when they are asked for."""
        class_scores = queries.products(features["class_token"])[:, :, 0, 0]
        return UpsampledScores(
            self.upsampler,
            features["windows"],
            queries.products(features["mixed"]),
            queries.text @ self.upsampler.offset,
            self.weight * class_scores,
            features["lengths"],
        )

    def merge(self, scores: UpsampledScores, layout: WindowLayout, photo: Photo) -> UpsampledScoreMap:
        return UpsampledScoreMap(scores, layout, photo.size)
