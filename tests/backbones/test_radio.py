"""RADSeg's parts: RADIO against that of transformers, its language head, both attentions, the peak rule."""

import json

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg import Segmenter
from ovseg.attention import SelfRecursiveAttention
from ovseg.backbones import DinoBackbone, RadioBackbone
from ovseg.backbones.dino import trunk_tower
from ovseg.errors import SetupError
from ovseg.heads import MaxQueryHead
from ovseg.photo import Photo
from ovseg.scores import RefinedScoreMap, ScoreMap
from ovseg.stitches import SelfAggregatedSplice
from ovseg.structures import AttentionContext
from ovseg.weights import CheckpointError, Loaded, LoadedClip, get_card, load_dino, load_heads
from ovseg.weights.radio import AdaptorHead
from tests.small_guides import MEAN, STD, shake, small_language_head, small_radio, use_small_guides
from tests.small_models import images, small_clip


@pytest.fixture
def small(monkeypatch):
    def load(name, checkpoint=None):
        return LoadedClip(small_clip(), MEAN, STD, get_card(name), "1", tokenizer=open_clip.tokenize)

    use_small_guides(monkeypatch)
    monkeypatch.setattr("ovseg.backbones.radio.load_clip", load)


# ---------------------------------------------------------------------------------------------------------- the file
def nvidia_file(model) -> dict[str, torch.Tensor]:
    """transformers' RADIO in the keys of NVIDIA's files, beside what these hold besides."""
    state = model.state_dict()
    out = {"radio_model.summary_idxs": torch.tensor([0, 1]), "radio_model.input_conditioner.norm_mean": torch.ones(3)}
    trunk = "radio_model.model."
    out[trunk + "patch_generator.embedder.weight"] = state["embeddings.patch_projection.weight"]
    out[trunk + "patch_generator.pos_embed"] = state["embeddings.position_embedding"]
    out[trunk + "patch_generator.cls_token.token"] = state["embeddings.cls_register_token"]
    names = {"norm1": "norm1", "norm2": "norm2", "attention.o_proj": "attn.proj"}
    names |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for i in range(model.config.num_hidden_layers):
        ours, theirs = f"encoder.layer.{i}.", f"{trunk}blocks.{i}."
        for kind in ("weight", "bias"):
            out |= {f"{theirs}{new}.{kind}": state[f"{ours}{old}.{kind}"] for old, new in names.items()}
            parts = [state[f"{ours}attention.{name}_proj.{kind}"] for name in "qkv"]
            out[f"{theirs}attn.qkv.{kind}"] = torch.cat(parts)
        for n in (1, 2):
            out[f"{theirs}ls{n}.grandma"] = state[f"{ours}layer_scale{n}.lambda1"]
    return out


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (128, 128), (80, 32)])
def test_patches_are_those_of_transformers_radio(tmp_path, monkeypatch, size):
    radio = pytest.importorskip("transformers.models.radio")
    config = radio.RadioConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_img_size=128,
        num_cls_tokens=3,
        num_registers=5,
    )
    torch.manual_seed(0)
    theirs = shake(radio.RadioModel(config), 0.05)
    theirs.make_preprocessor_external()
    torch.save(nvidia_file(theirs), tmp_path / "radio.pth")
    asked = {}

    def create(arch, pretrained, num_classes, dynamic_img_size, img_size):
        asked.update(arch=arch, img_size=img_size)
        return small_radio(img_size)

    monkeypatch.setattr(timm, "create_model", create)
    loaded = load_dino("radio/vitb16", checkpoint=tmp_path / "radio.pth")
    assert asked == {"arch": "vit_base_patch16_radio_v3", "img_size": 128}
    monkeypatch.setattr("ovseg.backbones.dino.load_dino", lambda name, checkpoint=None: loaded)
    guide = DinoBackbone("radio/vitb16", pos_embed="square")
    window = images(2, 3, *size)
    want = theirs(window).features
    torch.testing.assert_close(guide.patches(window).tokens, want, atol=1e-5, rtol=1e-4)
    assert guide.tower.num_prefix == 8 and guide.patches(window).grid == (size[0] // 16, size[1] // 16)
    torch.save({k: v for k, v in nvidia_file(theirs).items() if "blocks.1.attn.qkv" not in k}, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match="looks like a RADIO|2 missing: blocks.1.attn.qkv"):
        load_dino("radio/vitb16", checkpoint=tmp_path / "cut.pth")


def test_positions_are_the_corner_of_a_square():
    tower = trunk_tower(small_radio())
    table = tower.trunk.pos_embed[0].T.unflatten(1, (8, 8))[None]
    for mode, corners in (("square", False), ("square_corners", True)):
        want = F.interpolate(table, size=(5, 5), mode="bilinear", align_corners=corners)[0, :, :3]
        found = tower.positions(tower.trunk.pos_embed[0], (3, 5), mode)[0]
        torch.testing.assert_close(found, want.flatten(1).T, atol=1e-6, rtol=1e-5)


def test_the_file_of_a_head(tmp_path):
    head, path = small_language_head(), tmp_path / "head.pth"
    state, x = head.state_dict(), torch.randn(3, 64)
    y = F.linear(x, state["fc1.weight"], state["fc1.bias"])
    for i in range(2):
        b = f"blocks.{i}."
        z = F.gelu(F.layer_norm(y, (48,), state[b + "0.weight"], state[b + "0.bias"]))
        y = y + F.linear(z, state[b + "2.weight"], state[b + "2.bias"])
    z = F.gelu(F.layer_norm(y, (48,), state["final.0.weight"], state["final.0.bias"]))
    want = F.linear(z, state["final.2.weight"], state["final.2.bias"])
    adaptor = "radio_model.adaptors.siglip2-g.{}."
    inside = {adaptor.format("head_mlp") + k: v for k, v in state.items()}
    inside |= {adaptor.format("feat_mlp") + k: v + 1 for k, v in state.items()}
    others = {"radio_model.adaptors.clip.head_mlp." + k: v + 1 for k, v in state.items()}
    for file in (state, inside, inside | others, {"summary." + k: v for k, v in state.items()}):
        torch.save(file, path)
        loaded = load_heads("radio/siglip2_vitb16", checkpoint=path)
        assert isinstance(loaded.model, AdaptorHead)
        torch.testing.assert_close(loaded.model(x), want, atol=1e-5, rtol=1e-4)
    torch.save({"weight": torch.ones(32, 64), "bias": torch.zeros(32)}, path)
    torch.testing.assert_close(load_heads("radio/siglip2_vitb16", checkpoint=path).model(x)[:, 0], x.sum(1))
    torch.save(others | {k.replace("clip", "dino"): v for k, v in others.items()}, path)
    with pytest.raises(CheckpointError, match="holds .* not one head of RADIO"):
        load_heads("radio/siglip2_vitb16", checkpoint=path)
    del inside[adaptor.format("head_mlp") + "fc1.bias"]
    torch.save(inside, path)
    with pytest.raises(CheckpointError, match="1 missing: fc1.bias"):
        load_heads("radio/siglip2_vitb16", checkpoint=path)


# -------------------------------------------------------------------------------------------------------- operators
@settings(max_examples=15, deadline=None)
@given(scale=st.floats(0.5, 20), grid=st.tuples(st.integers(1, 4), st.integers(1, 4)), seed=st.integers(0, 99))
def test_the_block_attends_by_its_own_output(scale, grid, seed):
    torch.manual_seed(seed)
    tower = trunk_tower(small_radio())
    x = torch.randn(2, 8 + grid[0] * grid[1], 64)
    found = SelfRecursiveAttention(scale)(AttentionContext(x, grid, tower))
    block = tower.blocks[-1].block
    for w in range(2):
        y = block.norm1(x[w])
        q, k, v = (t.unflatten(1, (2, 32)).transpose(0, 1) for t in block.attn.qkv(y).chunk(3, dim=-1))
        first = ((q @ k.transpose(1, 2)) / 32**0.5).softmax(-1) @ v
        first = block.attn.proj(first.transpose(0, 1).flatten(1)).unflatten(1, (2, 32))
        mixed = []
        for h in range(2):
            unit = F.normalize(first[:, h], dim=-1)
            logits = scale * unit @ unit.T
            mixed.append(logits.masked_fill(logits < 0, -torch.inf).softmax(-1) @ v[h])
        z = x[w] + block.ls1(block.attn.proj(torch.cat(mixed, dim=-1)))
        want = z + block.ls2(block.mlp(block.norm2(z)))
        torch.testing.assert_close(found.tokens[w], want, atol=1e-4, rtol=1e-3)
    assert found.num_prefix == 8 and not SelfRecursiveAttention.post_norm
    assert not torch.allclose(block.ls1.gamma, torch.ones(64)), "the first output is without the layer's scale"


def test_features_aggregate_over_the_photo_by_themselves():
    torch.manual_seed(0)
    whole, stitch = torch.randn(16, 5, 7), SelfAggregatedSplice(scale=4.0)
    found = stitch.aggregated(whole, Photo(torch.zeros(3, 80, 112), (80, 112)))
    features = whole.flatten(1).T
    unit = F.normalize(features, dim=-1)
    logits = 4 * (unit @ unit.T - (unit @ unit.T).mean())
    want = logits.masked_fill(logits < 0, -torch.inf).softmax(-1) @ features
    torch.testing.assert_close(found.flatten(1).T, want, atol=1e-5, rtol=1e-4)
    for part in (SelfAggregatedSplice, SelfRecursiveAttention):
        with pytest.raises(ValueError, match="scale is 0; it must be positive"):
            part(scale=0)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    peak=st.floats(0.05, 1),
    threshold=st.sampled_from([0.0, 0.3]),
    area=st.sampled_from([0.0, 0.2]),
    refined=st.booleans(),
    seed=st.integers(0, 999),
)
def test_classes_that_are_nowhere_sure_are_dropped(names, peak, threshold, area, refined, seed):
    g = torch.Generator().manual_seed(seed)
    classes = torch.tensor(names).unique(return_inverse=True)[1]
    count = int(classes.max()) + 1
    base = ScoreMap.from_grid((4 * torch.randn(len(names), 3, 4, generator=g)).softmax(0), (17, 23))
    scores = RefinedScoreMap(base, lambda maps: maps**2) if refined else base
    values = scores.block()
    by_class = torch.stack([values[classes == c].amax(0) for c in range(count)])
    kept = by_class.flatten(1).amax(1) >= peak
    if (abs(by_class.flatten(1).amax(1) - peak) < 1e-4).any():
        return  # rounding decides
    if area:
        plain = by_class.argmax(0)
        shares = torch.tensor([(plain == c).sum() / max(1, (plain > 0).sum()) for c in range(count)])
        kept &= (shares > area) | (torch.arange(count) == 0)
    want = by_class * kept[:, None, None]
    head = MaxQueryHead(threshold=threshold, area_threshold=area, softmax=False, peak_threshold=peak)
    labels, confidence = head.labels_and_confidence(scores, classes, count)
    torch.testing.assert_close(confidence, want.amax(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head.probabilities(scores, classes, count), want, atol=1e-5, rtol=1e-4)
    found = want.argmax(0).masked_fill(want.amax(0) < threshold, 0)
    assert (labels == found).float().mean() > 0.99 and (head(scores, classes, count) == found).float().mean() > 0.99
    before = head.labels_and_confidence(scores, classes, count, threshold=False)[1]
    assert (before >= confidence - 1e-6).all()


def test_a_peak_needs_probabilities():
    with pytest.raises(ValueError, match="peak_threshold is about scores that are probabilities"):
        MaxQueryHead(peak_threshold=0.5)
    with pytest.raises(ValueError, match="peak_threshold is 2; it must lie between 0 and 1"):
        MaxQueryHead(peak_threshold=2, softmax=False)
    assert MaxQueryHead(peak_threshold=0.5, softmax=False).describe()["peak_threshold"] == 0.5
    assert "peak_threshold" not in MaxQueryHead().describe()


# ----------------------------------------------------------------------------------------------------- as a whole
def test_the_method_as_a_whole(small):
    model = Segmenter("radio/vitb16", "radseg", short_side=112)
    assert "radseg on VOC20" in model.protocol and isinstance(model.model.backbone, RadioBackbone)
    text = json.dumps(model.model.describe()) + repr(model.model)
    assert " at 0x" not in text and "radio/vitb16 + radio/siglip2_vitb16 + webli/ViT-gopt-16-SigLIP2-384" in text
    model.set_vocabulary(["cat", "dog; puppy", "grass"])
    own = model.model
    own.windows.crop, own.windows.stride, own.windows.fit_multiple = 64, 32, 32
    photo = own.prepare(torch.randint(0, 256, (3, 70, 91), dtype=torch.uint8), (70, 91))
    layout = own.encoder.layout(photo)
    assert layout.image_size == (96, 96) and len(layout) == 4
    (encoded,) = own.encode([photo])
    tower, attention = own.backbone.tower, own.attention
    total, visits = torch.zeros(64, 6, 6), torch.zeros(6, 6)
    for y in (0, 2):
        for x in (0, 2):
            window = photo.image[None, :, 16 * y : 16 * y + 64, 16 * x : 16 * x + 64]
            tokens = attention(own.backbone(window)).as_image()[0]
            total[:, y : y + 4, x : x + 4] += tokens
            visits[y : y + 4, x : x + 4] += 1
    mixed = own.stitch.aggregated(total / visits, photo)
    words = F.normalize(tower.head(mixed.flatten(1).T), dim=-1) @ own.text.T
    want = (100 * words).softmax(-1).T.unflatten(1, (6, 6))
    scores = own.score_map(encoded, own.wording())
    torch.testing.assert_close(scores.cells, want, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        scores.block(), F.interpolate(want[None], size=(70, 91), mode="bilinear")[0], atol=1e-4, rtol=1e-3
    )
    assert own.predict([photo])[0].shape == (70, 91)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1) * 255
    torch.testing.assert_close(own.backbone.normalise(mean), torch.zeros(3, 1, 1), atol=1e-4, rtol=0)


def test_what_does_not_fit_is_told(small, monkeypatch):
    with pytest.raises(ValueError, match="pos_embed is 'nearest'"):
        RadioBackbone(pos_embed="nearest")
    with pytest.raises(NotImplementedError, match="RadioBackbone compares words with patches"):
        RadioBackbone().clip.encode_image(images(1, 3, 32, 32))
    with pytest.raises(SetupError, match="webli/ViT-gopt-16-SigLIP2-384 with patches of radio/vitb16"):
        Segmenter("nano-photo", "radseg")
    own = "nano's own settings of backbone (ClipBackbone for RadioBackbone), supervision, windows"
    assert own in Segmenter("nano", "radseg").protocol
    for head, told in (
        (AdaptorHead(48, 8, 32, 1), "for patches of 48 numbers, but those of radio/vitb16 have 64"),
        (AdaptorHead(64, 8, 33, 1), "gives 33 numbers, but the words of .* have 32"),
    ):
        loaded = Loaded(head, MEAN, STD, get_card("radio/siglip2_vitb16"), "0")
        monkeypatch.setattr("ovseg.backbones.radio.load_heads", lambda name, checkpoint=None, loaded=loaded: loaded)
        with pytest.raises(ValueError, match=told):
            RadioBackbone()
