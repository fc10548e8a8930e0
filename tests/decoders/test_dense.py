"""Finetuning from a training-free method: it begins as that method, and LoRA's terms train alone and can be merged."""

import copy

import open_clip
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ovseg import projections
from ovseg.registry import MODELS
from ovseg.weights import LoadedClip, get_card
from ovseg.weights.layouts import joint_projections
from tests.small_models import small_clip

ATTENTION = dict(type="NeighbourAttention", std=2.0)
TERMS = ["*.parametrizations.*.down", "*.parametrizations.*.up"]


@pytest.fixture
def build(monkeypatch):
    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(), mean, std, get_card("openai/ViT-B-16"), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)

    def make(kind, backbone=None, **settings):
        torch.manual_seed(0)
        clip = dict(type="ClipBackbone", weights="openai/ViT-B-16", **(backbone or {}))
        words = dict(vocabulary=["cat", "dog", "grass"], templates="plain", text_cache=False)
        return MODELS.build(dict(type=kind, backbone=clip, **words, **settings)).eval()

    return make


def decoder_of(build, **settings):
    return build(
        "DecoderSegmentor",
        decoder=dict(type="DenseDecoder", attention=ATTENTION),
        framing=dict(type="SlidingCrops", crop=64, stride=32, activation="none"),
        head=dict(type="MaxQueryHead", logit_scale=1.0),
        loss=dict(type="PixelLoss"),
        **settings,
    )


def image(*size):
    return torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@torch.no_grad()
def test_untrained_it_is_the_training_free_method(build):
    plain = build(
        "OpenVocabSegmentor",
        attention=ATTENTION,
        windows=dict(crop=64, stride=32),
        head=dict(type="MaxQueryHead", logit_scale=40.0),
    )
    tuned = decoder_of(build)
    photo = image(96, 128)
    scores = [m.score([m.prepare(photo, (96, 128))])[0].block() for m in (plain, tuned)]
    torch.testing.assert_close(scores[1], 40 * scores[0], rtol=1e-4, atol=1e-4)
    labels = [m.predict([m.prepare(photo, (96, 128))])[0] for m in (plain, tuned)]
    assert (labels[0] == labels[1]).float().mean() > 0.999


def test_low_rank_terms_train_alone_and_merge(build):
    model = decoder_of(build, backbone=dict(low_rank=dict(rank=2, alpha=4)), trained=TERMS)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 3 and all("visual" in name for name in trained)  # two projections of three blocks
    reference = decoder_of(build)
    photo = model.prepare(image(64, 64), (64, 64))
    torch.testing.assert_close(model.score([photo])[0].block(), reference.score([photo])[0].block())
    sample = SegDataSample(metainfo=dict(ori_shape=(64, 64)))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 3, (1, 64, 64)))
    frozen = copy.deepcopy({n: p for n, p in model.named_parameters() if n not in trained})
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    losses = []
    for _ in range(3):
        losses.append(model.train()([image(64, 64)], [sample], mode="loss")["loss_pixels"])
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n not in trained)
    clip = model.backbone.clip
    merged = projections.without_low_rank(clip.state_dict(), projections.low_rank_scale(clip))
    plain = decoder_of(build)
    plain.backbone.clip.load_state_dict(joint_projections(merged))
    with torch.no_grad():
        after = plain.score([photo])[0].block()
        torch.testing.assert_close(after, model.eval().score([photo])[0].block(), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(after, reference.score([photo])[0].block(), atol=1e-3)


@pytest.mark.parametrize("settings", [dict(rank=0), dict(rank=2, which="x")])
def test_terms_that_make_no_sense_are_refused(build, settings):
    with pytest.raises(ValueError, match="rank is"):
        projections.add_low_rank(small_clip(), **settings)
    with pytest.raises(ValueError, match="low_rank"):
        decoder_of(build, backbone=dict(low_rank=dict(order=3)))


def test_an_attention_that_changes_scores_is_refused(build):
    with pytest.raises(ValueError, match="HeadCleaning does more"):
        build("DecoderSegmentor", decoder=dict(type="DenseDecoder", attention=dict(type="HeadCleaning")))
