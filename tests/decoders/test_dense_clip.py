"""DenseCLIP: prompts and context against their equations, the closed set, what trains."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ovseg.decoders.dense_clip import LearnedPrompts
from ovseg.registry import MODELS
from ovseg.weights import LoadedClip, get_card
from tests.small_models import small_clip

WORDS = ["cat", "polar bear", "grass"]


@pytest.fixture
def build(monkeypatch):
    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        clip = small_clip(layers=4)
        return LoadedClip(clip, mean, std, get_card("openai/ViT-B-16"), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)

    def make(**settings):
        torch.manual_seed(0)
        decoder = dict(type="DenseClipDecoder", classes=3, channels=16)
        return MODELS.build(
            dict(
                type="DenseClipSegmentor",
                backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16"),
                framing=dict(type="SlidingCrops", crop=64, stride=32, activation="none"),
                head=dict(type="MaxQueryHead", logit_scale=1.0),
                loss=dict(type="PixelLoss", auxiliary_weight=0.4),
                **{"decoder": decoder, "vocabulary": WORDS, **settings},
            )
        ).eval()

    return make


def photo(*size):
    return torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@torch.no_grad()
def test_prompts_written_out(build):
    clip, prompts = small_clip(), LearnedPrompts(32, count=8)
    tokens = prompts.tokens(open_clip.tokenize, ["cat", "polar bear", "a very long name of a thing"])
    start, end = 49406, 49407
    assert tokens.shape == (3, 5) and (tokens[:, 0] == start).all()
    assert tokens[0].tolist()[2:] == [end, 0, 0] and tokens[1, 3] == end and tokens[2, 4] == end
    got = prompts(clip, tokens)
    for row, ids in enumerate(tokens):
        x = torch.cat([clip.token_embedding(ids[:1]), prompts.contexts, clip.token_embedding(ids[1:])])
        assert len(x) == 13
        x = (x + clip.positional_embedding[:13])[None]
        for block in clip.transformer.resblocks:
            x = block(x)
        place = 8 + ids.tolist().index(end)
        torch.testing.assert_close(got[row], clip.ln_final(x)[0, place] @ clip.text_projection)


@torch.no_grad()
def test_scores_written_out(build):
    model = build()
    decoder, clip = model.decoder, model.backbone.clip
    decoder.gamma.fill_(0.7)
    image = model.backbone.normalise(photo(64, 64))[None]
    text = F.normalize(torch.randn(3, 32), dim=1)
    got = decoder(model.features(image), text)
    tokens = model.backbone.tower.run(model.backbone.tower.embed(image), (4, 4), depth=4)[0][0]
    z = clip.visual.ln_post(tokens) @ clip.visual.proj
    memory = decoder.context_decoder.photo_in(z)[None]
    words = decoder.context_decoder.words_in(text)[None]
    words = decoder.context_decoder.out(decoder.context_decoder.layers(words, memory))[0]
    refined = text + 0.7 * words
    scores = F.normalize(refined, dim=1) @ F.normalize(z[1:], dim=1).T
    torch.testing.assert_close(got.extras["auxiliary_scores"][0].flatten(1), scores / 0.07, rtol=1e-4, atol=1e-4)
    assert got.maps.shape == (1, 3, 16, 16)


def test_it_trains_prompts_decoder_and_image_tower_and_nothing_of_the_text_tower(build):
    model = build(trained=["decoder.*", "backbone.clip.visual.*"]).train()
    sample = SegDataSample(metainfo=dict(ori_shape=(64, 64)))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 3, (1, 64, 64)))
    losses = model([photo(64, 64)] * 2, [sample] * 2, mode="loss")
    assert set(losses) == {"loss_pixels", "loss_auxiliary_scores", "accuracy_pixels"}
    prediction = model.eval().decode([photo(64, 64)] * 2)
    plain = model.criterion(prediction, sample.gt_sem_seg.data.repeat(2, 1, 1).long(), 255)
    scores = F.interpolate(prediction.extras["auxiliary_scores"], size=(64, 64), mode="bilinear")
    expected = F.cross_entropy(scores, sample.gt_sem_seg.data.repeat(2, 1, 1).long())
    torch.testing.assert_close(plain["loss_auxiliary_scores"], 0.4 * expected)
    (losses["loss_pixels"] + losses["loss_auxiliary_scores"]).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert "decoder.prompts.contexts" in trained and "decoder.gamma" in trained
    assert not any(name.startswith(("backbone.clip.transformer", "backbone.clip.token")) for name in trained)


def test_words_follow_the_prompts(build):
    model = build()
    before = model.wording().queries.text.clone()
    with torch.no_grad():
        model.decoder.prompts.contexts += 1
    after = model.wording().queries.text
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model.training_text().detach())


def test_it_is_built_where_a_runner_looks_names_up(build):
    with DefaultScope.overwrite_default_scope("ovseg"):
        assert build().decoder.head.num_classes == 3


def test_the_set_of_classes_is_closed(build):
    model = build()
    assert model.predict([model.prepare(photo(96, 80), (96, 80))])[0].shape == (96, 80)
    with pytest.raises(ValueError, match="2 words for a model of 3 classes"):
        model.set_vocabulary(["cat", "dog"])
    with pytest.raises(ValueError, match="closed"):
        model.training_text([0])
    with pytest.raises(ValueError, match="taps are"):
        build(decoder=dict(type="DenseClipDecoder", classes=3, taps=(1, 2, 3)))
