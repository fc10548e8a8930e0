"""A model that needs no weights: a pixel's class is its brightness. Registered by importing this module."""

from __future__ import annotations

import os
import signal

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.structures import PixelData
from torch import nn

from ovseg.registry import MODELS
from ovseg.text import Vocabulary


@MODELS.register_module()
class BrightnessModel(BaseModel):
    """Predicts ``brightness * classes``; can be told to fail or to be interrupted at a sample.

    Args:
        num_classes: classes predicted.
        fail_on: name of a sample at which it raises.
        interrupt_on: name of a sample at which the process gets ``interrupt_with``.
        die_once: file with the name of a sample; the process that meets it removes the file and is gone.
        log: file that gets the name of every sample seen.
        vocabulary: words that it claims to have.
    """

    def __init__(
        self,
        num_classes: int,
        fail_on: str | None = None,
        interrupt_on: str | None = None,
        log: str | None = None,
        die_once: str | None = None,
        vocabulary: object = None,
    ) -> None:
        super().__init__(BaseDataPreprocessor())
        self.gain = nn.Parameter(torch.ones(()), requires_grad=False)
        if vocabulary is not None:
            self.vocabulary = Vocabulary.of(vocabulary)
        self.num_classes, self.fail_on, self.interrupt_on, self.log = num_classes, fail_on, interrupt_on, log
        self.die_once = die_once

    def forward(self, inputs, data_samples, mode="predict"):
        assert mode == "predict" and not self.training and not torch.is_grad_enabled()
        for image, sample in zip(inputs, data_samples, strict=True):
            if self.log:
                with open(self.log, "a") as file:
                    file.write(f"{sample.name}\n")
            if sample.name == self.fail_on:
                raise RuntimeError("out of memory, say")
            if sample.name == self.interrupt_on:
                os.kill(os.getpid(), signal.SIGTERM)
            if self.die_once and os.path.exists(self.die_once) and open(self.die_once).read() == sample.name:
                os.unlink(self.die_once)
                os.kill(os.getpid(), signal.SIGKILL)
            brightness = image.float().mean(0)[None, None] * self.gain
            resized = F.interpolate(brightness, size=tuple(sample.ori_shape), mode="bilinear")[0]
            labels = (resized / 256 * self.num_classes).int().clamp(0, self.num_classes - 1)
            sample.pred_sem_seg = PixelData(data=labels)
        return data_samples

    def describe(self) -> dict:
        return dict(weights="none", precision="fp32", crop=0, threshold=0.0)
