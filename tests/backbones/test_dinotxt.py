"""dino.txt's parts: DINOv3 with trained blocks on top, its text tower, and words that compete at pixels."""

import json

import open_clip
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg import Segmenter
from ovseg.backbones import DinoTxtBackbone
from ovseg.encoder import WindowBatch
from ovseg.errors import SetupError
from ovseg.heads import MaxQueryHead
from ovseg.photo import Photo
from ovseg.scores import DecodedScoreMap
from ovseg.segmentors import OpenVocabSegmentor
from ovseg.stitches import SoftmaxStitch
from ovseg.weights import CheckpointError, Loaded, get_card, load_heads
from ovseg.weights.dinotxt import DinoTxtParts
from ovseg.windows import SlidingWindows
from tests.small_guides import MEAN, STD, small_dinotxt, small_dinov3, use_small_guides
from tests.small_models import images

WORDS = ["cat", "dog; puppy", "grass"]


@pytest.fixture
def small(monkeypatch):
    use_small_guides(monkeypatch)


def segmentor(tokens="head", **options) -> OpenVocabSegmentor:
    options = dict(windows=dict(crop=48, stride=32), templates="simple", stitch=dict(type="SoftmaxStitch")) | options
    return OpenVocabSegmentor(
        backbone=dict(type="DinoTxtBackbone", tokens=tokens),
        vocabulary=dict(names=WORDS),
        attention=dict(type="PlainAttention"),
        text_cache=False,
        head=dict(type="MaxQueryHead", softmax=False),
        **options,
    ).eval()


# ----------------------------------------------------------------------------------------------------------- images
def test_patches_are_those_of_dinov3_and_of_the_blocks_on_top(small):
    trunk, parts, window = small_dinov3(), small_dinotxt(), images(2, 3, 48, 32)
    below = trunk.forward_features(window)  # after its last LayerNorm
    above = below
    for block in parts.blocks:
        above = block(above)
    for tokens, want in (("backbone", below), ("head", parts.norm(above))):
        model = segmentor(tokens)
        found = model.encoder.encode(WindowBatch(window))
        assert found.grid == (3, 2) and found.num_prefix == 0
        torch.testing.assert_close(found.tokens, want[:, 5:], atol=1e-5, rtol=1e-4)
    mean = torch.tensor(MEAN).view(3, 1, 1) * 255
    torch.testing.assert_close(model.backbone.normalise(mean.expand(3, 2, 2)), torch.zeros(3, 2, 2), atol=1e-4, rtol=0)


def test_a_block_in_pieces_is_the_block(small):
    """Also DINOv3's last one, which carries the LayerNorm that follows it, and those without rotary positions."""
    tower = DinoTxtBackbone().tower
    x, grid = torch.randn(2, 5 + 6, 64), (3, 2)
    assert len(tower.blocks) == 4 and tower.num_prefix == 5
    for i, block in enumerate(tower.blocks):
        y = block.norm1(x)
        q, k, v = block.qkv(y, grid)
        z = x + block.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        want = z + block.ffn(z)
        want = small_dinov3().norm(want) if i == 1 else want
        torch.testing.assert_close(block(x, grid), want, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(block.value(y), v.transpose(1, 2).flatten(2), atol=1e-5, rtol=1e-4)
        assert torch.equal(block.norm2(z), block.block.norm2(z) if i != 1 else block.block.block.norm2(z))
        assert torch.allclose(block.qkv_unrotated(y)[2], v, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------ words
def official_file(parts: DinoTxtParts) -> dict[str, torch.Tensor]:
    """The keys of the published file, and a class token's half of the words' embedding before the patches'."""
    text = parts.words.text
    state = {"logit_scale": torch.tensor(4.6), "visual_model.backbone.cls_token": torch.ones(1, 1, 64)}
    for i, block in enumerate(parts.blocks):
        names = {"norm1": block.norm1, "norm2": block.norm2, "attn.proj": block.attn.proj, "attn.qkv": block.attn.qkv}
        names |= {"mlp.w1": block.mlp.fc1_g, "mlp.w2": block.mlp.fc1_x, "mlp.w3": block.mlp.fc2}
        for name, layer in names.items():
            state |= {f"visual_model.head.blocks.{i}.{name}.{k}": v for k, v in layer.state_dict().items()}
        state[f"visual_model.head.blocks.{i}.ls1.gamma"] = block.gamma_1
        state[f"visual_model.head.blocks.{i}.ls2.gamma"] = block.gamma_2
    state |= {f"visual_model.head.ln_final.{k}": v for k, v in parts.norm.state_dict().items()}
    backbone = "text_model.backbone."
    state[backbone + "token_embedding.weight"] = text.token_embedding.weight
    state[backbone + "positional_embedding"] = text.positional_embedding
    state |= {backbone + f"ln_final.{k}": v for k, v in text.ln_final.state_dict().items()}
    for i, block in enumerate(text.transformer.resblocks):
        names = {"attention_norm": block.ln_1, "ffn_norm": block.ln_2, "attention.proj": block.attn.out_proj}
        names |= {"feed_forward.fc1": block.mlp.c_fc, "feed_forward.fc2": block.mlp.c_proj}
        for name, layer in names.items():
            state |= {f"{backbone}blocks.{i}.{name}.{k}": v for k, v in layer.state_dict().items()}
        state[f"{backbone}blocks.{i}.attention.qkv.weight"] = block.attn.in_proj_weight
    halves = [torch.randn(64, 64), text.text_projection.T]
    state["text_model.head.linear_projection.weight"] = torch.cat(halves)
    return {key: value.detach().clone() for key, value in state.items()}


def words_plainly(state: dict[str, torch.Tensor], prompts: list[str]) -> torch.Tensor:
    """The text tower as METHODS describes it, a prompt at a time, from the file's own tensors: ``[n, 2 D]``."""
    t = {k.removeprefix("text_model."): v for k, v in state.items() if k.startswith("text_model.")}
    embedded = []
    for tokens in open_clip.SimpleTokenizer(context_length=77)(prompts):
        x = t["backbone.token_embedding.weight"][tokens] + t["backbone.positional_embedding"]

        def norm(y, name):
            return F.layer_norm(y, y.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"])

        for i in range(2):
            b = f"backbone.blocks.{i}."
            q, k, v = (norm(x, b + "attention_norm") @ t[b + "attention.qkv.weight"].T).chunk(3, dim=-1)
            mixed = F.scaled_dot_product_attention(q[None, None], k[None, None], v[None, None], is_causal=True)[0, 0]
            x = x + F.linear(mixed, t[b + "attention.proj.weight"], t[b + "attention.proj.bias"])
            y = F.linear(norm(x, b + "ffn_norm"), t[b + "feed_forward.fc1.weight"], t[b + "feed_forward.fc1.bias"])
            x = x + F.linear(F.gelu(y), t[b + "feed_forward.fc2.weight"], t[b + "feed_forward.fc2.bias"])
        last = norm(x, "backbone.ln_final")[tokens.argmax()]
        embedded.append(t["head.linear_projection.weight"] @ last)
    return torch.stack(embedded)


@pytest.fixture
def file(tmp_path):
    parts = small_dinotxt()
    for block in parts.words.text.transformer.resblocks:
        block.attn.in_proj_bias.zero_()  # the published blocks have none
    state = official_file(parts)
    torch.save(state, tmp_path / "dinotxt.pth")
    return tmp_path / "dinotxt.pth", parts, state


def test_words_are_the_half_that_was_trained_with_patches(small, file, monkeypatch):
    path, parts, state = file
    loaded = load_heads("dinotxt/vitl16", checkpoint=path)
    window = torch.randn(1, 7, 64)
    torch.testing.assert_close(loaded.model.blocks[1](window), parts.blocks[1](window))
    torch.testing.assert_close(loaded.model.norm(window), parts.norm(window))
    monkeypatch.setattr("ovseg.backbones.dinotxt.load_heads", lambda name, checkpoint=None: loaded)
    model = segmentor()
    assert model.text_encoder.fallback_reason is None, "prompts share their beginnings"
    prompts = model.text_encoder.templates.prompts("puppy")
    rows = F.normalize(words_plainly(state, prompts)[:, 64:], dim=-1)
    want = F.normalize(rows.mean(0), dim=-1)
    torch.testing.assert_close(model.text[model.vocabulary.queries.index("puppy")], want, atol=1e-5, rtol=1e-4)


def test_what_a_file_lacks_is_told(file, tmp_path):
    _, _, state = file
    cut = tmp_path / "cut.pth"
    for key, told in (
        ("text_model.backbone.token_embedding.weight", "not dino.txt's blocks and text tower"),
        ("visual_model.head.blocks.1.mlp.w2.weight", "1 missing: blocks.1.mlp.fc1_x.weight"),
        ("text_model.head.linear_projection.weight", "missing: words.text.text_projection"),
    ):
        torch.save({k: v for k, v in state.items() if k != key}, cut)
        with pytest.raises(CheckpointError, match=told):
            load_heads("dinotxt/vitl16", checkpoint=cut)
    torch.save(state | {"visual_model.head.what.weight": torch.ones(2)}, cut)
    with pytest.raises(CheckpointError, match="looks like dino.txt's blocks and text tower.*unexpected: what.weight"):
        load_heads("dinotxt/vitl16", checkpoint=cut)
    torch.save(small_dinov3().state_dict(), cut)
    with pytest.raises(CheckpointError, match="holds a DINO.*not dino.txt's"):
        load_heads("dinotxt/vitl16", checkpoint=cut)


def test_what_does_not_fit_is_told(small, monkeypatch):
    with pytest.raises(ValueError, match="tokens is 'cls'; choose one of head, backbone"):
        DinoTxtBackbone(tokens="cls")
    with pytest.raises(NotImplementedError, match="DinoTxtBackbone compares words with patches"):
        DinoTxtBackbone().clip.encode_image(images(1, 3, 32, 32))
    with pytest.raises(ValueError, match="scale is 0; it must be positive"):
        SoftmaxStitch(0)
    wide = Loaded(small_dinotxt(128), MEAN, STD, get_card("dinotxt/vitl16"), "0")
    monkeypatch.setattr("ovseg.backbones.dinotxt.load_heads", lambda name, checkpoint=None: wide)
    with pytest.raises(ValueError, match="for tokens of 128 numbers, but those of dinov3/vitl16 have 64"):
        DinoTxtBackbone()
    with pytest.raises(SetupError, match="dinotxt/vitl16 with patches of dinov3/vitl16, which were trained together"):
        Segmenter("nano", "dinotxt")


def test_either_half_of_the_pair_names_the_method(small):
    for name in ("dinov3/vitl16", "dinotxt/vitl16"):
        model = Segmenter(name, "dinotxt")
        assert isinstance(model.model.backbone, DinoTxtBackbone) and "weights:" not in model.protocol
        text = json.dumps(model.model.describe()) + repr(model.model)
        assert " at 0x" not in text and "dinov3/vitl16 + dinotxt/vitl16" in text and "SoftmaxStitch(scale=1.0)" in text


# ----------------------------------------------------------------------------------- words that compete at pixels
@settings(max_examples=25, deadline=None)
@given(
    queries=st.integers(1, 6),
    size=st.tuples(st.integers(20, 60), st.integers(20, 60)),
    out=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    crop=st.integers(16, 40),
    scale=st.floats(0.5, 40),
    padding=st.sampled_from([{}, dict(pad_multiple=7), dict(stretch_multiple=8), dict(align_corners=True)]),
    seed=st.integers(0, 99),
)
def test_the_softmax_is_taken_at_the_pixels_of_windows(queries, size, out, crop, scale, padding, seed):
    g = torch.Generator().manual_seed(seed)
    windows = SlidingWindows(crop=crop, stride=max(1, crop // 2), **padding)
    layout = windows.layout(*size, 8)
    cosines = torch.rand(len(layout), queries, 3, 4, generator=g) * 2 - 1
    total, visits = torch.zeros(queries, *size), torch.zeros(size)
    places = [(y, x) for y in layout.starts[0] for x in layout.starts[1]]
    for part, (y, x) in zip(cosines, places, strict=True):
        (h, w), (top, left) = layout.window, layout.offset
        up = F.interpolate(part[None], size=layout.padded, mode="bilinear", align_corners=layout.align_corners)[0]
        total[:, y : y + h, x : x + w] += (scale * up[:, top : top + h, left : left + w]).softmax(0)
        visits[y : y + h, x : x + w] += 1
    want = F.interpolate((total / visits)[None], size=out, mode="bilinear", align_corners=False)[0]
    photo = Photo(torch.zeros(3, *size), out)
    scores = SoftmaxStitch(scale).merge(cosines, layout, photo)
    assert isinstance(scores, DecodedScoreMap) and scores.size == out
    torch.testing.assert_close(scores.block(), want, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores.block(slice(1, 3), slice(0, 9)), want[1:3, :9], atol=1e-5, rtol=1e-4)
    head, index = MaxQueryHead(softmax=False), torch.arange(queries)
    labels, confidence = head.labels_and_confidence(scores, index, queries)
    torch.testing.assert_close(confidence, want.amax(0), atol=1e-5, rtol=1e-4)
    chosen = want.gather(0, labels[None].long())[0]
    torch.testing.assert_close(chosen, want.amax(0), atol=1e-5, rtol=1e-4)


def test_windows_are_stretched_to_whole_patches(small):
    windows = SlidingWindows(crop=40, stride=20, stretch_multiple=16)
    image = images(3, 33, 70)
    layout = windows.layout(33, 70, 16)
    assert layout.window == layout.padded == (33, 40) and windows.describe()["stretch_multiple"] == 16
    cut = windows.cut(image, layout)
    want = F.interpolate(image[None, :, :, :40], size=(48, 48), mode="bicubic", align_corners=False)
    assert cut.shape == (3, 3, 48, 48)
    torch.testing.assert_close(cut[:1], want)
    assert "stretch_multiple" not in SlidingWindows().describe()
    tiny = windows.layout(3, 5, 16)
    assert tiny.padded == (3, 5) and windows.cut(images(3, 3, 5), tiny).shape == (1, 3, 16, 16)
    model = segmentor(windows=dict(crop=40, stride=20, stretch_multiple=16))
    photo = model.prepare(torch.randint(0, 256, (3, 33, 70), dtype=torch.uint8), (33, 70))
    assert model.predict([photo])[0].shape == (33, 70)
    with pytest.raises(ValueError, match="pad_multiple or stretch_multiple, not both"):
        SlidingWindows(stretch_multiple=16, pad_multiple=16)


def test_words_of_a_class_share_its_place(small):
    model = segmentor()
    photo = model.prepare(torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8), (40, 60))
    (scores,) = model.score([photo])
    values = scores.block()
    assert values.shape == (4, 40, 60)
    torch.testing.assert_close(values.sum(0), torch.ones(40, 60), atol=1e-5, rtol=0)
    (labels,) = model.predict([photo])
    best = model.query_to_class[values.argmax(0)]
    assert (labels == best).float().mean() > 0.999
