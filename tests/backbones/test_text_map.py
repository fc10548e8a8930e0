"""Talk2DINO's parts: words mapped into DINOv2's space, and the cleaning of the background by the heads."""

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg import Segmenter
from ovseg.attention import HeadCleaning, PlainAttention
from ovseg.backbones import TextMappedBackbone
from ovseg.backbones.dino import trunk_tower
from ovseg.encoder import WindowBatch
from ovseg.errors import SetupError
from ovseg.export import not_exportable_reasons
from ovseg.queries import Queries
from ovseg.scores import ScoreMap
from ovseg.segmentors import OpenVocabSegmentor
from ovseg.structures import AttentionContext
from ovseg.text import TextEncoder, Vocabulary
from ovseg.weights import CheckpointError, Loaded, LoadedClip, get_card, load_heads
from ovseg.weights.text_map import TextMap
from ovseg.windows import SlidingWindows
from tests.small_guides import MEAN, STD, small_dinov2, small_text_map, use_small_guides
from tests.small_models import images, small_clip

WORDS = ["background", "cat", "dog; puppy", "grass"]


@pytest.fixture
def small(monkeypatch):
    import open_clip

    def load(name, checkpoint=None):
        return LoadedClip(
            model=small_clip(), tokenizer=open_clip.tokenize, mean=MEAN, std=STD, card=get_card(name), sha256="1"
        )

    use_small_guides(monkeypatch)
    monkeypatch.setattr("ovseg.backbones.text_map.load_clip", load)


def segmentor(small=None, **options) -> OpenVocabSegmentor:
    attention = options.pop("attention", dict(type="HeadCleaning", weight=0.2))
    head = dict(type="MaxQueryHead", softmax=False, threshold=options.pop("threshold", 0.5))
    options = dict(windows=dict(crop=56, stride=28, align_corners=True), probability_scale=1.0) | options
    return OpenVocabSegmentor(
        backbone=dict(type="TextMappedBackbone"),
        vocabulary=dict(names=WORDS, background=0),
        templates="talk2dino",
        attention=attention,
        text_cache=False,
        queries_apart=True,
        head=head,
        **options,
    ).eval()


def test_words_are_the_map_of_the_mean_of_raw_outputs(small):
    model = segmentor()
    clip = small_clip()
    prompts = model.text_encoder.templates.prompts("puppy")
    assert len(prompts) == 7 and "a bad photo of a puppy." in prompts
    raw = clip.encode_text(model.backbone.tokenizer(prompts)).mean(0)
    want = F.normalize(small_text_map()(raw), dim=-1)
    torch.testing.assert_close(model.text[model.vocabulary.queries.index("puppy")], want, atol=1e-5, rtol=1e-5)
    (sentence,) = model.text_encoder.encode_prompts(["a red puppy"])
    raw = clip.encode_text(model.backbone.tokenizer(["a red puppy"]))[0]
    torch.testing.assert_close(sentence, F.normalize(small_text_map()(raw), dim=-1), atol=1e-5, rtol=1e-5)


def test_a_changed_map_gives_other_words_and_is_cached_apart(tmp_path, small):
    backbone = TextMappedBackbone()
    encoders = [
        TextEncoder(backbone.clip, backbone.tokenizer, "plain", tmp_path, text_map=text_map)
        for text_map in (None, backbone.text_map)
    ]
    words = Vocabulary.of(["cat"])
    first, mapped = (encoder.encode(words) for encoder in encoders)
    assert first.shape == (1, 32) and mapped.shape == (1, 48)
    assert torch.equal(encoders[1].encode(words), mapped), "from the cache"
    before = encoders[1].fingerprint()
    with torch.no_grad():
        backbone.text_map.linear_layer.bias.add_(0.5)
    assert encoders[1].fingerprint() != before
    assert not torch.allclose(encoders[1].encode(words), mapped, atol=1e-3)
    with pytest.raises(ValueError, match="templates_apart"):
        TextEncoder(backbone.clip, backbone.tokenizer, templates_apart=True, text_map=backbone.text_map)


def test_patches_are_those_of_timm(small):
    model, timm_model = segmentor(), small_dinov2()
    window = images(1, 3, 56, 42)
    found = model.encoder.encode(WindowBatch(window))
    table = timm_model.pos_embed.reshape(1, 5, 5, 48).permute(0, 3, 1, 2)
    resized = F.interpolate(table, size=(4, 3), mode="bicubic", antialias=True, align_corners=False)
    aliased = F.interpolate(table, size=(4, 3), mode="bicubic", align_corners=False)
    assert not torch.allclose(resized, aliased, atol=1e-3)
    x = timm_model.patch_embed.proj(window).flatten(2).transpose(1, 2) + resized.flatten(2).transpose(1, 2)
    x = torch.cat([timm_model.cls_token, timm_model.reg_token, x], 1)
    want = timm_model.norm(timm_model.blocks(x))[:, 5:]
    assert found.grid == (4, 3) and found.num_prefix == 0
    torch.testing.assert_close(found.tokens, want, atol=1e-4, rtol=1e-4)
    mean = torch.tensor(MEAN).view(3, 1, 1) * 255
    torch.testing.assert_close(model.backbone.normalise(mean.expand(3, 2, 2)), torch.zeros(3, 2, 2), atol=1e-4, rtol=0)


def cleaned_plainly(scores, looks, tokens, text, weight):
    """The description, head by head and word by word: ``scores [Q, N]``, ``looks [H, N]``, ``tokens [N, D]``."""
    embeddings = [F.normalize((a[:, None] * tokens).mean(0), dim=0) for a in looks]
    maps = []
    for word in text:
        shares = torch.stack([word @ e for e in embeddings]).softmax(0)
        maps.append(sum(u * a for u, a in zip(shares, looks, strict=True)).softmax(0))
    maps = torch.stack(maps)
    maps = (maps - maps.min()) / maps.max()
    maps = maps * (scores.max() - scores.min()) + scores.min()
    return (scores + weight * maps) / (1 + weight)


@settings(max_examples=25, deadline=None)
@given(
    queries=st.integers(1, 7),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    weight=st.floats(0.01, 2),
    background=st.booleans(),
    seed=st.integers(0, 999),
)
def test_cleaning_is_what_the_paper_says(queries, grid, weight, background, seed):
    g = torch.Generator().manual_seed(seed)
    tower, attention = trunk_tower(small_dinov2()), HeadCleaning(weight)
    x = torch.randn(2, 5 + grid[0] * grid[1], 48, generator=g)
    found = attention(AttentionContext(x, grid, tower))
    want = tower.post_norm(PlainAttention()(AttentionContext(x, grid, tower)).tokens)
    torch.testing.assert_close(found.tokens, want)
    text = F.normalize(torch.randn(queries + background, 48, generator=g), dim=-1)
    words = Queries(
        text,
        torch.arange(len(text)) + (not background),
        queries + 1,
        cut_to=0 if background else None,
        probability_scale=1.0,
        apart=True,
    )
    scores = words.scores(words.products(F.normalize(found.patches, dim=-1).unflatten(1, grid)))
    got = attention.rescore(scores, found.kept, words)
    q, k, _ = tower.blocks[-1].qkv(tower.blocks[-1].norm1(x))
    own = slice(int(background), None)
    for w in range(2):
        looks = torch.stack([k[w, h, 5:] @ q[w, h, 0] * 48**-0.5 * 3**0.5 for h in range(3)])
        want = cleaned_plainly(scores[w, own].flatten(1), looks, found.patches[w], text[own], weight)
        torch.testing.assert_close(got[w, own].flatten(1), want, atol=1e-5, rtol=1e-4)
        assert not background or (got[w, 0] == 0).all(), "the background's own words have no score"


def test_a_threshold_gives_pixels_to_the_background_and_its_words_to_nobody(small):
    model = segmentor()
    photo = model.prepare(torch.randint(0, 256, (3, 70, 91), dtype=torch.uint8), (70, 91))
    (scores,) = model.score([photo])
    values = scores.block()
    assert (values[0] == 0).all() and (values[1:] > 0.2).all()
    best, query = values.max(0)
    threshold = float(best.median())
    model.head.threshold = threshold
    (labels,) = model.predict([photo])
    want = torch.where(best < threshold, 0, model.query_to_class[query])
    assert (labels == want).float().mean() > 0.999 and 0 < (labels == 0).float().mean() < 1
    model.head.threshold = 0.0
    assert (model.score([photo])[0].block()[0] > 0.2).all(), "without a threshold it is a class like any other"


def test_an_image_does_not_depend_on_what_is_in_the_batch(small):
    model = segmentor()
    photos = [
        model.prepare(torch.randint(0, 256, (3, h, w), dtype=torch.uint8), (h, w)) for h, w in ((70, 91), (56, 60))
    ]
    together = [m.block() for m in model.score(photos)]
    model.windows.batch = 1
    for photo, block in zip(photos, together, strict=True):
        torch.testing.assert_close(model.score([photo])[0].block(), block, atol=1e-6, rtol=1e-5)


def test_corners_are_aligned_through_the_whole_chain():
    windows = SlidingWindows(crop=28, stride=20, align_corners=True)
    layout = windows.layout(28, 48, 14)
    scores = torch.rand(2, 1, 2, 2)
    got = ScoreMap.from_windows(scores, layout, (30, 40)).block()[0]
    total, visits = torch.zeros(28, 48), torch.zeros(28, 48)
    for i, x in enumerate((0, 20)):
        up = F.interpolate(scores[i : i + 1], size=(28, 28), mode="bilinear", align_corners=True)
        total[:, x : x + 28] += up[0, 0]
        visits[:, x : x + 28] += 1
    want = F.interpolate((total / visits)[None, None], size=(30, 40), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    assert windows.describe()["align_corners"] is True and "align_corners" not in SlidingWindows().describe()


def test_what_does_not_fit_is_told(small, monkeypatch):
    with pytest.raises(ValueError, match="must not be negative"):
        HeadCleaning(-1)
    with pytest.raises(ValueError, match="queries_apart needs a probability_scale"):
        segmentor(probability_scale=None)
    with pytest.raises(ValueError, match="HeadCleaning changes the scores of windows"):
        segmentor(stitch=dict(type="FeatureSplice"))
    with pytest.raises(ValueError, match="pos_embed is 'nearest'"):
        TextMappedBackbone(pos_embed="nearest")
    with pytest.raises(NotImplementedError, match="no embedding of a whole picture"):
        TextMappedBackbone().clip.encode_image(images(1, 3, 32, 32))
    reasons = " ".join(not_exportable_reasons(segmentor()))
    assert "HeadCleaning changes the cosines" in reasons and "align_corners" in reasons
    wide = Loaded(small_text_map(33), MEAN, STD, get_card("talk2dino/vitb14_reg"), "0")
    monkeypatch.setattr("ovseg.backbones.text_map.load_heads", lambda name, checkpoint=None: wide)
    with pytest.raises(ValueError, match="goes from 33 to 48 numbers, but the words .* have 32"):
        TextMappedBackbone()
    with pytest.raises(SetupError, match="talk2dino compares words of openai/ViT-B-16 .* nano is neither"):
        Segmenter("nano", "talk2dino")


def test_either_half_of_the_pair_names_the_method(small):
    for name in ("openai/ViT-B-16", "dinov2/vitb14_reg"):
        model = Segmenter(name, "talk2dino")
        assert isinstance(model.model.backbone, TextMappedBackbone) and "weights:" not in model.protocol
        text = json.dumps(model.model.describe()) + repr(model.model)
        assert " at 0x" not in text and "dinov2/vitb14_reg + openai/ViT-B-16 + talk2dino/vitb14_reg" in text
        assert '"queries_apart": true' in text and "HeadCleaning(weight=0.2, " in text


def test_the_file_of_a_map(tmp_path):
    state = TextMap(6, 5, 4).state_dict()
    torch.save(state, tmp_path / "map.pth")
    loaded = load_heads("talk2dino/vitb14_reg", checkpoint=tmp_path / "map.pth").model
    words = torch.randn(3, 6)
    want = F.linear(
        F.linear(words, state["linear_layer.weight"], state["linear_layer.bias"]).tanh(),
        state["hidden_layers.0.weight"],
        state["hidden_layers.0.bias"],
    )
    torch.testing.assert_close(loaded(words), want)
    for broken in ({"a": torch.ones(2)}, state | {"hidden_layers.0.weight": torch.ones(4, 7)}):
        torch.save(broken, tmp_path / "broken.pth")
        with pytest.raises(CheckpointError, match="not Talk2DINO's map"):
            load_heads("talk2dino/vitb14_reg", checkpoint=tmp_path / "broken.pth")
    del state["linear_layer.bias"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match="linear_layer.bias"):
        load_heads("talk2dino/vitb14_reg", checkpoint=tmp_path / "cut.pth")
