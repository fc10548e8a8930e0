"""One label per region: CorrCLIP's map correction."""

from __future__ import annotations

from torch import Tensor

from ovseg.ops import region_vote
from ovseg.photo import Photo
from ovseg.registry import REFINERS


@REFINERS.register_module()
class RegionVote:
    """All pixels of a region take its most frequent label; ties go to the smaller label (CorrCLIP, section 3.5).

    A label refiner: it runs after the head, hence after the threshold. Region ids are those of the photo, not the
    merged ones of the attention.

    Args:
        skip_smallest: leave the region with the smallest id alone: the pixels that no mask covers.
    """

    def __init__(self, skip_smallest: bool = True) -> None:
        self.skip_smallest = skip_smallest

    def __call__(self, labels: Tensor, photo: Photo, evidence: object = None) -> Tensor:
        """Better labels ``[H, W]`` from labels ``[H, W]`` int32; ``evidence`` is not looked at.

        Raises:
            ValueError: if the photo has no regions.
        """
        if photo.regions is None:
            raise ValueError("RegionVote needs regions: set `regions` in the model config, or give ids with the photo")
        skip = [int(photo.regions.min())] if self.skip_smallest else []
        return region_vote(labels, photo.regions, int(labels.max()) + 1, skip)
