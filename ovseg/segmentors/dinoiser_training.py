"""Training of CLIP-DINOiser's two heads: frozen CLIP, DINO as the teacher, photos without labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.attention.dinoiser import DinoiserAttention
from ovseg.backbones.dino import DinoBackbone
from ovseg.registry import GUIDES, MODELS
from ovseg.segmentors.distillation_trainer import DistillationTrainer
from ovseg.segmentors.open_vocab import OpenVocabSegmentor
from ovseg.structures import AttentionContext


@MODELS.register_module()
class DinoiserTrainer(DistillationTrainer):
    """Teaches ``obj_proj`` DINO's correlation and ``bkg_decoder`` the background (CLIP-DINOiser, sections 3.3, 3.4).

    Loss: binary cross-entropy between the heads' correlation (as logits, divided by ``temperature``) and DINO's
    correlation cut at ``correlation_threshold``; plus binary cross-entropy between the objectness and the teacher's
    foreground. The teacher of the background is FOUND's first stage (Simeoni et al., CVPR 2023), which needs no weights
    besides DINO's: see :func:`found_foreground`. Only the heads are trained; validation is the student's segmentation.

    Args:
        student: config of an ``OpenVocabSegmentor`` whose attention is a ``DinoiserAttention`` with ``heads=None``.
        teacher: config of a ``DinoBackbone``; its features give the correlation.
        correlation_threshold: DINO's cosines at or above it are 1, others 0.
        temperature: of the student's correlation.
        seed_threshold: patches whose cosine with the background seed reaches it are background.
        background_weight: weight of the second loss.
        data_preprocessor, init_cfg: MMEngine's habits.

    Raises:
        TypeError: if the student has another attention or the teacher is no ``DinoBackbone``.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        correlation_threshold: float = 0.2,
        temperature: float = 0.1,
        seed_threshold: float = 0.3,
        background_weight: float = 1.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        # checkpoints hold the heads only, under the names of the official file
        self.keep_apart(MODELS.build(student), GUIDES.build(teacher))
        if not isinstance(self.student.attention, DinoiserAttention):
            raise TypeError(
                f"the student's attention is {self.student.attention}; CLIP-DINOiser needs DinoiserAttention"
            )
        if not isinstance(self.teacher, DinoBackbone):
            raise TypeError(f"the teacher is {type(self.teacher).__name__}; give a DinoBackbone")
        self.correlation_threshold, self.temperature = float(correlation_threshold), float(temperature)
        self.seed_threshold, self.background_weight = float(seed_threshold), float(background_weight)
        heads = self.student.attention.heads.requires_grad_(True)
        self.obj_proj, self.bkg_decoder = heads["obj_proj"], heads["bkg_decoder"]

    @property
    def student(self) -> OpenVocabSegmentor:
        """The segmentor whose heads are trained."""
        return self._parts[0]

    @property
    def teacher(self) -> DinoBackbone:
        """DINO."""
        return self._parts[1]

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence | None = None,
        mode: str = "loss",
        **extras: object,
    ) -> dict[str, Tensor] | list:
        """MMEngine's entry.

        Args:
            inputs: uint8 RGB photos ``[3, H, W]``; of one size for ``mode='loss'``.
            data_samples: for ``mode='predict'``.

        Returns:
            the losses, or the student's predictions.
        """
        if mode == "predict":
            return self.student(inputs, data_samples, mode="predict", **extras)
        if mode != "loss":
            raise ValueError(f"mode {mode!r}: give 'loss' or 'predict'")
        return self.loss(torch.stack(list(inputs)))

    def loss(self, photos: Tensor) -> dict[str, Tensor]:
        """Losses of uint8 RGB photos ``[B, 3, H, W]``."""
        backbone, attention = self.student.backbone, self.student.attention
        windows = torch.stack([backbone.normalise(photo) for photo in photos])
        with torch.no_grad():
            guide_map = self._guide_map(windows)
            teacher = self.teacher(windows, backbone.mean, backbone.std)
            foreground = found_foreground(self.teacher, windows, backbone.mean, backbone.std, self.seed_threshold)
            grid = tuple(guide_map.shape[2:])
            target = F.normalize(_to_grid(teacher.as_image(), grid).flatten(2).transpose(1, 2), dim=-1)
            target = (target @ target.transpose(1, 2) >= self.correlation_threshold).float()
            foreground = (_to_grid(foreground[:, None].float(), grid).flatten(1) >= 0.5).float()
        features, objectness = attention.read_heads(guide_map)
        logits = features @ features.transpose(1, 2) / self.temperature
        losses = {
            "loss_correlation": F.binary_cross_entropy_with_logits(logits, target),
            "loss_background": self.background_weight * F.binary_cross_entropy_with_logits(objectness, foreground),
        }
        with torch.no_grad():
            losses["accuracy_correlation"] = ((logits >= 0) == target.bool()).float().mean()
            losses["accuracy_background"] = ((objectness >= 0) == foreground.bool()).float().mean()
        return losses

    def _guide_map(self, windows: Tensor) -> Tensor:
        """What the heads read, ``[B, d, h, w]``; CLIP runs no further than the block that gives it."""
        backbone, attention = self.student.backbone, self.student.attention
        tower = backbone.tower
        index = attention.needs_inputs_of(len(tower.blocks))[0]
        grid = tower.grid_of(*windows.shape[-2:])
        with backbone.autocast():
            x = tower.embed(windows, backbone.pos_embed)
            for block in tower.blocks[:index]:
                x = block(x, grid)
        return attention.guide_map(AttentionContext(x=x.float(), grid=grid, tower=tower, inputs={index: x.float()}))


def found_foreground(teacher: DinoBackbone, windows: Tensor, mean: Tensor, std: Tensor, threshold: float) -> Tensor:
    """Foreground of windows by FOUND's background seed, bool ``[B, h, w]`` on the teacher's grid.

    Heads of the last block are weighted by how sparse their CLS attention is; the patch with the least weighted
    attention is the seed; patches whose (weighted) keys resemble it are background, the rest is foreground.

    Args:
        teacher: a DINO with a CLS token.
        windows, mean, std: as for :class:`ovseg.backbones.dino.DinoBackbone`.
        threshold: least cosine with the seed.
    """
    tower, prefix = teacher.tower, teacher.tower.num_prefix
    images = (windows * std + mean - teacher.mean) / teacher.std
    grid = tower.grid_of(*images.shape[-2:])
    x, _ = tower.run(tower.embed(images, teacher.pos_embed), grid)
    last = tower.blocks[-1]
    q, k, _ = last.qkv(last.norm1(x), grid)
    attention = (q[:, :, :1] * last.scale @ k.transpose(-2, -1)).softmax(-1)[:, :, 0, prefix:]  # [B, heads, N]
    # FOUND, section 3.1: a head counts for more the fewer patches draw more than average attention
    dense = (attention > attention.mean(-1, keepdim=True)).float().mean(-1)
    weight = 1 - dense / dense.sum(1, keepdim=True).clamp(min=1e-6)
    seed = (attention * weight[..., None]).sum(1).argmin(-1)
    keys = (k[:, :, prefix:] * weight[..., None, None]).transpose(1, 2).flatten(2)
    keys = F.normalize(keys, dim=-1)
    likeness = (keys @ keys[torch.arange(len(keys)), seed][..., None])[..., 0]
    return (likeness < threshold).unflatten(1, grid)


def _to_grid(image: Tensor, grid: tuple[int, int]) -> Tensor:
    if tuple(image.shape[2:]) == grid:
        return image
    return F.interpolate(image, size=grid, mode="bilinear", align_corners=False)
