"""Training of SAM-CLIP: one encoder learns what a CLIP says of photos and keeps what SAM says of prompts."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from torch import Tensor

from ovseg.backbones import ClipBackbone
from ovseg.backbones.sam_clip import SamClipBackbone
from ovseg.registry import BACKBONES, MODELS
from ovseg.segmentors.distillation_trainer import DistillationTrainer
from ovseg.segmentors.open_vocab import OpenVocabSegmentor
from ovseg.training import select_trained
from ovseg.training.prompt_loss import dice_loss, focal_loss

FOCAL = 20.0
"""Weight of the focal loss beside the dice loss."""


@MODELS.register_module()
class SamClipTrainer(DistillationTrainer):
    """Distillation of two teachers into one encoder (Wang et al., SAM-CLIP, 2023).

    ``clip_weight * (1 - cos)`` between the head's embedding of a photo and the teacher CLIP's; where photos with points
    come along, ``sam_weight * (20 focal + dice)`` between the masks of the student and those of SAM as it was, for the
    same points (all three masks of a point). First the head alone is trained, then head, encoder and mask decoder
    together, which is what ``trained`` says.

    Checkpoints hold ``sam`` and ``head``; tools/publish_decoder.py makes the file that a ``SamClipBackbone`` reads of
    them. Validation is the student's segmentation.

    Args:
        student: config of an ``OpenVocabSegmentor`` whose backbone is a ``SamClipBackbone``.
        teacher: config of a ``ClipBackbone``, whose text tower the student's words go through. It sees photos resized
            (bilinear, antialiased) to its own size.
        trained: patterns of what trains, see :func:`ovseg.training.select_trained`, of ``sam.*`` and ``head.*``.
        clip_weight, sam_weight: of the two losses.
        data_preprocessor, init_cfg: MMEngine's habits.

    Raises:
        ValueError: for a student with another backbone, another teacher, or patterns without a parameter.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        trained: Sequence[str],
        clip_weight: float = 1.0,
        sam_weight: float = 10.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.clip_weight, self.sam_weight = float(clip_weight), float(sam_weight)
        # checkpoints hold what the student was made of, not its teachers and its text tower
        self.keep_apart(MODELS.build(student), BACKBONES.build(teacher))
        if not isinstance(self.student.backbone, SamClipBackbone):
            raise ValueError(
                f"the student's backbone is {type(self.student.backbone).__name__}; give a SamClipBackbone"
            )
        if type(self.teacher) is not ClipBackbone:
            raise ValueError(f"the teacher is {type(self.teacher).__name__}; give a ClipBackbone")
        self.sam, self.head = self.student.backbone.sam, self.student.backbone.head
        self.keep_apart(copy.deepcopy(self.sam))
        select_trained(self, trained)

    @property
    def student(self) -> OpenVocabSegmentor:
        """The segmentor whose encoder is trained."""
        return self._parts[0]

    @property
    def teacher(self) -> ClipBackbone:
        """The CLIP that says what photos are."""
        return self._parts[1]

    @property
    def original(self) -> Sam:
        """SAM as it was, which says what prompts mean."""
        return self._parts[2]

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence | None = None,
        mode: str = "loss",
        prompted_inputs: Sequence[Tensor] | None = None,
        prompted_points: Sequence[Tensor] | None = None,
        **extras: object,
    ) -> dict[str, Tensor] | list:
        """MMEngine's entry.

        Args:
            inputs: uint8 RGB photos ``[3, h, w]``; for ``mode='loss'`` of any sizes that are whole patches.
            data_samples: for ``mode='predict'``.
            prompted_inputs: for ``mode='loss'``, uint8 RGB photos ``[3, h, w]`` at most as large as SAM's input.
            prompted_points: of each of these float32 ``[n, 2]``, x and y in pixels.

        Returns:
            ``loss_clip`` and, with prompted photos, ``loss_focal`` and ``loss_dice``, weighted; or the predictions.

        Raises:
            ValueError: for another mode, or photos without points.
        """
        if mode == "predict":
            return self.student(inputs, data_samples, mode="predict")
        if mode != "loss":
            raise ValueError(f"mode {mode!r}: give 'loss' or 'predict'")
        if (prompted_inputs is None) != (prompted_points is None):
            raise ValueError(
                "prompted photos and points come together: the pipeline needs PointPrompts, PackInputs('points')"
            )
        losses = {"loss_clip": self.clip_weight * self.clip_loss(inputs)}
        if prompted_inputs is not None:
            focal, dice = self.prompt_losses(prompted_inputs, prompted_points)
            losses |= {"loss_focal": self.sam_weight * FOCAL * focal, "loss_dice": self.sam_weight * dice}
        return losses

    def clip_loss(self, photos: Sequence[Tensor]) -> Tensor:
        """1 - mean cosine of student and teacher, of uint8 RGB photos ``[3, h, w]``; those of one size run together."""
        groups: dict[tuple[int, int], list[Tensor]] = {}
        for photo in photos:
            groups.setdefault(tuple(photo.shape[1:]), []).append(photo)
        cosines = []
        for same in groups.values():
            images = torch.stack([self.student.backbone.normalise(photo) for photo in same])
            ours = self.student.backbone.tower.photos(images, self.student.backbone.pos_embed)
            cosines.append(F.cosine_similarity(ours, self.teacher_embeddings(same), dim=-1))
        return 1 - torch.cat(cosines).mean()

    @torch.no_grad()
    def teacher_embeddings(self, photos: Sequence[Tensor]) -> Tensor:
        """The teacher's ``[B, D]`` of uint8 RGB photos of one size."""
        images = torch.stack([self.teacher.normalise(photo) for photo in photos])
        side = tuple(n * self.teacher.patch_size for n in self.teacher.tower.native_grid)
        if tuple(images.shape[2:]) != side:
            images = F.interpolate(images, size=side, mode="bilinear", align_corners=False, antialias=True)
        return self.teacher.clip.encode_image(images)

    def prompt_losses(self, photos: Sequence[Tensor], points: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Focal and dice loss, the mean over all points and their masks; what pads a photo does not count."""
        focal, dice = [], []
        for photo, own in zip(photos, points, strict=True):
            own = own.to(self.sam.device)
            logits = masks_of_points(self.sam, photo, own)
            with torch.no_grad():
                target = (masks_of_points(self.original, photo, own) > 0).to(logits.dtype)
            focal.append(focal_loss(logits, target).flatten())
            dice.append(dice_loss(logits, target).flatten())
        return torch.cat(focal).mean(), torch.cat(dice).mean()


def masks_of_points(sam: Sam, photo: Tensor, points: Tensor) -> Tensor:
    """The three masks of each point, differentiable: logits ``[n, 3, h, w]`` on the cells that show the photo.

    Args:
        sam: the model.
        photo: uint8 RGB ``[3, H, W]``, at most as large as SAM's input.
        points: float32 ``[n, 2]``, x and y in pixels of the photo.
    """
    image = sam.preprocess(photo.to(sam.device)[None])
    embedding = sam.image_encoder(image)
    inside = torch.ones(len(points), 1, device=points.device)
    sparse, dense = sam.prompt_encoder((points[:, None], inside), None, None)
    logits, _ = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=True)
    stride = sam.image_encoder.img_size // logits.shape[-1]
    height, width = (-(-n // stride) for n in photo.shape[1:])
    return logits[..., :height, :width].float()
