"""Stitches of methods that see the photo as a whole and use how its patches belong together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.encoder import WindowBatch, WindowEncoder
from ovseg.photo import Photo
from ovseg.queries import Queries
from ovseg.registry import STITCHES
from ovseg.scores import ScoreMap
from ovseg.stitches.average import ScoreStitch
from ovseg.structures import FeatureMap
from ovseg.text import Vocabulary
from ovseg.windows import SlidingWindows, WindowLayout


def _need_one_window(layout: WindowLayout, name: str) -> None:
    if len(layout) != 1:
        raise ValueError(f"{name} looks at the photo as a whole: set windows=dict(crop=None) in the model config")


@STITCHES.register_module()
class AffinityStitch(ScoreStitch):
    """Scores of the whole photo, and its patch affinities for the label refiners (CLIPtrase).

    Args:
        class_token: multiply every query's score by the class token's score of that query, which quietens words for
            what is not in the photo (CLIPtrase on VOC20).
    """

    def __init__(self, class_token: bool = False) -> None:
        self.class_token = class_token

    def compute(self, batch: WindowBatch, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """``[B, Q + N, h, w]``: the scores, then the rows of the affinity as maps."""
        tokens = encoder.tokens(batch)
        scores = queries.cosines(encoder.project(tokens))
        if self.class_token:
            token = FeatureMap(tokens.tokens[:, :1], (1, 1))
            scores = scores * queries.cosines(encoder.project(token))
        return torch.cat([scores, tokens.affinity.unflatten(2, tokens.grid)], dim=1)

    def merge(
        self, parts: Tensor, layout: WindowLayout, photo: Photo, encoder: WindowEncoder, queries: Queries
    ) -> ScoreMap:
        _need_one_window(layout, "AffinityStitch")
        photo.affinity = parts[0, len(queries) :]
        return ScoreMap.from_windows(parts[:, : len(queries)].contiguous(), layout, photo.size)


@STITCHES.register_module()
class LayerwiseStitch(ScoreStitch):
    """CLIPer's scores: softmax per layer, the last layer spread by the fused attention map (Sun et al., ICCV 2025).

    With ``p_s`` the probabilities of feature set s and A the fused map:
    ``seg = A^T p_last + mean_s p_s`` after values of ``p_last`` below ``threshold`` times the class's maximum are set
    to zero (this zeroing reaches the mean too, as in the official code). Only foreground queries are kept. They
    compete in the softmax with the background's words, the distractors and the normalised mean of all foreground
    queries.

    Args:
        threshold: share of a class's maximum below which the last layer's probabilities become zero.
        logit_scale: factor of the cosines before the softmax.
        slide: side of the sliding windows in pixels, whose probabilities are averaged half and half with the whole
            photo's; ``None``: whole photo only. Photo, window and stride must be multiples of the patch.
        stride: of the sliding windows.
        distractors: further words that compete in the softmax, for vocabularies without a background of words.
        from_right: the official code multiplies the map from the right (``A^T p``); ``False``: ``A p``, the usual way.
    """

    def __init__(
        self,
        threshold: float = 0.1,
        logit_scale: float = 100.0,
        slide: int | None = None,
        stride: int = 112,
        distractors: Sequence[str] = (),
        from_right: bool = True,
    ) -> None:
        self.threshold, self.logit_scale, self.from_right = float(threshold), float(logit_scale), from_right
        self.slide = SlidingWindows(crop=slide, stride=min(stride, slide)) if slide else None
        self.distractors = Vocabulary.of(distractors) if distractors else None

    def compute(self, batch: WindowBatch, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """``[B, F, h, w]`` for the F foreground queries."""
        text, foreground = self.competitors(queries)
        logits, affinity = self._logits(batch.windows, encoder, text)
        grid = encoder.backbone.tower.grid_of(*batch.windows.shape[-2:])
        probabilities = logits.softmax(-1)
        if self.slide is not None:
            slid = torch.stack([self._slide(window, grid, encoder, text) for window in batch.windows])
            probabilities = (probabilities + slid.softmax(-1)) / 2
        probabilities = probabilities[..., :foreground]
        last = probabilities[:, -1]
        keep = last >= self.threshold * last.amax(1, keepdim=True)
        probabilities = torch.cat([probabilities[:, :-1], (last * keep)[:, None]], dim=1)
        scores = self._spread(affinity, probabilities[:, -1]) + probabilities.mean(1)
        return scores.transpose(1, 2).unflatten(2, grid)

    def merge(
        self, parts: Tensor, layout: WindowLayout, photo: Photo, encoder: WindowEncoder, queries: Queries
    ) -> ScoreMap:
        _need_one_window(layout, "LayerwiseStitch")
        return ScoreMap.from_grid(parts[0], photo.size)  # straight to the photo's size, without the resized one between

    def competitors(self, queries: Queries) -> tuple[Tensor, int]:
        """Text embeddings ``[T, D]`` that compete, foreground queries first, and the number of these."""
        is_background = queries.query_to_class == (-1 if queries.cut_to is None else queries.cut_to)
        foreground = queries.text[~is_background]
        others = [queries.text[is_background]]
        if self.distractors is not None:
            others.append(queries.embed(self.distractors).to(queries.text))
        mean = F.normalize(foreground.mean(0, keepdim=True), dim=-1)
        return torch.cat([foreground, *others, mean]), len(foreground)

    def _logits(self, windows: Tensor, encoder: WindowEncoder, text: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled cosines ``[B, S, N, T]`` of all feature sets and the fused map between patches ``[B, N, N]``."""
        tokens = encoder.tokens(WindowBatch(windows))
        features = F.normalize(encoder.backbone.project(tokens).patches, dim=-1).unflatten(0, (len(windows), -1))
        prefix = tokens.num_prefix
        return self.logit_scale * features @ text.T, tokens.affinity[:, prefix:, prefix:]

    def _slide(self, image: Tensor, grid: tuple[int, int], encoder: WindowEncoder, text: Tensor) -> Tensor:
        """Logits ``[S, N, T]`` of sliding windows, averaged per patch and spread by their averaged map."""
        patch = encoder.patch_size
        layout = self.slide.layout(*image.shape[1:], patch)
        if any(n % patch for n in (*layout.window, *layout.starts[0], *layout.starts[1])):
            raise ValueError(
                f"sliding windows of {layout.window} px on a photo of {tuple(image.shape[1:])} px do not lie on "
                f"patches of {patch} px; resize photos to multiples of it (ResizePIL(multiple_of={patch})), stride too"
            )
        windows = self.slide.cut(image, layout)
        cells = torch.arange(grid[0] * grid[1], device=image.device).view(grid)
        rows, columns = (n // patch for n in layout.window)
        places = [
            cells[y // patch : y // patch + rows, x // patch : x // patch + columns].flatten()
            for y in layout.starts[0]
            for x in layout.starts[1]
        ]
        total, visits = 0, image.new_zeros(cells.numel())
        pairs = image.new_zeros(2, cells.numel(), cells.numel())
        for start in range(0, len(windows), encoder.windows.batch):
            logits, affinity = self._logits(windows[start : start + encoder.windows.batch], encoder, text)
            for place, part, between in zip(places[start:], logits, affinity, strict=False):
                if isinstance(total, int):
                    total = part.new_zeros(part.shape[0], cells.numel(), part.shape[2])
                total[:, place] += part
                visits[place] += 1
                pairs[0, place[:, None], place] += between
                pairs[1, place[:, None], place] += 1
        mean = pairs[0] / pairs[1].clamp(min=1)
        mean = mean / mean.sum(-1, keepdim=True)
        return self._spread(mean, total / visits[:, None])

    def _spread(self, affinity: Tensor, values: Tensor) -> Tensor:
        """``[.., N, N]`` map times ``[.., N, T]`` values, from the side the options say."""
        return (affinity.transpose(-1, -2) if self.from_right else affinity) @ values


@STITCHES.register_module()
class ContributionStitch(ScoreStitch):
    """Scores of features whose length means something: dot products with the text instead of cosines.

    The parts a photo's embedding is the sum of (CLIP's text-based decomposition) must not be normalised one by one.
    """

    def compute(self, batch: WindowBatch, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """``[B, Q, h, w]``."""
        features = encoder.encode(batch)
        return (queries.text @ features.patches.transpose(1, 2)).unflatten(2, features.grid)
