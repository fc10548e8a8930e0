"""ResCLIP's second pass: a first prediction of each window goes back into CLIP's last block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ovseg import ops
from ovseg.attention.feedback import feedback_matrix
from ovseg.encoder import Features, WindowBatch, WindowEncoder
from ovseg.heads import MaxQueryHead
from ovseg.queries import Queries, unit_patches
from ovseg.registry import STITCHES
from ovseg.scores import RefinedScoreMap, ScoreMap
from ovseg.stitches.average import ScoreStitch
from ovseg.structures import AttentionContext


@STITCHES.register_module()
class FeedbackStitch(ScoreStitch):
    """Semantic feedback refinement (Yang et al., CVPR 2025, "ResCLIP", section 3.3).

    Each window is labelled by the first pass: cosines, upsampled and refined by PAMR, softmax over the *queries*; where
    the best probability is below ``threshold`` the label is query 0, whatever word that is (a quirk of the official
    code). A patch takes the most frequent label of its pixels. These labels steer the second pass, whose scores count.
    Needs :class:`ovseg.attention.ResidualAttention`.

    Args:
        threshold: probability of the first pass below which a pixel is query 0.
        logit_scale: factor of the first pass's cosines before the softmax.
        iterations, dilations: of PAMR on the first pass's cosines.

    Raises:
        ValueError: for values out of range; at call time with an attention that has no second pass.
    """

    def __init__(
        self,
        threshold: float = 0.25,
        logit_scale: float = 40.0,
        iterations: int = 10,
        dilations: Sequence[int] = (8, 16),
    ) -> None:
        self.head = MaxQueryHead(logit_scale=logit_scale, threshold=threshold, background=0)
        self.threshold, self.logit_scale = float(threshold), float(logit_scale)
        self.iterations, self.dilations = iterations, tuple(dilations)

    def encode(self, batch: WindowBatch, encoder: WindowEncoder) -> Features:
        """``embeddings [B, h, w, D]`` of the first pass, what the attention carries, ``windows [B, 3, H, W]``."""
        tokens = encoder.tokens(batch)
        if tokens.carried is None:
            raise ValueError(
                "FeedbackStitch needs an attention with a second pass: attention=dict(type='ResidualAttention', ...)"
            )
        return {"embeddings": unit_patches(encoder.project(tokens)), **tokens.carried, "windows": batch.windows}

    def score(self, features: Features, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """``[n, Q, gh, gw]`` cosines of the second pass."""
        attention, tower = encoder.attention, encoder.backbone.tower
        grid = tuple(features["embeddings"].shape[1:3])
        scores = []
        for index, window in enumerate(features["windows"]):
            embeddings, x, middle = (features[name][index : index + 1] for name in ("embeddings", "x", "middle"))
            labels = self.patch_labels(queries.products(embeddings)[0], window, encoder.patch_size)
            context = AttentionContext(x=x, grid=grid, tower=tower)
            with encoder.backbone.settled.last_block():
                tokens = attention.again(context, middle, feedback_matrix(labels))
            scores.append(queries.scores(queries.products(unit_patches(encoder.project(tokens))))[0])
        return torch.stack(scores)

    def first_pass(self, cosines: Tensor, window: Tensor) -> RefinedScoreMap:
        """Cosines ``[Q, gh, gw]`` on the pixels of the window ``[3, H, W]``, refined a few queries at a time."""
        affinity = ops.pamr_affinity(window[None], self.dilations)

        def refine(scores: Tensor) -> Tensor:
            return ops.pamr_apply(affinity, scores[None], self.iterations, self.dilations)[0]

        return RefinedScoreMap(ScoreMap.from_grid(cosines, tuple(window.shape[1:])), refine)

    def patch_labels(self, cosines: Tensor, window: Tensor, patch: int) -> Tensor:
        """``[gh, gw]`` int32: the query that most pixels of a patch have in the first pass; ties: the smallest."""
        count, (height, width) = len(cosines), cosines.shape[1:]
        labels = self.head(self.first_pass(cosines, window), torch.arange(count, device=cosines.device), count)
        cells = torch.arange(height * width, device=labels.device).view(height, width)
        cells = cells.repeat_interleave(patch, 0).repeat_interleave(patch, 1)
        inside = labels[: height * patch, : width * patch].contiguous()
        return ops.region_vote(inside, cells, count)[::patch, ::patch]
