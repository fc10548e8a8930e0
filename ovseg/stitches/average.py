"""The stitch of most methods: window scores are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ovseg.registry import STITCHES
from ovseg.scores import ScoreMap
from ovseg.windows import WindowLayout

if TYPE_CHECKING:
    from ovseg.photo import Photo
    from ovseg.segmentors.open_vocab import OpenVocabSegmentor


@STITCHES.register_module()
class ScoreStitch:
    """Window scores are upsampled, averaged where windows overlap and resized to the photo: what most methods do.

    A stitch decides what is computed per window (:meth:`compute`) and how a photo's windows become its score map
    (:meth:`merge`).
    """

    def compute(
        self, model: OpenVocabSegmentor, windows: Tensor, groups: Tensor | None, regions: Tensor | None
    ) -> Tensor:
        """What a batch of windows ``[B, 3, H, W]`` contributes, ``[B, ..., gh, gw]``; here scores."""
        return model.score_windows(windows, groups, regions)

    def merge(self, model: OpenVocabSegmentor, parts: Tensor, layout: WindowLayout, photo: Photo) -> ScoreMap:
        """The score map of a photo from the parts of its windows (order: :meth:`ovseg.windows.SlidingWindows.cut`)."""
        return ScoreMap.from_windows(parts, layout, photo.size)

    def __repr__(self) -> str:
        return "ScoreStitch()"
