"""OVSeg: masks of a MaskFormer, named by the MaskFormer and by a CLIP that was adapted to masked crops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.backbones.clip import ClipBackbone
from ovseg.backbones.mask_prompts import crop_of, encode_masked, patches_with_mask
from ovseg.backbones.towers import OpenClipTower
from ovseg.decoders.base import Features, Prediction
from ovseg.decoders.mask_decoder import MaskDecoder
from ovseg.decoders.mask_pooling import class_logits
from ovseg.decoders.mask_transformer import PyramidDecoder, mlp, transformers_package
from ovseg.registry import DECODERS
from ovseg.text import Vocabulary
from ovseg.weights.catalogue import IMAGENET_MEAN, IMAGENET_STD

SCALE = 100.0
"""Of the cosines with words, fixed."""
SWIN_B = dict(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), window_size=12)
_CLASS_WIDTH = 1024


@DECODERS.register_module()
class OvSegDecoder(MaskDecoder):
    """OVSeg (Liang et al., CVPR 2023).

    A MaskFormer with a Swin of its own proposes masks and compares its queries with the words. Then CLIP looks at the
    box of each mask, everything outside the mask in its mean colour, with mask prompts where a patch has no mask pixel.

    Args:
        tower: CLIP's ViT, given by the segmentor.
        swin: arguments of transformers' ``SwinConfig``.
        queries: number of masks.
        threshold: probability above which a pixel belongs to a mask's crop.
        ensemble: exponent of CLIP's probability, the query's gets the rest (0.7 for ADE20K, 0.6 for Pascal Context,
            0.45 for VOC20); 1: CLIP alone, which leaves masks without a pixel out; 0: the queries alone.
        prompt_depth: number of blocks with mask prompts.
        mask_prompts: use them; ``False``: CLIP sees the crops as they are.
        batch: crops that CLIP sees at once; does not change the result.
        weights: name in the catalogue, e.g. ``'ovseg/swinb_vitl14'``; ``None``: untrained.
        checkpoint: file to read instead of the catalogue's.

    Raises:
        TypeError: for a CLIP without a plain ViT.
        ValueError: for values out of range.
        ImportError: without transformers.
    """

    def __init__(
        self,
        tower: OpenClipTower,
        swin: Mapping[str, Any] = SWIN_B,
        queries: int = 100,
        threshold: float = 0.4,
        ensemble: float = 0.7,
        prompt_depth: int = 3,
        mask_prompts: bool = True,
        batch: int = 16,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        super().__init__(tower)
        if not isinstance(tower, OpenClipTower):
            raise TypeError(f"{type(self).__name__} needs a CLIP with open_clip's own ViT, not {type(tower).__name__}")
        for name, value in (("threshold", threshold), ("ensemble", ensemble)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1")
        package = transformers_package()
        stages = [f"stage{i}" for i in range(1, 5)]
        self.swin = package.SwinBackbone(
            package.SwinConfig(
                **{k: list(v) if isinstance(v, Sequence) else v for k, v in swin.items()}, out_features=stages
            )
        )
        self.swin.swin.layernorm = nn.Identity()  # of the classifier; each stage has a norm of its own here
        self.proposals = PyramidDecoder(self.swin.channels, queries)
        self.class_embed = mlp(self.proposals.width, _CLASS_WIDTH, tower.embed_dim)
        self.no_object = nn.Parameter(torch.randn(1, tower.embed_dim) * tower.embed_dim**-0.5)
        h, w = tower.native_grid
        self.mask_embedding = nn.Parameter(torch.randn(prompt_depth, h * w, tower.width) * 0.02)
        self.mask_prompts = mask_prompts
        self.threshold, self.ensemble, self.batch = float(threshold), float(ensemble), int(batch)
        self.crop = tower.native_grid[0] * tower.patch_size
        mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.load(weights, checkpoint)

    def encode_masks(self, images: Tensor, frames: Tensor, backbone: ClipBackbone) -> Features:
        """``masks`` ``[B, Q, h, w]`` logits; ``queries`` and ``crops`` ``[B, Q, D]``, unit vectors times
        :data:`SCALE`; ``valid`` ``[B, Q]`` bool: masks with a pixel, of which alone there is a crop."""
        pixels = (images * backbone.std + backbone.mean - self.mean) / self.std
        padding = (0, frames.shape[-1] - images.shape[-1], 0, frames.shape[-2] - images.shape[-2])
        proposals = self.proposals(self.swin(F.pad(pixels, padding)).feature_maps)
        seen = [self.look(*pair, frames.shape[-2:], backbone) for pair in zip(images, proposals.masks, strict=True)]
        return {
            "masks": proposals.masks,
            "queries": F.normalize(self.class_embed(proposals.queries), dim=-1) * SCALE,
            "crops": torch.stack([crops for crops, _ in seen]),
            "valid": torch.stack([valid for _, valid in seen]),
        }

    def look(
        self, image: Tensor, masks: Tensor, padded: Sequence[int], backbone: ClipBackbone
    ) -> tuple[Tensor, Tensor]:
        """CLIP's vectors of an image's masks.

        Args:
            image: ``[3, h, w]`` normalised for CLIP.
            masks: ``[Q, h', w']`` logits of the padded image.
            padded: its size.
            backbone: CLIP.

        Returns:
            ``[Q, D]`` unit vectors times :data:`SCALE`, zeros without a pixel; ``[Q]`` bool, which have a pixel.
        """
        vectors = image.new_zeros(len(masks), backbone.tower.embed_dim)
        valid = torch.zeros(len(masks), dtype=torch.bool, device=image.device)
        for index, crops, regions in self.crops(image, masks, padded):
            found = self.encode_crops(crops, regions, backbone)
            vectors[index], valid[index] = F.normalize(found, dim=-1) * SCALE, True
        return vectors, valid

    def encode_crops(self, crops: Tensor, regions: Tensor, backbone: ClipBackbone) -> Tensor:
        """CLIP's ``[n, D]`` of crops ``[n, 3, s, s]`` whose masks are ``[n, s, s]``."""
        if not self.mask_prompts:
            return backbone.clip.encode_image(crops)
        kept = patches_with_mask(regions, backbone.patch_size)
        return encode_masked(backbone.tower, crops, kept, self.mask_embedding, backbone.pos_embed)

    def crops(self, image: Tensor, masks: Tensor, padded: Sequence[int]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Masks that have a pixel, a batch at a time: their indices ``[n]``, crops ``[n, 3, s, s]`` and masks
        ``[n, s, s]`` of these; arguments as in :meth:`look`."""
        height, width = image.shape[1:]
        for start in range(0, len(masks), self.batch):
            full = F.interpolate(masks[None, start : start + self.batch], size=tuple(padded), mode="bilinear")[0]
            inside = full[:, :height, :width].sigmoid() > self.threshold
            index = inside.flatten(1).any(1).nonzero()[:, 0]
            if len(index):
                pairs = [crop_of(image, inside[i], self.crop) for i in index.tolist()]
                yield index + start, *(torch.stack(part) for part in zip(*pairs, strict=True))

    def forward(self, features: Features, text: Tensor, vocabulary: Vocabulary) -> Prediction:
        index, count = vocabulary.query_to_class.to(text.device), len(vocabulary)
        words = torch.cat([text, F.normalize(self.no_object, dim=-1)])
        inside = class_logits(features["queries"], words, F.pad(index, (0, 1), value=count), count + 1)
        queries = inside.softmax(-1)
        crops = class_logits(features["crops"], text, index, count).softmax(-1)
        classes = mask_ensemble(queries[..., :-1], crops, features["valid"], self.ensemble)
        probabilities = torch.cat([classes, queries[..., -1:]], dim=-1)
        return Prediction(features["masks"], classes, {"class_logits": inside, "probabilities": probabilities})


def mask_ensemble(queries: Tensor, crops: Tensor, valid: Tensor, exponent: float) -> Tensor:
    """OVSeg's geometric ensemble (section 3.4), not normalised.

    Args:
        queries: ``[..., C]`` probabilities of the masks' queries.
        crops: ``[..., C]`` CLIP's of their crops.
        valid: bool ``[...]``: masks that have a crop; of others CLIP's factor is 1.
        exponent: of CLIP's probability; 1 leaves masks without a crop out.

    Returns:
        ``[..., C]``.
    """
    crops = torch.where(valid[..., None], crops, 0.0 if exponent == 1 else 1.0)
    return queries ** (1 - exponent) * crops**exponent
