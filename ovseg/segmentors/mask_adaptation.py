"""Training of OVSeg's mask-adapted CLIP: masked crops and the nouns that name them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ovseg.backbones.mask_prompts import encode_masked, patches_with_mask
from ovseg.datasets.nouns import FILL
from ovseg.float32 import KeepsFloat32
from ovseg.registry import BACKBONES, MODELS
from ovseg.training import select_trained

MAX_LOG_SCALE = math.log(100.0)


@MODELS.register_module()
class MaskAdaptationTrainer(KeepsFloat32, BaseModel):
    """CLIP's own loss on masked crops and nouns (Liang et al., OVSeg, CVPR 2023, sections 3.2 and 3.3).

    Either the image tower is finetuned (mask-adapted CLIP), or it stays and mask prompts are learned in its place, or
    the one after the other. A pixel counts as outside of the mask where it has exactly the colour
    :data:`ovseg.datasets.nouns.FILL`.

    Args:
        backbone: config of a ``ClipBackbone`` with open_clip's own ViT.
        trained: patterns of what trains, see :func:`ovseg.training.select_trained`: ``'mask_embedding'`` and
            ``'backbone.clip.logit_scale'`` for mask prompt tuning, ``'backbone.clip.visual.*'`` for the tower.
        prompt_depth: number of blocks with mask prompts; 0: none, CLIP sees the crops as they are.
        data_preprocessor, init_cfg: MMEngine's habits.

    Attributes:
        mask_embedding: the mask prompts ``[depth, patches, width]``.
    """

    def __init__(
        self,
        backbone: dict,
        trained: Sequence[str] = ("mask_embedding", "backbone.clip.logit_scale"),
        prompt_depth: int = 3,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or BaseDataPreprocessor(), init_cfg)
        self.backbone = BACKBONES.build(backbone)
        tower = self.backbone.tower
        h, w = tower.native_grid
        self.mask_embedding = nn.Parameter(torch.randn(prompt_depth, h * w, tower.width) * 0.02)
        select_trained(self, trained)

    def train(self, mode: bool = True) -> MaskAdaptationTrainer:
        """As torch's; CLIP has nothing that differs in training."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(
        self, inputs: Sequence[Tensor], captions: Sequence[str] = (), mode: str = "loss", **extras: object
    ) -> dict[str, Tensor]:
        """MMEngine's entry.

        Args:
            inputs: uint8 RGB crops ``[3, s, s]`` of CLIP's training size.
            captions: the noun, or another text, of each; it is taken as it is.

        Returns:
            ``loss_contrastive``, and ``accuracy_crops``: the share of crops that are nearest to their own caption.

        Raises:
            ValueError: for modes other than ``'loss'``.
        """
        if mode != "loss":
            raise ValueError(
                f"mode {mode!r}: {type(self).__name__} only trains; evaluate its weights with OVSeg's configs"
            )
        images = torch.stack(list(inputs))
        crops, texts = self.encode_crops(images), self.encode_captions(captions)
        logits = self.backbone.clip.logit_scale.exp() * F.normalize(crops, dim=-1) @ texts.T
        own = torch.arange(len(logits), device=logits.device)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        return {"loss_contrastive": loss, "accuracy_crops": (logits.argmax(1) == own).float().mean()}

    def encode_crops(self, images: Tensor) -> Tensor:
        """CLIP's ``[B, D]`` of uint8 RGB crops ``[B, 3, s, s]``."""
        crops = torch.stack([self.backbone.normalise(image) for image in images])
        if not len(self.mask_embedding):
            return self.backbone.clip.encode_image(crops)
        outside = (images == images.new_tensor(FILL).view(3, 1, 1)).all(1)
        kept = patches_with_mask(~outside, self.backbone.patch_size).to(crops.device)
        return encode_masked(self.backbone.tower, crops, kept, self.mask_embedding, self.backbone.pos_embed)

    @torch.no_grad()
    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Unit vectors ``[B, D]``; the text tower does not train."""
        tokens = self.backbone.tokenizer(list(captions)).to(self.mask_embedding.device)
        return F.normalize(self.backbone.clip.encode_text(tokens), dim=-1)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """As MMEngine's; then CLIP's scale is kept between 1 and 100."""
        losses = super().train_step(data, optim_wrapper)
        with torch.no_grad():
            self.backbone.clip.logit_scale.clamp_(0, MAX_LOG_SCALE)
        return losses
