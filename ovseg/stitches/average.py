"""The stitch of most methods: window scores are averaged."""

from __future__ import annotations

from torch import Tensor

from ovseg.encoder import Features, WindowBatch, WindowEncoder
from ovseg.photo import Photo
from ovseg.queries import Queries
from ovseg.registry import STITCHES
from ovseg.scores import ScoreMap
from ovseg.windows import WindowLayout


@STITCHES.register_module()
class ScoreStitch:
    """Window scores are upsampled, averaged where windows overlap and resized to the photo: what most methods do.

    A stitch is asked four times. Before any word is known: what a batch of windows gives (:meth:`encode`) and what
    the windows of a photo give together (:meth:`gather`). This is all that costs an encoder, and what is kept of a
    photo that is asked for several vocabularies. Then, for given words: scores (:meth:`score`) and how they become the
    photo's score map (:meth:`merge`).
    """

    def encode(self, batch: WindowBatch, encoder: WindowEncoder) -> Features:
        """What a batch of B windows gives, tensors ``[B, ...]`` by name, for any words; here patch embeddings."""
        return encoder.embed(batch)

    def gather(self, features: Features, layout: WindowLayout, photo: Photo, encoder: WindowEncoder) -> Features:
        """What is kept of a photo, for any words, from the features of its windows (order:
        :meth:`ovseg.windows.SlidingWindows.cut`); here the same."""
        return features

    def score(self, features: Features, encoder: WindowEncoder, queries: Queries) -> Tensor:
        """Scores ``[n, Q, gh, gw]`` of what was gathered (or encoded)."""
        return encoder.compare(features, queries)

    def merge(self, scores: Tensor, layout: WindowLayout, photo: Photo) -> ScoreMap:
        """The score map of a photo from these."""
        return ScoreMap.from_windows(scores, layout, photo.size)
