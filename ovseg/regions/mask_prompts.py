"""OVSeg's mask-adapted CLIP as a region encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ovseg.backbones.clip import ClipBackbone
from ovseg.backbones.mask_prompts import crop_of, encode_masked, patches_with_mask
from ovseg.photo import Photo
from ovseg.regions.encoders import RegionEncoder, input_size
from ovseg.registry import REGION_ENCODERS
from ovseg.weights import CheckpointError, load_state_dict, resolve

KEY = "visual.mask_embedding"


@REGION_ENCODERS.register_module()
class MaskPromptedCrop(RegionEncoder):
    """The region's box in the mean colour outside the region, with mask prompts in patches without a pixel of it.

    OVSeg (Liang et al., CVPR 2023, section 3.3).

    Give the same name and file as the CLIP's: mask prompts belong to the CLIP they were trained with.

    Args:
        weights: name in the catalogue, e.g. ``'ovseg/swinb_vitl14'``, of whose file the mask prompts are read here.
        checkpoint: file to read instead of the catalogue's.
        batch: see :class:`RegionEncoder`.

    Raises:
        CheckpointError: if the file has no mask prompts.
    """

    weights_argument = "weights"

    def __init__(
        self, weights: str = "ovseg/swinb_vitl14", checkpoint: str | Path | None = None, batch: int = 16
    ) -> None:
        super().__init__(batch)
        path = resolve(weights, checkpoint)
        state = load_state_dict(path)
        key = next((key for key in state if key.endswith(KEY)), None)
        if key is None:
            raise CheckpointError(
                path, f"has no mask prompts (no key ends in {KEY})", "Give a file of OVSeg, or use MaskedCrop"
            )
        self.weights = weights
        self.register_buffer("prompts", state[key].float())

    def encode(self, photo: Photo, masks: np.ndarray, backbone: ClipBackbone) -> Tensor:
        image, size = backbone.normalise(photo.require_original()), input_size(backbone)
        pairs = [crop_of(image, torch.from_numpy(mask).to(image.device), size) for mask in masks]
        crops, regions = (torch.stack(part) for part in zip(*pairs, strict=True))
        kept = patches_with_mask(regions, backbone.patch_size)
        return encode_masked(backbone.tower, crops, kept, self.prompts, backbone.pos_embed)
