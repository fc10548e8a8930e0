"""MaskCLIP+: a decoder learns what a training-free method says, and needs nothing else."""

import open_clip
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ovseg.registry import MODELS
from ovseg.weights import LoadedClip, get_card
from tests.small_models import small_clip

WORDS = ["cat", "dog", "grass"]


@pytest.fixture
def trainer(monkeypatch):
    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(), mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)
    backbone = dict(type="ClipBackbone", weights="openai/ViT-B-16")
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type="PseudoLabelTrainer",
            student=dict(
                type="DecoderSegmentor",
                backbone=backbone,
                decoder=dict(type="DeepLabDecoder", network="resnet10t", dilations=(1, 2)),
                framing=dict(type="WholePhoto", pad_multiple=None, cut_padding=False, activation="none"),
                loss=dict(type="PixelLoss", logit_scale=10.0),
                trained=["decoder.*"],
                vocabulary=WORDS,
                templates="plain",
                text_cache=False,
            ),
            teacher=dict(
                type="OpenVocabSegmentor",
                backbone=backbone,
                attention=dict(type="ValueAttention"),
                templates="plain",
                text_cache=False,
            ),
        )
    )


def photos(count=2, side=64):
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randint(0, 256, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return list(coarse.repeat_interleave(side // 4, 2).repeat_interleave(side // 4, 3))


def samples(count=2, labels=None):
    found = [SegDataSample(metainfo=dict(ori_shape=(64, 64))) for _ in range(count)]
    for sample in found if labels is not None else ():
        sample.gt_sem_seg = PixelData(data=labels[None].clone())
    return found


def test_labels_are_the_teachers_but_for_the_padding(trainer):
    given = torch.full((64, 64), 1, dtype=torch.int32)
    given[:, 48:] = 255
    inputs, before = photos(), samples(labels=given)
    labelled = trainer.labelled(inputs, before)
    expected = trainer.teacher(inputs, samples(), mode="predict")
    for sample, teacher in zip(labelled, expected, strict=True):
        assert (sample.gt_sem_seg.data[0, :, 48:] == 255).all()
        assert torch.equal(sample.gt_sem_seg.data[0, :, :48], teacher.pred_sem_seg.data[0, :, :48])
        assert len(teacher.pred_sem_seg.data.unique()) > 1
    assert torch.equal(before[0].gt_sem_seg.data[0], given)


def test_the_student_comes_to_agree_with_the_teacher(trainer):
    assert not any("teacher" in name for name in trainer.state_dict())
    inputs = photos()
    frozen = {n: p.clone() for n, p in trainer.named_parameters() if not p.requires_grad}
    optimiser = torch.optim.Adam([p for p in trainer.parameters() if p.requires_grad], lr=3e-3)
    trainer.train()
    first = last = None
    for _ in range(12):
        losses = trainer(inputs, samples(), mode="loss")
        optimiser.zero_grad()
        losses["loss_pixels"].backward()
        optimiser.step()
        last = float(losses["loss_pixels"].detach())
        first = last if first is None else first
    assert last < 0.6 * first
    assert all(torch.equal(p, frozen[n]) for n, p in trainer.named_parameters() if n in frozen)
    assert trainer.eval()(inputs, samples(), mode="predict")[0].pred_sem_seg.data.shape == (1, 64, 64)


def test_other_parts_are_refused(trainer):
    with pytest.raises(ValueError, match="give a DecoderSegmentor"):
        config = dict(
            type="OpenVocabSegmentor", backbone=dict(type="ClipBackbone"), attention=dict(type="PlainAttention")
        )
        MODELS.build(dict(type="PseudoLabelTrainer", student=config, teacher=config))
