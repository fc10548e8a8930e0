"""dino.txt's stitch: words compete at every pixel of a window, before windows are averaged."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ovseg.photo import Photo
from ovseg.registry import STITCHES
from ovseg.scores import DecodedPart, DecodedScoreMap
from ovseg.stitches.average import ScoreStitch
from ovseg.windows import WindowLayout


@STITCHES.register_module()
class SoftmaxStitch(ScoreStitch):
    """Cosines are brought to the window's pixels (bilinear), put through a softmax over all words, averaged where
    windows overlap and resized to the photo (the authors' notebook for dino.txt).

    What is stitched are probabilities: use a head with ``softmax=False``. They are not built in full either, but the
    softmax between two resizings keeps the fused argmax from pruning: with hundreds of words it costs several times
    what :class:`ScoreStitch` does.

    Args:
        scale: factor of the cosines before the softmax. The notebook's 1 leaves probabilities almost flat: averaging
            then is nearly that of cosines.

    Raises:
        ValueError: if ``scale`` is not positive.
    """

    def __init__(self, scale: float = 1.0) -> None:
        if scale <= 0:
            raise ValueError(f"scale is {scale}; it must be positive")
        self.scale = float(scale)

    def merge(self, scores: Tensor, layout: WindowLayout, photo: Photo) -> DecodedScoreMap:
        """The score map of a photo from ``[n, Q, gh, gw]`` cosines."""
        axes = [layout.axis_parts(axis, scores.shape[2 + axis], photo.size[axis]) for axis in (0, 1)]
        (up, above), (across, left) = ((first.to(scores), [m.to(scores) for m in placed]) for first, placed in axes)
        places = [(rows, columns) for rows in above for columns in left]
        parts = [
            DecodedPart(maps * self.scale, (up, across), place) for maps, place in zip(scores, places, strict=True)
        ]
        return DecodedScoreMap(parts, partial(torch.softmax, dim=0), joint=True)
