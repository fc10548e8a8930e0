"""SegCLIP's training from captions and its background without words."""

import open_clip
import pytest
import torch
from mmseg.structures import SegDataSample

from ovseg.registry import MODELS
from ovseg.weights import LoadedClip, get_card
from tests.small_models import small_clip

TRAINED = [
    "decoder.*",
    "reconstruction.*",
    "backbone.clip.visual.conv1.*",
    "backbone.clip.visual.transformer.*",
    "backbone.clip.transformer.*",
    "backbone.clip.logit_scale",
]


@pytest.fixture
def make(monkeypatch):
    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(layers=4), mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)

    def build(**settings):
        torch.manual_seed(0)
        plain = dict(
            type="SegClipSegmentor",
            backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16"),
            decoder=dict(type="SegClipDecoder", groups=4, centres=4),
            reconstruction=dict(decoder_width=16, decoder_heads=2),
            framing=dict(type="SlidingCrops", crop=64, stride=64, activation="one_hot"),
            head=dict(type="MaxQueryHead", softmax=False, within_reach=True, threshold=0.99),
            vocabulary=dict(names=["wall; sky", "cat", "dog; hound"], separator=";", background=0),
            templates="plain",
            text_cache=False,
            trained=TRAINED,
        )
        return MODELS.build(plain | settings)

    return build


def batch(count=3):
    torch.manual_seed(1)
    coarse = torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8)
    return dict(
        inputs=list(coarse.repeat_interleave(16, 2).repeat_interleave(16, 3)),
        captions=["a cat.", "a dog on the grass.", "a red bus." + " very" * 60][:count],
        superpixels=[torch.arange(16).view(4, 4) // 4 for _ in range(count)],
    )


def test_all_three_losses_reach_what_trains_and_nothing_else(make):
    model = make().train()
    losses = model(**batch(), mode="loss")
    assert {n for n in losses if "loss" in n} == {f"loss_{n}" for n in ("contrastive", "reconstruction", "superpixel")}
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for name, parameter in model.named_parameters():
        moves = parameter.grad is not None and parameter.grad.abs().sum() > 0
        assert moves == parameter.requires_grad, name
    assert model.backbone.clip.visual.class_embedding.grad is None


def test_a_few_steps_bring_photos_to_their_captions(make):
    model, data = make().train(), batch()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    totals = []
    for step in range(12):
        torch.manual_seed(step)
        losses = model(**data, mode="loss")
        optimiser.zero_grad()
        sum(value for name, value in losses.items() if "loss" in name).backward()
        optimiser.step()
        totals.append(float(losses["loss_contrastive"].detach()))
    assert totals[-1] < 0.8 * totals[0]


def test_losses_are_weighted(make):
    plain, weighted = make(), make(weights_of_losses=dict(superpixel=0.25, reconstruction=2.0))
    found = []
    for model in (plain, weighted):
        torch.manual_seed(3)
        found.append(model.eval()(**batch(), mode="loss"))
    torch.testing.assert_close(found[1]["loss_superpixel"], 0.25 * found[0]["loss_superpixel"])
    torch.testing.assert_close(found[1]["loss_reconstruction"], 2 * found[0]["loss_reconstruction"])


def test_long_captions_are_cut_and_short_ones_are_clips_own(make):
    model = make(caption_tokens=12)
    with torch.no_grad():
        got = model.encode_captions(batch()["captions"])
        own = model.backbone.clip.encode_text(open_clip.tokenize(["a cat."]), normalize=True)
        cut = model.backbone.clip.encode_text(open_clip.tokenize(["a red bus." + " very" * 6]), normalize=True)
    torch.testing.assert_close(got[:1], own, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got[2:], cut, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_background_has_no_words_and_never_all_of_a_photo(make):
    model = make().eval()
    photo = model.prepare(batch()["inputs"][0], (64, 64))
    (encoded,) = model.encode([photo])
    classes = model.prediction(encoded, model.wording()).classes
    assert classes.shape[2] == 5 and not classes[..., :2].any() and classes[..., 2:].any()
    assert model.predict([photo])[0].any()  # what is best of the photo keeps its name
    without = make(head=dict(type="MaxQueryHead", softmax=False, threshold=0.999)).eval()
    assert not without.predict([photo])[0].any()
    assert (
        model.prediction(encoded, make(head=dict(type="MaxQueryHead", softmax=False)).wording()).classes[..., :2].any()
    )


def test_a_photo_s_labels_do_not_depend_on_the_batch(make):
    model, images = make().eval(), batch()["inputs"]
    samples = [SegDataSample(metainfo=dict(ori_shape=(64, 64))) for _ in images]
    together = [sample.pred_sem_seg.data for sample in model(images, samples)]
    for image, labels in zip(images, together, strict=True):
        alone = model([image], [SegDataSample(metainfo=dict(ori_shape=(64, 64)))])[0].pred_sem_seg.data
        assert torch.equal(alone, labels)


def test_what_does_not_fit_is_said(make):
    with pytest.raises(ValueError, match="needs a SegClipDecoder"):
        make(decoder=dict(type="RelationDecoder"))
    with pytest.raises(ValueError, match="no loss 'pixels'"):
        make(weights_of_losses=dict(pixels=1))
    with pytest.raises(ValueError, match="the pipeline needs Superpixels"):
        make()(batch()["inputs"], mode="loss")
    with pytest.raises(ValueError, match="does not train"):
        make(reconstruction=None, trained=["decoder.*"])(**batch(), mode="loss")
    model = make(vocabulary=dict(names=["wall"], background=0)).eval()
    with pytest.raises(ValueError, match="all words are names of the background"):
        model.predict([model.prepare(batch()["inputs"][0], (64, 64))])
