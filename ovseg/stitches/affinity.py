"""Stitches of methods that see the photo as a whole and use how its patches belong together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.encoder import Features, WindowBatch, WindowEncoder
from ovseg.photo import Photo
from ovseg.queries import Queries, unit_patches
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

    def encode(self, batch: WindowBatch, encoder: WindowEncoder) -> Features:
        """``embeddings [B, h, w, D]``, ``affinity [B, N, h, w]``: its rows as maps, ``class_token [B, 1, 1, D]``."""
        tokens = encoder.tokens(batch)
        features = {
            "embeddings": unit_patches(encoder.project(tokens)),
            "affinity": tokens.affinity.unflatten(2, tokens.grid),
        }
        if self.class_token:
            features["class_token"] = unit_patches(encoder.project(FeatureMap(tokens.tokens[:, :1], (1, 1))))
        return features

    def gather(self, features: Features, layout: WindowLayout, photo: Photo, encoder: WindowEncoder) -> Features:
        """The same; the affinity is the photo's, too."""
        _need_one_window(layout, "AffinityStitch")
        photo.affinity = features["affinity"][0]
        return features

    def score(self, features: Features, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """``[B, Q, h, w]``."""
        scores = queries.products(features["embeddings"])
        return scores * queries.products(features["class_token"]) if self.class_token else scores


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

    def encode(self, batch: WindowBatch, encoder: WindowEncoder) -> Features:
        """``embeddings [B, S, h, w, D]`` of all S feature sets, ``affinity [B, N, N]`` the fused map between patches,
        and ``slid [B, S, h, w, D]`` the embeddings that sliding windows give together."""
        embeddings, affinity = self._look(batch.windows, encoder)
        grid = encoder.backbone.tower.grid_of(*batch.windows.shape[-2:])
        features = {"embeddings": embeddings.unflatten(2, grid), "affinity": affinity}
        if self.slide is not None:
            slid = torch.stack([self._slide(window, grid, encoder) for window in batch.windows])
            features["slid"] = slid.unflatten(2, grid)
        return features

    def gather(self, features: Features, layout: WindowLayout, photo: Photo, encoder: WindowEncoder) -> Features:
        _need_one_window(layout, "LayerwiseStitch")
        return features

    def score(self, features: Features, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """``[B, F, h, w]`` for the F foreground queries."""
        text, foreground = self.competitors(queries)

        def probabilities_of(embeddings: Tensor) -> Tensor:
            return (self.logit_scale * embeddings.flatten(2, 3) @ text.T).softmax(-1)

        probabilities = probabilities_of(features["embeddings"])
        if self.slide is not None:
            probabilities = (probabilities + probabilities_of(features["slid"])) / 2
        probabilities = probabilities[..., :foreground]
        last = probabilities[:, -1]
        keep = last >= self.threshold * last.amax(1, keepdim=True)
        probabilities = torch.cat([probabilities[:, :-1], (last * keep)[:, None]], dim=1)
        scores = self._spread(features["affinity"], probabilities[:, -1]) + probabilities.mean(1)
        return scores.transpose(1, 2).unflatten(2, features["embeddings"].shape[2:4])

    def merge(self, scores: Tensor, layout: WindowLayout, photo: Photo) -> ScoreMap:
        return ScoreMap.from_grid(
            scores[0], photo.size
        )  # straight to the photo's size, without the resized one between

    def competitors(self, queries: Queries) -> tuple[Tensor, int]:
        """Text embeddings ``[T, D]`` that compete, foreground queries first, and the number of these."""
        is_background = ~queries.competing()
        foreground = queries.text[~is_background]
        others = [queries.text[is_background]]
        if self.distractors is not None:
            others.append(queries.embed(self.distractors).to(queries.text))
        mean = F.normalize(foreground.mean(0, keepdim=True), dim=-1)
        return torch.cat([foreground, *others, mean]), len(foreground)

    def _look(self, windows: Tensor, encoder: WindowEncoder) -> tuple[Tensor, Tensor]:
        """Unit embeddings ``[B, S, N, D]`` of all feature sets and the fused map between patches ``[B, N, N]``."""
        tokens = encoder.tokens(WindowBatch(windows))
        embeddings = F.normalize(encoder.project(tokens).patches.float(), dim=-1)
        prefix = tokens.num_prefix
        return embeddings.unflatten(0, (len(windows), -1)), tokens.affinity[:, prefix:, prefix:]

    def _slide(self, image: Tensor, grid: tuple[int, int], encoder: WindowEncoder) -> Tensor:
        """Embeddings ``[S, N, D]`` of sliding windows, averaged per patch and spread by their averaged map.

        The method does this to logits; they are linear in the embeddings, which wait for no words.
        """
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
            embeddings, affinity = self._look(windows[start : start + encoder.windows.batch], encoder)
            for place, part, between in zip(places[start:], embeddings, affinity, strict=False):
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

    def encode(self, batch: WindowBatch, encoder: WindowEncoder) -> Features:
        """``embeddings [B, h, w, D]``, not normalised."""
        features = encoder.encode(batch)
        return {"embeddings": features.patches.unflatten(1, features.grid)}

    def score(self, features: Features, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """``[B, Q, h, w]``."""
        return queries.products(features["embeddings"])
