"""Trident's stitch: features of overlapping windows are spliced, then aggregated over the whole photo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.encoder import Features, WindowBatch, WindowEncoder
from ovseg.ops import correlation_attention
from ovseg.photo import Photo
from ovseg.queries import Queries, unit_patches
from ovseg.registry import STITCHES
from ovseg.scores import ScoreMap
from ovseg.structures import FeatureMap
from ovseg.windows import WindowLayout


@STITCHES.register_module()
class FeatureSplice:
    """Splice, then aggregate (Shi et al., ICCV 2025, "Harnessing Vision Foundation Models", sections 3.2 and 3.3).

    Window features (after the last block, before projection) are averaged where windows overlap, on the lattice of
    patches of the whole image; the photo encoder's correlation then mixes them over the whole photo on its own grid;
    projection and classification come last, once. Needs windows whose starts are multiples of the patch
    (``windows=dict(fit_multiple=16, ...)`` and a stride that is one).

    Args:
        aggregate: let ``photo_encoder`` (SAM) aggregate over the photo; ``False``: splice only.
        cos_factor: patches whose values have a cosine below this times its mean over the row do not take part
            (1.2; Cityscapes 3.0; VOC20 0: no more than "positive").
        keep_negative: let rows whose mean is negative keep their negative limit (the official ``refine_neg_cos=True``);
            ``False``: the limit is 0.6 there.
        cap: largest limit.
    """

    def __init__(
        self, aggregate: bool = True, cos_factor: float = 1.2, keep_negative: bool = True, cap: float = 0.9
    ) -> None:
        self.aggregate, self.cos_factor, self.cap = aggregate, float(cos_factor), float(cap)
        self.keep_negative = keep_negative

    def encode(self, batch: WindowBatch, encoder: WindowEncoder) -> Features:
        """``tokens``: unprojected features of windows ``[B, d, gh, gw]``."""
        return {"tokens": encoder.tokens(batch).as_image()}

    def gather(self, features: Features, layout: WindowLayout, photo: Photo, encoder: WindowEncoder) -> Features:
        """``embeddings [1, h, w, D]`` of the whole photo, spliced, aggregated and projected."""
        whole = splice(features["tokens"], layout, encoder.patch_size)
        whole = self.aggregated(whole, photo) if self.aggregate else whole
        tokens = FeatureMap(whole.flatten(1).T[None], tuple(whole.shape[1:]))
        return {"embeddings": unit_patches(encoder.project(tokens))}

    def aggregated(self, whole: Tensor, photo: Photo) -> Tensor:
        """Spliced features ``[d, h, w]`` mixed over the whole photo."""
        return photo.encoding.aggregate(whole, self.cos_factor, self.cap, self.keep_negative)

    def score(self, features: Features, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """``[1, Q, h, w]``."""
        return queries.scores(queries.products(features["embeddings"]))

    def merge(self, scores: Tensor, layout: WindowLayout, photo: Photo) -> ScoreMap:
        return ScoreMap.from_grid(scores[0], photo.size)


@STITCHES.register_module()
class SelfAggregatedSplice(FeatureSplice):
    """Splice, then let the features themselves aggregate over the photo (RADSeg, self-correlating global aggregation).

    ``softmax(scale (S - mean(S)))`` where that is not negative, 0 elsewhere, with S the cosines of the spliced
    features, times these. Needs windows on one lattice of patches as :class:`FeatureSplice` does.

    Args:
        scale: factor of the cosines.
        aggregate: ``False``: splice only.

    Raises:
        ValueError: if ``scale`` is not positive.
    """

    def __init__(self, scale: float = 10.0, aggregate: bool = True) -> None:
        super().__init__(aggregate)
        if scale <= 0:
            raise ValueError(f"scale is {scale}; it must be positive")
        self.scale = float(scale)

    def aggregated(self, whole: Tensor, photo: Photo) -> Tensor:
        features = whole.flatten(1).T[None].contiguous()
        mixed = correlation_attention(F.normalize(features, dim=-1), features, scale=self.scale, beta=1.0)
        return mixed[0].T.unflatten(1, whole.shape[1:])


def splice(parts: Tensor, layout: WindowLayout, patch_size: int) -> Tensor:
    """Average of overlapping windows' features on the patches of the whole image.

    Args:
        parts: ``[n, d, gh, gw]``, windows in the order of :meth:`ovseg.windows.SlidingWindows.cut`; a grid finer or
            coarser than the patches is resized (bilinear).
        layout: their layout, without padding.
        patch_size: in pixels.

    Returns:
        ``[d, h / patch, w / patch]``.

    Raises:
        ValueError: where windows do not start on patch boundaries or are padded.
    """
    sizes = (*layout.starts[0], *layout.starts[1], *layout.window, *layout.image_size)
    if layout.window != layout.padded or any(n % patch_size for n in sizes):
        raise ValueError(
            f"windows of {layout.window} px starting at {layout.starts} do not lie on patches of {patch_size} px; set "
            f"windows=dict(fit_multiple={patch_size}, ...) with crop and stride multiples of {patch_size}"
        )
    gh, gw = (n // patch_size for n in layout.window)
    if parts.shape[2:] != (gh, gw):
        parts = F.interpolate(parts, size=(gh, gw), mode="bilinear", align_corners=False)
    height, width = (n // patch_size for n in layout.image_size)
    total = parts.new_zeros(parts.shape[1], height, width)
    visits = parts.new_zeros(height, width)
    places = [(y // patch_size, x // patch_size) for y in layout.starts[0] for x in layout.starts[1]]
    for part, (y, x) in zip(parts, places, strict=True):
        total[:, y : y + gh, x : x + gw] += part
        visits[y : y + gh, x : x + gw] += 1
    return torch.div(total, visits)
