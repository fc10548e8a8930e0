"""SegCLIP's segmentor: trained on photos and captions, and its background is what no word reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import get_rank, get_world_size
from mmengine.optim import OptimWrapper
from open_clip.loss import ClipLoss
from torch import Tensor

from ovseg.decoders import Prediction, SegClipDecoder
from ovseg.registry import MODELS, construct
from ovseg.segmentors.decoder import DecoderSegmentor
from ovseg.segmentors.records import EncodedPhoto, Wording
from ovseg.text.causal import CausalTextTower, shortened
from ovseg.training import select_trained
from ovseg.training.grouping import PatchReconstruction, superpixel_loss

MAX_LOG_SCALE = math.log(100.0)


@MODELS.register_module()
class SegClipSegmentor(DecoderSegmentor):
    """A :class:`DecoderSegmentor` that learns from captions, without a mask (Luo et al., SegCLIP, ICML 2023).

    Three losses: CLIP's between photos and captions, over the batches of all processes; the pixels of patches that were
    left out (:class:`ovseg.training.grouping.PatchReconstruction`); and the patches of a superpixel go to one centre
    (:func:`ovseg.training.grouping.superpixel_loss`). Photos are of one size, whole patches.

    Where the head has a threshold, its background has no words: those of its class are not compared.

    Args:
        decoder: config of a :class:`ovseg.decoders.SegClipDecoder`.
        reconstruction: arguments of :class:`ovseg.training.grouping.PatchReconstruction`, for training; ``None``: the
            model does not train.
        trained: see :class:`DecoderSegmentor`.
        weights_of_losses: of ``contrastive``, ``reconstruction`` and ``superpixel``; 1 where left out.
        caption_tokens: longer captions are cut.
        **settings: see :class:`DecoderSegmentor`.

    Raises:
        ValueError: for another decoder, or weights of other losses.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        *,
        decoder: dict,
        reconstruction: dict | None = None,
        trained: Sequence[str] = (),
        weights_of_losses: dict | None = None,
        caption_tokens: int = 32,
        **settings: Any,
    ) -> None:
        super().__init__(decoder=decoder, **settings)
        if not isinstance(self.decoder, SegClipDecoder):
            raise ValueError(f"SegClipSegmentor needs a SegClipDecoder, not {type(self.decoder).__name__}")
        self.weights_of_losses = {"contrastive": 1.0, "reconstruction": 1.0, "superpixel": 1.0}
        strange = set(weights_of_losses or {}) - set(self.weights_of_losses)
        if strange:
            raise ValueError(
                f"weights_of_losses: no loss {min(strange)!r}; there are {', '.join(self.weights_of_losses)}"
            )
        self.weights_of_losses |= weights_of_losses or {}
        self.caption_tokens = int(caption_tokens)
        tower, self.reconstruction = self.backbone.tower, None
        if reconstruction is not None:
            sizes = dict(width=tower.width, heads=tower.blocks[0].num_heads, patch=tower.patch_size)
            self.reconstruction = construct(PatchReconstruction, {**sizes, **reconstruction}, "reconstruction")
        select_trained(self, trained)

    def prediction(self, encoded: EncodedPhoto, wording: Wording) -> Prediction:
        """As in the base class; words of a background that the threshold finds count for nothing.

        Raises:
            ValueError: if there are no other words.
        """
        queries = wording.queries
        named = torch.ones_like(queries.query_to_class, dtype=torch.bool)
        if queries.cut_to is not None and queries.cut_to == queries.background:
            named = queries.query_to_class != queries.background
        if not named.any():
            raise ValueError("all words are names of the background, which SegCLIP tells by the head's threshold alone")
        found = self.decoder(encoded.features, queries.text[named])
        classes = found.classes.new_zeros(*found.classes.shape[:2], len(named))
        classes[..., named] = found.classes
        return Prediction(found.maps, classes=classes)

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence | None = None,
        mode: str = "predict",
        captions: Sequence[str] | None = None,
        superpixels: Sequence[Tensor] | None = None,
        **extras: Sequence[Tensor],
    ) -> list | dict[str, Tensor] | Prediction:
        """MMEngine's entry.

        Args:
            inputs: uint8 RGB images ``[3, h, w]``; of one size for ``'loss'`` and ``'tensor'``.
            data_samples: with ``ori_shape``, for ``'predict'``.
            mode: as in the base class.
            captions: for ``'loss'``, one of each photo.
            superpixels: for ``'loss'``, int64 ``[h, w]`` of the patches, see :class:`ovseg.regions.Superpixels`.

        Raises:
            ValueError: for another mode, or a training without what it needs.
        """
        if mode != "loss":
            return super().forward(inputs, data_samples, mode, **extras)
        if self.reconstruction is None:
            raise ValueError("this config does not train: give model.reconstruction, e.g. dict(share=0.75)")
        if captions is None or superpixels is None:
            raise ValueError(
                "captions or superpixels are missing: the pipeline needs Superpixels and "
                "PackInputs(keys=('captions', 'superpixels'))"
            )
        images = torch.stack([self.backbone.normalise(image) for image in inputs])
        return self.losses(images, captions, torch.stack(list(superpixels)).to(images.device))

    def losses(self, images: Tensor, captions: Sequence[str], superpixels: Tensor) -> dict[str, Tensor]:
        """``loss_contrastive``, ``loss_reconstruction``, ``loss_superpixel``, weighted, and ``accuracy_captions``: the
        share of photos that are nearest to their own caption.

        Args:
            images: normalised ``[B, 3, H, W]``.
            captions: of each photo one.
            superpixels: int64 ``[B, h, w]``.
        """
        patches = self.decoder.patches(images, self.backbone)
        grouping = self.decoder.group(patches, self.backbone)
        photo, text = self.decoder.embed(grouping.tokens, self.backbone)[1], self.encode_captions(captions)
        contrastive = ClipLoss(True, True, rank=get_rank(), world_size=get_world_size())
        seen = self.reconstruction.choose(*patches.shape[:2], patches.device)
        part = self.decoder.group(patches.take_along_dim(seen[..., None], dim=1), self.backbone)
        found = {
            "contrastive": contrastive(photo, text, self.backbone.clip.logit_scale.exp()),
            "reconstruction": self.reconstruction.loss(part.spread, seen, images),
            "superpixel": superpixel_loss(grouping.logits, superpixels.flatten(1)),
        }
        own = torch.arange(len(photo), device=photo.device)
        losses = {f"loss_{name}": self.weights_of_losses[name] * loss for name, loss in found.items()}
        return losses | {"accuracy_captions": ((photo @ text.T).argmax(1) == own).float().mean()}

    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Unit vectors ``[B, D]``, with gradients."""
        tokens = shortened(self.backbone.tokenizer(list(captions)), self.caption_tokens)
        return F.normalize(CausalTextTower(self.backbone.clip).encode(tokens).float(), dim=-1)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """As MMEngine's; then CLIP's scale is kept between 1 and 100."""
        losses = super().train_step(data, optim_wrapper)
        with torch.no_grad():
            self.backbone.clip.logit_scale.clamp_(0, MAX_LOG_SCALE)
        return losses
