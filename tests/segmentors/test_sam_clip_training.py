"""SAM-CLIP's training: both losses written out, what learns in each stage, and what stays."""

import math

import open_clip
import pytest
import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample

from ovseg.registry import MODELS
from ovseg.segmentors.sam_clip_training import masks_of_points
from ovseg.weights import LoadedClip, get_card
from tests.small_guides import use_small_guides
from tests.small_models import small_clip

ALL = [
    "head.*",
    "sam.image_encoder.*",
    "sam.mask_decoder.transformer.*",
    "sam.mask_decoder.iou_token.*",
    "sam.mask_decoder.mask_tokens.*",
    "sam.mask_decoder.output_upscaling.*",
    "sam.mask_decoder.output_hypernetworks_mlps.[1-3].*",
]


@pytest.fixture
def make(monkeypatch):
    use_small_guides(monkeypatch)

    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(), mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.sam_clip.load_clip", load)
    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)

    def build(**settings):
        torch.manual_seed(0)
        return MODELS.build(config() | settings)

    return build


def config():
    return dict(
        type="SamClipTrainer",
        student=dict(
            type="OpenVocabSegmentor",
            backbone=dict(type="SamClipBackbone", text="openai/ViT-B-16"),
            attention=dict(type="PlainAttention"),
            windows=dict(crop=64, stride=64),
            vocabulary=["cat", "dog"],
            templates="plain",
            text_cache=False,
        ),
        teacher=dict(type="ClipBackbone", weights="openai/ViT-B-16"),
        trained=ALL,
    )


def photos(*sizes):
    generator = torch.Generator().manual_seed(1)
    coarse = (torch.randint(0, 256, (3, h // 16, w // 16), generator=generator, dtype=torch.uint8) for h, w in sizes)
    return [c.repeat_interleave(16, 1).repeat_interleave(16, 2) for c in coarse]


def batch():
    return dict(
        inputs=photos((64, 64), (96, 96), (64, 64)),
        prompted_inputs=photos((128, 96), (112, 128)),
        prompted_points=[torch.tensor([[10.0, 20.0], [60.0, 100.0]]), torch.tensor([[100.0, 50.0]])],
    )


def shaken(trainer):
    """A student that is no longer its teacher."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in [*trainer.sam.parameters(), *trainer.head.parameters()]:
            parameter.add_(0.02 * torch.randn_like(parameter))
    return trainer


def test_the_head_alone_learns_first(make):
    trainer = make(trained=["head.*"]).train()
    losses = trainer(inputs=batch()["inputs"], mode="loss")
    assert set(losses) == {"loss_clip"}
    losses["loss_clip"].backward()
    for name, parameter in trainer.named_parameters():
        moves = parameter.grad is not None and parameter.grad.abs().sum() > 0
        assert moves == name.startswith("head."), name


def test_all_learn_together_and_the_teachers_stay(make):
    trainer = shaken(make()).train()
    teachers = [p.clone() for part in (trainer.teacher, trainer.original) for p in part.parameters()]
    optimiser = torch.optim.AdamW([p for p in trainer.parameters() if p.requires_grad], lr=1e-3, weight_decay=0)
    totals = []
    for step in range(8):
        losses = trainer(**batch(), mode="loss")
        assert set(losses) == {"loss_clip", "loss_focal", "loss_dice"}
        optimiser.zero_grad()
        sum(losses.values()).backward()
        if not step:
            for name, parameter in trainer.named_parameters():
                assert (parameter.grad is not None) == parameter.requires_grad, name
        optimiser.step()
        totals.append(float(sum(losses.values()).detach()))
    assert totals[-1] < 0.9 * totals[0]
    after = [p for part in (trainer.teacher, trainer.original) for p in part.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(teachers, after, strict=True))
    assert {key.partition(".")[0] for key in trainer.state_dict()} == {"sam", "head"}


@torch.no_grad()
def test_the_photos_loss_written_out(make):
    trainer, total = shaken(make()), 0.0
    backbone, clip = trainer.student.backbone, trainer.teacher
    inputs = batch()["inputs"]
    for photo in inputs:
        ours = backbone.head(backbone.tower.embed(backbone.normalise(photo)[None]))[0]
        seen = F.interpolate(clip.normalise(photo)[None], (64, 64), mode="bilinear", antialias=True)
        theirs = clip.clip.encode_image(seen)[0]
        total += 1 - float(ours @ theirs / ours.norm() / theirs.norm())
    found = trainer(inputs=inputs, mode="loss")["loss_clip"]
    assert float(found) == pytest.approx(total / 3, abs=1e-5)
    assert float(make(clip_weight=3.0).eval()(inputs=inputs, mode="loss")["loss_clip"]) == pytest.approx(
        3 * float(make()(inputs=inputs, mode="loss")["loss_clip"]), rel=1e-5
    )


@torch.no_grad()
def test_the_prompts_losses_written_out(make):
    trainer, focal, dice, data = shaken(make(sam_weight=2.0)), [], [], batch()
    for photo, points in zip(data["prompted_inputs"], data["prompted_points"], strict=True):
        ours, theirs = (masks_of_points(sam, photo, points).double() for sam in (trainer.sam, trainer.original))
        assert ours.shape == (len(points), 3, math.ceil(photo.shape[1] / 4), math.ceil(photo.shape[2] / 4))
        for logits, target in zip(ours.flatten(0, 1), (theirs > 0).double().flatten(0, 1), strict=True):
            p, t = logits.sigmoid(), target
            right = torch.where(t > 0, p, 1 - p)
            focal.append((-torch.where(t > 0, 0.25, 0.75) * (1 - right) ** 2 * right.log()).mean())
            dice.append(1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    losses = trainer(**data, mode="loss")
    assert float(losses["loss_focal"]) == pytest.approx(2 * 20 * float(torch.stack(focal).mean()), rel=1e-4)
    assert float(losses["loss_dice"]) == pytest.approx(2 * float(torch.stack(dice).mean()), rel=1e-4)


@torch.no_grad()
def test_masks_of_points_are_segment_anythings(make):
    sam, (photo,) = make().original, photos((128, 96))
    points = torch.tensor([[10.0, 20.0], [60.0, 100.0]])
    got = masks_of_points(sam, photo, points)
    for i, point in enumerate(points):
        request = dict(
            image=photo.float(),
            point_coords=point[None, None],
            point_labels=torch.ones(1, 1),
            original_size=(128, 96),
        )
        low = sam([request], multimask_output=True)[0]["low_res_logits"][0]
        torch.testing.assert_close(got[i], low[:, :32, :24], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_validation_is_the_students(make):
    trainer = make()
    (sample,) = trainer(photos((64, 96)), [SegDataSample(metainfo=dict(ori_shape=(64, 96)))], mode="predict")
    assert sample.pred_sem_seg.data.shape == (1, 64, 96)


def test_what_does_not_fit_is_said(make):
    with pytest.raises(ValueError, match="give a SamClipBackbone"):
        make(student=config()["student"] | dict(backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16")))
    with pytest.raises(ValueError, match="matches no parameter"):
        make(trained=["clip.*"])
    with pytest.raises(ValueError, match="come together"):
        make()(inputs=batch()["inputs"], prompted_inputs=batch()["prompted_inputs"], mode="loss")
    with pytest.raises(ValueError, match="mode 'tensor'"):
        make()(inputs=batch()["inputs"], mode="tensor")
