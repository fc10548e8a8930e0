"""Training of DeCLIP: dense features of a CLIP are taught by itself and by a foundation model, without labels."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.attention import DeclipAttention
from ovseg.backbones import DinoBackbone
from ovseg.registry import GUIDES, MODELS
from ovseg.segmentors.distillation_trainer import DistillationTrainer
from ovseg.segmentors.open_vocab import OpenVocabSegmentor
from ovseg.training import select_trained
from ovseg.training.distillation import box_features, content_loss, context_loss


@MODELS.register_module()
class DeclipTrainer(DistillationTrainer):
    """Decoupled distillation (Wang et al., "DeCLIP: Decoupled Learning for Open-Vocabulary Dense Perception", 2025).

    Content: the dense features of a box, averaged, shall agree with the class token that the frozen original gives the
    box's crop. Context: the last block's queries of patches shall resemble each other as a foundation model's features
    do. Photos come from :class:`ovseg.datasets.augment.BoxCrops`; padded cells take part in the context loss.

    Checkpoints hold the student's CLIP under ``clip.``; :meth:`ensemble` mixes it with the original, which is what is
    evaluated. Validation is the student's segmentation.

    Args:
        student: config of an ``OpenVocabSegmentor`` whose attention is a ``DeclipAttention``.
        foundation: config of a ``DinoBackbone``. It sees the photo resized (bilinear) to as many of its patches as the
            student has.
        trained: patterns of what trains, see :func:`ovseg.training.select_trained`; names begin with ``clip.``.
        content_weight, context_weight: of the two losses.
        unit_content: patches are normalised before boxes average them. DeCLIP does so for OpenAI's ViT, not for EVA-02.
        data_preprocessor, init_cfg: MMEngine's habits.

    Raises:
        TypeError: if the student has another attention or the foundation model is no ``DinoBackbone``.
        ValueError: for patterns without a parameter.
    """

    def __init__(
        self,
        student: dict,
        foundation: dict,
        trained: Sequence[str],
        content_weight: float = 1.0,
        context_weight: float = 0.1,
        unit_content: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.content_weight, self.context_weight = float(content_weight), float(context_weight)
        self.unit_content = bool(unit_content)
        # checkpoints hold the student's CLIP only
        self.keep_apart(MODELS.build(student), GUIDES.build(foundation))
        if not isinstance(self.student.attention, DeclipAttention):
            raise TypeError(f"the student's attention is {self.student.attention}; DeCLIP needs DeclipAttention")
        if not isinstance(self.foundation, DinoBackbone):
            raise TypeError(f"the foundation model is {type(self.foundation).__name__}; give a DinoBackbone")
        self.clip = self.student.backbone.clip
        self.keep_apart(copy.deepcopy(self.student.backbone))
        select_trained(self, trained)

    @property
    def student(self) -> OpenVocabSegmentor:
        """The segmentor whose CLIP is trained."""
        return self._parts[0]

    @property
    def foundation(self) -> DinoBackbone:
        """The teacher of the context."""
        return self._parts[1]

    @property
    def original(self) -> torch.nn.Module:
        """The backbone with the CLIP as it was, the teacher of the content."""
        return self._parts[2]

    def train(self, mode: bool = True) -> DeclipTrainer:
        """As torch's; CLIP stays in evaluation mode: what of it is trained has no dropout and no batch statistics."""
        super().train(mode)
        self.clip.eval()
        return self

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence | None = None,
        mode: str = "loss",
        boxes: Sequence[Tensor] | None = None,
        crops: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor] | list:
        """MMEngine's entry.

        Args:
            inputs: uint8 RGB photos ``[3, H, W]``; squares of one size for ``mode='loss'``.
            data_samples: for ``mode='predict'``.
            boxes, crops: for ``mode='loss'``, see :class:`ovseg.datasets.augment.BoxCrops`.

        Returns:
            the losses, or the student's predictions.

        Raises:
            ValueError: for another mode, or a training without boxes.
        """
        if mode == "predict":
            return self.student(inputs, data_samples, mode="predict")
        if mode != "loss":
            raise ValueError(f"mode {mode!r}: give 'loss' or 'predict'")
        if boxes is None or crops is None:
            raise ValueError("no boxes: the pipeline needs BoxCrops, and PackInputs(keys=('boxes', 'crops'))")
        return self.loss(torch.stack(list(inputs)), list(boxes), torch.cat(list(crops)))

    def loss(self, photos: Tensor, boxes: list[Tensor], crops: Tensor) -> dict[str, Tensor]:
        """``loss_content`` and ``loss_context``, weighted.

        Args:
            photos: uint8 RGB ``[B, 3, H, H]``.
            boxes: for each photo ``[n, 4]`` x0, y0, x1, y1 as shares of its sides.
            crops: uint8 RGB ``[sum of n, 3, h, h]``.
        """
        backbone = self.student.backbone
        windows = torch.stack([backbone.normalise(photo) for photo in photos])
        context = backbone(windows)
        tokens, queries = self.student.attention.content_and_context(context)
        dense = backbone.project(tokens).patches
        if self.unit_content:
            dense = F.normalize(dense, dim=-1)
        dense = dense.transpose(1, 2).unflatten(2, context.grid)
        with torch.no_grad():
            teacher = self.original.clip.encode_image(torch.stack([backbone.normalise(crop) for crop in crops]))
            target = self.foundation_features(windows, context.grid)
        return {
            "loss_content": self.content_weight * content_loss(box_features(dense, boxes), teacher),
            "loss_context": self.context_weight * context_loss(queries, target),
        }

    def foundation_features(self, windows: Tensor, grid: tuple[int, int]) -> Tensor:
        """The foundation model's features ``[B, h * w, c]`` of normalised windows on the student's grid."""
        backbone, patch = self.student.backbone, self.foundation.patch_size
        size = (grid[0] * patch, grid[1] * patch)
        if tuple(windows.shape[2:]) != size:
            windows = F.interpolate(windows, size=size, mode="bilinear", align_corners=False)
        return self.foundation(windows, backbone.mean, backbone.std).patches

    @torch.no_grad()
    def ensemble(self, alpha: float) -> dict[str, Tensor]:
        """``alpha`` of the student's weights and the rest of the original's, by open_clip's keys."""
        original = self.original.clip.state_dict()
        return {
            key: torch.lerp(original[key].float(), value.float(), alpha) if value.is_floating_point() else value
            for key, value in self.clip.state_dict().items()
        }
