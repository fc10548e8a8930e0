"""The stitch of most methods: window scores are averaged."""

from __future__ import annotations

from torch import Tensor

from ovseg.encoder import WindowBatch, WindowEncoder
from ovseg.photo import Photo
from ovseg.queries import Queries
from ovseg.registry import STITCHES
from ovseg.scores import ScoreMap
from ovseg.windows import WindowLayout


@STITCHES.register_module()
class ScoreStitch:
    """Window scores are upsampled, averaged where windows overlap and resized to the photo: what most methods do.

    A stitch decides what is computed per window (:meth:`compute`) and how a photo's windows become its score map
    (:meth:`merge`).
    """

    def compute(self, batch: WindowBatch, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """What a batch of B windows contributes, ``[B, ..., gh, gw]``; here scores."""
        return encoder.score(batch, queries)

    def merge(
        self, parts: Tensor, layout: WindowLayout, photo: Photo, encoder: WindowEncoder, queries: Queries
    ) -> ScoreMap:
        """The score map of a photo from the parts of its windows (order: :meth:`ovseg.windows.SlidingWindows.cut`)."""
        return ScoreMap.from_windows(parts, layout, photo.size)
