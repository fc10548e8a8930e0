"""Fully connected conditional random field, through the pydensecrf library."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ovseg.heads.evidence import Evidence
from ovseg.photo import Photo
from ovseg.registry import REFINERS


@REFINERS.register_module()
class DenseCRF:
    """Fully connected CRF with Gaussian edge potentials (Krähenbühl & Koltun, NIPS 2011), a label refiner.

    The library that computes it is optional: ``pip install pydensecrf2`` (a compiler is needed). Only classes that
    occur in the labels take part, so memory does not grow with the vocabulary. The defaults are those of DeepLab
    (Chen et al., arXiv:1606.00915, section 4.3).

    Args:
        iterations: steps of mean-field inference.
        smooth: ``(deviation in pixels, weight)`` of the smoothness term.
        appearance: ``(deviation in pixels, deviation in colour 0..255, weight)`` of the appearance term.

    Raises:
        ImportError: naming the package, where it is missing.
    """

    def __init__(
        self,
        iterations: int = 10,
        smooth: tuple[float, float] = (3.0, 3.0),
        appearance: tuple[float, float, float] = (67.0, 3.0, 4.0),
    ) -> None:
        try:
            from pydensecrf.densecrf import DenseCRF2D
        except ImportError as error:
            raise ImportError(
                "DenseCRF needs the package pydensecrf: pip install pydensecrf2 (or use the refiner PAMR)"
            ) from error
        self._field = DenseCRF2D
        self.iterations, self.smooth, self.appearance = iterations, tuple(smooth), tuple(appearance)

    def __call__(self, labels: Tensor, photo: Photo, evidence: Evidence) -> Tensor:
        """Better labels ``[H, W]`` from labels ``[H, W]`` int32.

        Raises:
            ValueError: if the photo's original is missing.
        """
        image = photo.require_original()
        classes = labels.unique()
        if len(classes) == 1:
            return labels
        height, width = labels.shape
        probabilities = evidence.of_classes(classes.tolist()).clamp(1e-6, 1.0)
        energy = -probabilities.log().flatten(1).cpu().numpy().astype(np.float32)
        field = self._field(width, height, len(classes))
        field.setUnaryEnergy(np.ascontiguousarray(energy))
        deviation, weight = self.smooth
        field.addPairwiseGaussian(sxy=deviation, compat=weight)
        pixels, colour, weight = self.appearance
        rgb = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
        field.addPairwiseBilateral(sxy=pixels, srgb=colour, rgbim=rgb, compat=weight)
        marginals = np.asarray(field.inference(self.iterations)).reshape(len(classes), height, width)
        return classes[torch.from_numpy(marginals.argmax(0)).to(classes.device)]
