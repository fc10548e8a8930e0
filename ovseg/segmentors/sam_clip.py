"""SAM + CLIP: regions first, then a word for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovseg.photo import Photo
from ovseg.regions.base import masks_of_ids
from ovseg.registry import MODELS, REGION_ENCODERS
from ovseg.segmentors.open_vocab import OpenVocabSegmentor


@MODELS.register_module()
class SamClipSegmentor(OpenVocabSegmentor):
    """Classifies class-agnostic masks (SLIP and its kin): masks -> region embeddings -> words.

    Where masks overlap, the pixel goes to the mask with the highest class probability. Pixels without a mask get the
    dense prediction of ``attention`` (as :class:`OpenVocabSegmentor` would label them), or the background.

    Args:
        region_encoder: config of a registered region encoder: ``RegionCrop``, ``MaskedCrop``, ``BlurReverse``,
            ``RedCircle``, ``MaskPooling``, ``FovealAttention``, ``AlphaChannel``.
        uncovered: ``'dense'`` or ``'background'``.
        min_area: masks below this many pixels are dropped.
        **kwargs: see :class:`OpenVocabSegmentor`; ``regions`` gives the masks.

    Raises:
        ValueError: for an unknown ``uncovered``, or if neither ``regions`` nor a region map is given.
    """

    def __init__(self, *, region_encoder: dict, uncovered: str = "dense", min_area: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if uncovered not in ("dense", "background"):
            raise ValueError(f"uncovered is {uncovered!r}; choose 'dense' or 'background'")
        self.region_encoder = REGION_ENCODERS.build(region_encoder)
        self.uncovered, self.min_area = uncovered, int(min_area)

    def find_regions(self, photo: Photo) -> None:
        """None: masks may overlap, so that one id per pixel would not do; see :meth:`masks_of`."""

    def masks_of(self, photo: Photo) -> np.ndarray:
        """Masks of a photo, bool ``[M, H, W]``; in a given map of region ids the smallest id means "no region".

        Raises:
            ValueError: if there is neither a region source nor a region map.
        """
        if photo.regions is not None:
            ids = photo.regions.cpu().numpy()
            masks = masks_of_ids(ids - ids.min())
        elif self.regions is not None:
            masks = self.regions.masks(np.ascontiguousarray(photo.require_original().permute(1, 2, 0).cpu().numpy()))
        else:
            raise ValueError("SamClipSegmentor needs masks: set `regions` in the model config or give region ids")
        masks = [m for m in masks if m.sum() >= self.min_area]
        return np.stack(masks) if masks else np.zeros((0, *photo.size), bool)

    def classify_regions(self, photo: Photo, masks: np.ndarray) -> Tensor:
        """Class probabilities ``[M, C]`` of masks: softmax over the queries, maximum over a class's queries."""
        embeddings = self.region_encoder(photo, masks, self.encoder)
        probability = (embeddings @ self.text.T * self.head.logit_scale).softmax(dim=1)
        merged = probability.new_zeros(len(masks), len(self.vocabulary))
        return merged.scatter_reduce_(1, self.query_to_class[None].expand(len(masks), -1), probability, "amax")

    @torch.no_grad()
    def predict(self, photos: Sequence[Photo]) -> list[Tensor]:
        self.require_vocabulary()
        self.follow_weights()
        return [self._predict(photo) for photo in photos]

    def _predict(self, photo: Photo) -> Tensor:
        masks = self.masks_of(photo)
        background = self.head.background or 0
        if self.uncovered == "dense" and not masks.any(0).all():
            labels = super().predict([photo])[0].cpu()
        else:
            labels = torch.full(photo.size, background, dtype=torch.int32)
        if len(masks):
            best, classes = self.classify_regions(photo, masks).cpu().max(dim=1)
            if self.head.threshold:
                classes[best < self.head.threshold] = background
            for index in best.argsort(stable=True):  # the surest mask is painted last
                labels[torch.from_numpy(masks[int(index)])] = int(classes[index])
        return labels.to(self.text.device)

    def describe(self) -> dict[str, object]:
        own = {"region_encoder": repr(self.region_encoder), "uncovered": self.uncovered, "min_area": self.min_area}
        return {**super().describe(), **own}
