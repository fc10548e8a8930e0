"""Views: several variants of a window whose scores are combined."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur, rgb_to_grayscale

from ovseg.queries import unit_patches
from ovseg.registry import VIEWS
from ovseg.structures import FeatureMap


@VIEWS.register_module()
class ImageEngineering:
    """ITACLIP's image engineering (Aydın et al., CVPR workshops 2025).

    Each window is seen five times: as it is, in grey, blurred, and flipped both ways. The normalised features of the
    first three are averaged; because the average is not normalised again, that equals the average of their cosines. The
    flipped views' scores are flipped back (which commutes with the bilinear upsampling) and averaged.

    Grey and blur are made from the *normalised* window, as in the official code.

    Args:
        weight: share of the unflipped views (``img_eng_coefficient``: 0.7 on VOC21 and Cityscapes, else 0.75).
        kernel_size: of the Gaussian blur, in pixels, odd.
        sigma: of the Gaussian blur, in pixels.

    Raises:
        ValueError: for values out of range.
    """

    variants = 5
    """How often each window is encoded."""

    def __init__(self, weight: float = 0.75, kernel_size: int = 11, sigma: float = 5.0) -> None:
        if not 0 <= weight <= 1:
            raise ValueError(f"weight is {weight}; the share of the unflipped views lies between 0 and 1")
        if kernel_size < 1 or kernel_size % 2 == 0 or sigma <= 0:
            raise ValueError(f"blur of size {kernel_size} and sigma {sigma}: give an odd size and a positive sigma")
        self.weight, self.kernel_size, self.sigma = float(weight), kernel_size, float(sigma)

    def __call__(self, windows: Tensor, encode: Callable[[Tensor], FeatureMap]) -> Tensor:
        """Combined embeddings ``[B, gh, gw, D]`` of windows; their products with the text are the combined scores.

        Scores are linear in the normalised features, so the features are what is averaged, before any word is known.

        Args:
            windows: ``[B, 3, H, W]`` normalised.
            encode: windows to patch embeddings.
        """

        def unit(view: Tensor) -> Tensor:
            return unit_patches(encode(view))

        plain = [
            windows,
            rgb_to_grayscale(windows, num_output_channels=3),
            gaussian_blur(windows, [self.kernel_size] * 2, [self.sigma] * 2),
        ]
        unflipped = torch.stack([unit(view) for view in plain]).mean(0)
        flipped = torch.stack([unit(windows.flip(axis)).flip(axis - 1) for axis in (-2, -1)]).mean(0)
        return self.weight * unflipped + (1 - self.weight) * flipped
