"""Training without masks: a training-free method labels the photos, a decoder learns from the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from torch import Tensor

from ovseg.registry import MODELS
from ovseg.segmentors.decoder import DecoderSegmentor
from ovseg.segmentors.distillation_trainer import DistillationTrainer
from ovseg.segmentors.open_vocab import OpenVocabSegmentor


@MODELS.register_module()
class PseudoLabelTrainer(DistillationTrainer):
    """A student learns what a training-free method says of the very crops it sees (MaskCLIP+, Zhou et al., 2022, 3.3).

    Labels are made in every iteration, for the student's words of training. Where a sample brings a label map, its
    ignored pixels (padding) stay ignored, and its other labels are not looked at: training needs no annotation.

    Args:
        student: config of a ``DecoderSegmentor`` with a ``loss``; its ``trained`` names what trains.
        teacher: config of an ``OpenVocabSegmentor``: any method of ovseg. Its vocabulary is the student's.
        data_preprocessor, init_cfg: MMEngine's habits.

    Raises:
        TypeError: if the student is no ``DecoderSegmentor`` or the teacher no ``OpenVocabSegmentor``.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.student = MODELS.build(student)
        if not isinstance(self.student, DecoderSegmentor):
            raise TypeError(f"the student is a {type(self.student).__name__}; give a DecoderSegmentor")
        self.keep_apart(MODELS.build(teacher))
        if not isinstance(self.teacher, OpenVocabSegmentor):
            raise TypeError(f"the teacher is a {type(self.teacher).__name__}; give an OpenVocabSegmentor")
        self.teacher.set_vocabulary(self.student.training_vocabulary or self.student.require_vocabulary())

    @property
    def teacher(self) -> OpenVocabSegmentor:
        """The method that labels."""
        return self._parts[0]

    def forward(
        self, inputs: Sequence[Tensor], data_samples: Sequence | None = None, mode: str = "loss"
    ) -> dict[str, Tensor] | list:
        """MMEngine's entry.

        Args:
            inputs: uint8 RGB photos ``[3, H, W]``; of one size for ``mode='loss'``.
            data_samples: of the photos.
            mode: ``'loss'`` or ``'predict'``: the student's.

        Raises:
            ValueError: for another mode.
        """
        if mode == "predict":
            return self.student(inputs, data_samples, mode="predict")
        if mode != "loss":
            raise ValueError(f"mode {mode!r}: give 'loss' or 'predict'")
        return self.student(inputs, self.labelled(inputs, data_samples), mode="loss")

    @torch.no_grad()
    def labelled(self, photos: Sequence[Tensor], data_samples: Sequence) -> list:
        """Copies of the data samples whose ``gt_sem_seg`` the teacher made."""
        prepared = [self.teacher.prepare(photo, tuple(photo.shape[1:])) for photo in photos]
        samples = []
        for labels, sample in zip(self.teacher.predict(prepared), data_samples, strict=True):
            sample = sample.clone()
            if "gt_sem_seg" in sample:
                ignored = sample.get("ignore_index", 255)
                given = sample.gt_sem_seg.data[0].to(labels.device)
                labels = torch.where(given == ignored, given.to(labels.dtype), labels)
            sample.gt_sem_seg = PixelData(data=labels[None])
            samples.append(sample)
        return samples
