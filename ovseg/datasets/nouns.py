"""Pairs of a masked crop and a noun, out of label maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from ovseg.arguments import side_in_pixels
from ovseg.datasets.class_names import load_class_names
from ovseg.registry import TRANSFORMS

FILL = (124, 116, 103)
"""Colour of the pixels outside of a noun's mask: CLIP's mean in whole numbers."""


@TRANSFORMS.register_module()
class NounCrop(BaseTransform):
    """One class of a label map as OVSeg's CLIP is trained on it (Liang et al., CVPR 2023, section 3.2); a last step.

    Everything else of the photo takes the colour :data:`FILL`, the box of the class is cut out, and a random part of
    nearly all of it is resized to a square with Pillow's bicubic filter.

    Gives ``inputs`` (uint8 RGB ``[3, size, size]``) and ``captions`` (the class's name), for
    :class:`ovseg.segmentors.MaskAdaptationTrainer`.

    Args:
        classes: names of the labels, see :func:`ovseg.datasets.load_class_names`.
        size: side of the square in pixels: that of CLIP's training images.
        scale: smallest and largest share of the box's area that is shown.
        min_area: classes with a smaller share of the photo are left out, unless all are that small.

    Raises:
        ValueError: from :meth:`transform`: for a photo without a labelled pixel.
    """

    def __init__(
        self,
        classes: str | Sequence[str],
        size: int = 224,
        scale: tuple[float, float] = (0.9, 1.0),
        min_area: float = 0.005,
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale is {scale}; give two shares of the area, 0 < least <= largest <= 1")
        self.names, self.size = load_class_names(classes), side_in_pixels("size", size, 224)
        self.min_area = float(min_area)
        self.resize = RandomResizedCrop(self.size, tuple(scale), interpolation=InterpolationMode.BICUBIC)

    def transform(self, results: dict) -> dict:
        labels = results["labels"]
        present, counts = np.unique(labels[labels != results["ignore_index"]], return_counts=True)
        if not len(present):
            raise ValueError(f"{results.get('img_path', 'photo')} has no labelled pixel: there is no noun to show")
        large = counts >= self.min_area * labels.size
        label = int(np.random.choice(present[large] if large.any() else present))
        crop = masked_crop(results["image"], labels == label)
        shown = np.array(self.resize(Image.fromarray(crop)))
        return dict(inputs=torch.from_numpy(shown).permute(2, 0, 1).contiguous(), captions=self.names[label])


def masked_crop(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The box of a mask, bool ``[H, W]``, out of a uint8 RGB photo ``[H, W, 3]``; :data:`FILL` outside of the mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return np.where(mask[box][..., None], image[box], np.uint8(FILL))
