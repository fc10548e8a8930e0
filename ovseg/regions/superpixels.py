"""Which patches of a training photo belong to one superpixel."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from ovseg.arguments import side_in_pixels
from ovseg.registry import REGIONS, TRANSFORMS


@TRANSFORMS.register_module()
class Superpixels(BaseTransform):
    """Adds ``superpixels``: int64 ``[h, w]``, for each patch of ``image`` the region of its middle pixel.

    Args:
        source: config of a registered region source, e.g. ``dict(type="FelzenszwalbRegions", sigma=9.0)``.
        patch: side of a patch in pixels.
    """

    def __init__(self, source: dict, patch: int = 16) -> None:
        self.source, self.patch = REGIONS.build(source), side_in_pixels("patch", patch, 16)

    def transform(self, results: dict) -> dict:
        image = np.array(results["image"], order="C")  # torch wants one that may be written to
        ids = self.source(torch.from_numpy(image).permute(2, 0, 1)).numpy()
        rows, columns = (n // self.patch for n in ids.shape)
        middle = slice(self.patch // 2, None, self.patch)
        results["superpixels"] = ids[middle, middle][:rows, :columns].astype(np.int64)
        return results
