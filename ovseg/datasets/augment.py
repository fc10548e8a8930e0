"""Random views for training from photos without labels."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ovseg.arguments import side_in_pixels
from ovseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomView(BaseTransform):
    """A random square of the photo, resized, mirrored half of the time; replaces ``image``.

    Args:
        size: side of the result in pixels.
        scale: smallest and largest side of the square as a share of the photo's shorter side.

    Raises:
        ValueError: for shares outside 0..1.
    """

    def __init__(self, size: int, scale: tuple[float, float] = (0.5, 1.0)) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale is {scale}; give two shares of the shorter side, 0 < least <= largest <= 1")
        self.size, self.scale = side_in_pixels("size", size, 448), tuple(scale)

    def transform(self, results: dict) -> dict:
        image = results["image"]
        height, width = image.shape[:2]
        side = max(1, round(min(height, width) * np.random.uniform(*self.scale)))
        y, x = np.random.randint(height - side + 1), np.random.randint(width - side + 1)
        view = image[y : y + side, x : x + side]
        method = cv2.INTER_AREA if side > self.size else cv2.INTER_LINEAR
        view = cv2.resize(view, (self.size, self.size), interpolation=method)
        results["image"] = view[:, ::-1] if np.random.rand() < 0.5 else view
        return results
