"""Morphological closing of a label map."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from ovseg.registry import REFINERS


@REFINERS.register_module()
class LabelClosing:
    """Morphological closing of the label *numbers*, ITACLIP's last step: a label refiner.

    A grey-value closing (dilation, then erosion) treats class indices as brightness: it fills thin gaps with the
    neighbouring class of the higher index. It is a quirk of ITACLIP's code, not a method to copy elsewhere.

    Args:
        size: side of the square structuring element in pixels, odd.

    Raises:
        ValueError: for a size that is even or below 1.
    """

    def __init__(self, size: int = 3) -> None:
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size is {size}; the structuring element needs an odd side of at least 1 pixel")
        self.size = size

    def __call__(self, labels: Tensor, photo: object = None, evidence: object = None) -> Tensor:
        """Labels ``[H, W]`` int32 -> closed labels, same shape and type; up to 65,536 classes.

        Args:
            photo, evidence: not looked at; label refiners are called with them.
        """
        kernel = np.ones((self.size, self.size), np.uint8)
        closed = cv2.morphologyEx(labels.cpu().numpy().astype(np.uint16), cv2.MORPH_CLOSE, kernel)
        return torch.from_numpy(closed.astype(np.int32)).to(labels.device)
