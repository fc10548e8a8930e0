"""Pixel-adaptive mask refinement as a refiner."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ovseg.ops import pamr_affinity, pamr_apply
from ovseg.registry import REFINERS


@REFINERS.register_module()
class PAMR:
    """PAMR (Araslanov & Roth 2020, section 4.3), the refiner of NACLIP and ITACLIP.

    Args:
        iterations: how often scores are averaged over alike neighbours.
        dilations: distances in pixels of the 8 neighbours each.
    """

    def __init__(self, iterations: int = 10, dilations: Sequence[int] = (8, 16)):
        if iterations < 0:
            raise ValueError(f"iterations: must not be negative, got {iterations}")
        self.iterations = iterations
        self.dilations = tuple(dilations)

    def prepare(self, image: Tensor) -> Tensor:
        """Guide float [3, H, W] at output size -> state (affinity float32 [K, H, W]) for `apply`."""
        return pamr_affinity(image[None], self.dilations)[0]

    def apply(self, state: Tensor, scores: Tensor) -> Tensor:
        """Scores [q, H, W], any chunk of the queries -> refined scores, same shape and type."""
        return pamr_apply(state[None], scores[None], self.iterations, self.dilations)[0]
