"""SAM + CLIP: regions first, then a word for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovseg.float32 import all_finite, exact_convolutions
from ovseg.out_of_memory import told_when_out_of_memory
from ovseg.photo import Photo
from ovseg.regions.base import masks_of_ids
from ovseg.registry import MODELS, REGION_ENCODERS
from ovseg.segmentors.open_vocab import OpenVocabSegmentor
from ovseg.segmentors.records import Decision, EncodedPhoto, Wording


@MODELS.register_module()
class SamClipSegmentor(OpenVocabSegmentor):
    """Classifies class-agnostic masks (SLIP and its kin): masks -> region embeddings -> words.

    Where masks overlap, the pixel goes to the mask with the highest class probability. Pixels without a mask get the
    dense prediction of ``attention`` (as :class:`OpenVocabSegmentor` would label them), or the background.

    Args:
        region_encoder: config of a registered region encoder: ``RegionCrop``, ``MaskedCrop``, ``BlurReverse``,
            ``RedCircle``, ``MaskPooling``, ``FovealAttention``, ``AlphaChannel``, ``MaskPromptedCrop``.
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

    def classify_regions(self, embeddings: Tensor, wording: Wording) -> Tensor:
        """Class probabilities ``[M, C]`` of masks: softmax over the queries, maximum over a class's queries.

        Args:
            embeddings: ``[M, D]`` unit vectors of the masks.
        """
        queries = wording.queries
        probability = (embeddings @ queries.text.T * wording.head.logit_scale).softmax(dim=1)
        merged = probability.new_zeros(len(embeddings), queries.num_classes)
        index = queries.query_to_class[None].expand(len(embeddings), -1)
        return merged.scatter_reduce_(1, index, probability, "amax")

    @exact_convolutions()
    @torch.no_grad()
    def encode(self, photos: Sequence[Photo]) -> list[EncodedPhoto]:
        """As :meth:`OpenVocabSegmentor.encode`, photo by photo, with the masks and their embeddings."""
        found = []
        for photo in photos:
            with told_when_out_of_memory([photo.size]):
                found.append(self._encode(photo))
        return found

    def _encode(self, photo: Photo) -> EncodedPhoto:
        masks = self.masks_of(photo)
        dense = self.uncovered == "dense" and not masks.any(0).all()
        encoded = super().encode([photo])[0] if dense else EncodedPhoto(photo, None, {})
        encoded.masks = masks
        if len(masks):
            encoded.features = {**encoded.features, "masks": self.region_encoder(photo, masks, self.encoder)}
        return encoded

    @exact_convolutions()
    @torch.no_grad()
    def decide(self, encoded: EncodedPhoto, wording: Wording, top: int = 0) -> Decision:
        """As :meth:`OpenVocabSegmentor.decide`; the best classes of a pixel are those of the mask that labels it, or
        the dense prediction's, or (``uncovered='background'``) the background first, all with probability 0.

        ``regions`` holds 1 + the number of that mask, 0 where there is none.
        """
        photo, masks, device = encoded.photo, encoded.masks, wording.queries.text.device
        background = wording.head.background or 0
        count = min(top, wording.queries.num_classes)
        classes = values = None
        if encoded.layout is not None:
            dense = super().decide(encoded, wording, top)
            labels = dense.labels.cpu()
            if top:
                classes, values = dense.top_classes.cpu(), dense.top_probabilities.cpu()
        else:
            labels = torch.full(photo.size, background, dtype=torch.int32)
            if top:
                order = [background, *(c for c in range(wording.queries.num_classes) if c != background)][:count]
                classes = torch.tensor(order, dtype=torch.int32)[:, None, None].repeat(1, *photo.size)
                values = torch.zeros(count, *photo.size)
        regions = torch.zeros(photo.size, dtype=torch.int32)
        if len(masks):
            table = self.classify_regions(encoded.features["masks"], wording).cpu()
            if not all_finite(table):
                raise self.not_finite(photo, wording)
            best, found = table.max(dim=1)
            ranked_values, ranked = table.sort(dim=1, descending=True, stable=True)
            if wording.head.threshold:
                found[best < wording.head.threshold] = background
            for index in best.argsort(stable=True).tolist():  # the surest mask is painted last
                inside = torch.from_numpy(masks[index])
                labels[inside], regions[inside] = int(found[index]), index + 1
                if top:
                    classes[:, inside] = ranked[index, :count, None].int()
                    values[:, inside] = ranked_values[index, :count, None]
        parts = (None if part is None else part.to(device) for part in (labels, classes, values, regions))
        return Decision(*parts)

    def describe(self) -> dict[str, object]:
        own = {"region_encoder": repr(self.region_encoder), "uncovered": self.uncovered, "min_area": self.min_area}
        return {**super().describe(), **own}
