"""One photo on its way through the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor


@dataclass
class Photo:
    """One image on its way through the pipeline.

    Attributes:
        image: ``[3, h, w]`` normalised image the windows are cut from.
        size: ``(H, W)`` of the labels wanted.
        original: uint8 RGB ``[3, H, W]`` where the data pipeline provides it.
        regions: ``[H, W]`` integer region ids at the size of the labels, where the method uses regions.
        encoder: encodes ``original`` as a whole (SAM), where the method has a photo encoder.
        affinity: ``[N, h, w]`` how much each of the N patches has in common with the others, where the stitch keeps it
            for the label refiners (CLIPtrase).
        dense: ``[C, h, w]`` features of the whole photo, once a guide of photo scope has made them (CorrCLIPv2).
    """

    image: Tensor
    size: tuple[int, int]
    original: Tensor | None = None
    regions: Tensor | None = None
    encoder: Callable[[Tensor], Any] | None = None
    affinity: Tensor | None = None
    dense: Tensor | None = None

    @cached_property
    def encoding(self) -> Any:
        """What the photo encoder gives for ``original``; computed once.

        Raises:
            ValueError: if there is no photo encoder, or the original photo is missing.
        """
        if self.encoder is None:
            raise ValueError("a component asks for the photo's encoding: set `photo_encoder` in the model config (SAM)")
        return self.encoder(self.require_original())

    def require_original(self) -> Tensor:
        """``original``.

        Raises:
            ValueError: saying how to provide it, where it is missing.
        """
        if self.original is None:
            raise ValueError(
                "this method looks at the photo at full size: let the data pipeline end with "
                "PackInputs(keys=('original',)), or give `original` to prepare()"
            )
        return self.original
