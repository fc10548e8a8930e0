"""Each model from each of its official file formats; files of other models give one clear error."""

import json
import os
from collections import OrderedDict
from dataclasses import replace

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from ovseg.weights import (
    CheckpointError,
    WeightsError,
    catalogue,
    get_card,
    load_clip,
    load_dino,
    load_heads,
    load_sam,
)
from ovseg.weights import load as load_module
from ovseg.weights.assemble import assemble, skip_initialisation
from tests.standins import openai_layout, pseudo_weights, standin
from tests.weights.small import CONFIG, ENTRIES, save_torchscript


def filled(model: nn.Module) -> nn.Module:
    """Gives a model built without initialisation values that differ within and between its tensors."""
    for i, tensor in enumerate(model.state_dict().values()):
        tensor.copy_(torch.linspace(-0.1, 0.1 + i / 1000, tensor.numel()).reshape(tensor.shape))
    return model.eval()


def timm_model(arch: str) -> nn.Module:
    with skip_initialisation():
        return filled(timm.create_model(arch, pretrained=False, num_classes=0, dynamic_img_size=True))


def assert_same_model(model, expected):
    assert not model.training
    state, reference = model.state_dict(), expected.state_dict()
    assert list(state) == list(reference)
    for key, value in reference.items():
        assert state[key].dtype == torch.float32 or not value.is_floating_point()
        assert torch.equal(state[key], value), key


# ------------------------------------------------------------------------------------------------------- CLIP
def save_plain(model, path):
    torch.save(openai_layout(model.state_dict()), path)


def save_plain_with_integers(model, path):
    torch.save({**model.state_dict(), "input_resolution": 32, "context_length": 16, "vocab_size": 49408}, path)


def save_open_clip(model, path):
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)


def save_open_clip_training(model, path):
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"epoch": 32, "name": "run", "state_dict": state, "optimizer": {"state": {}}}, path)


def save_transformers(model, path):
    """The layout of Hugging Face transformers' CLIPModel."""
    state = model.state_dict()
    out = {
        "logit_scale": state["logit_scale"],
        "visual_projection.weight": state["visual.proj"].T.contiguous(),
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "vision_model.embeddings.position_ids": torch.arange(5)[None],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_model.embeddings.position_ids": torch.arange(16)[None],
    }
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    names["attn.out_proj"] = "self_attn.out_proj"
    for ours, theirs in (("visual.transformer", "vision_model"), ("transformer", "text_model")):
        for i in range(2):
            for kind in ("weight", "bias"):
                for a, b in names.items():
                    key = f"{theirs}.encoder.layers.{i}.{b}.{kind}"
                    out[key] = state[f"{ours}.resblocks.{i}.{a}.{kind}"]
                parts = state[f"{ours}.resblocks.{i}.attn.in_proj_{kind}"].chunk(3)
                for name, part in zip("qkv", parts, strict=True):
                    out[f"{theirs}.encoder.layers.{i}.self_attn.{name}_proj.{kind}"] = part.clone()
    norms = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
    norms["ln_final"] = "text_model.final_layer_norm"
    for a, b in norms.items():
        for kind in ("weight", "bias"):
            out[f"{b}.{kind}"] = state[f"{a}.{kind}"]
    save_file(out, path)


CLIP_FORMATS = {
    "TorchScript": save_torchscript,
    "plain": save_plain,
    "plain, integers": save_plain_with_integers,
    "open_clip": save_open_clip,
    "open_clip training": save_open_clip_training,
    "transformers": save_transformers,
}


@pytest.mark.parametrize("save", CLIP_FORMATS.values(), ids=CLIP_FORMATS)
def test_clip_formats(save, clip_model, clip_card, tmp_path):
    path = tmp_path / "clip.pt"
    save(clip_model, path)
    loaded = load_clip(clip_card.name, checkpoint=path)
    assert_same_model(loaded.model, clip_model)
    image = torch.rand(2, 3, 32, 32)
    tokens = loaded.tokenizer(["a cat", "a dog"])
    assert tokens.shape == (2, 16)
    for ours, reference in zip(loaded.model(image, tokens), clip_model(image, tokens), strict=True):
        assert torch.equal(ours, reference)
    assert loaded.mean == open_clip.OPENAI_DATASET_MEAN
    assert loaded.std == open_clip.OPENAI_DATASET_STD
    assert len(loaded.sha256) == 64


def test_loading_under_inference_mode_gives_a_trainable_model(clip_model, clip_card, tmp_path):
    save_plain(clip_model, tmp_path / "clip.pt")
    with torch.inference_mode():
        model = load_clip(clip_card.name, checkpoint=tmp_path / "clip.pt").model
    assert not any(p.is_inference() for p in model.parameters())
    model.encode_image(torch.rand(1, 3, 32, 32)).sum().backward()


def test_catalogue_archs_build_with_the_activation_that_was_trained():
    for name, gelu in (("openai/ViT-B-16", "QuickGELU"), ("laion2b_s34b_b88k/ViT-B-16", "GELU")):
        card = get_card(name)
        config = open_clip.get_model_config(card.arch)
        assert bool(config.get("quick_gelu")) == card.quickgelu == (gelu == "QuickGELU")


@pytest.mark.parametrize("name", ["merged2b_s8b_b131k/EVA02-B-16", "webli/ViT-B-16-SigLIP"])
def test_clip_with_an_image_tower_of_timm(name, tmp_path, monkeypatch):
    config = open_clip.get_model_config(get_card(name).arch)
    config["text_cfg"].update(vocab_size=100, layers=1)
    monkeypatch.setattr(load_module.open_clip, "get_model_config", lambda arch: json.loads(json.dumps(config)))
    monkeypatch.setattr(load_module, "_tokenizer", lambda *args: None)  # SigLIP's is a file of the hub
    with skip_initialisation():
        reference = open_clip.model.CustomTextCLIP(**{k: v for k, v in config.items() if k != "custom_text"})
    save_file(dict(filled(reference).state_dict()), tmp_path / "x.safetensors")
    model = load_clip(name, checkpoint=tmp_path / "x.safetensors").model
    assert_same_model(model, reference)
    assert (name.startswith("webli")) == (model.logit_bias is not None)
    for buffer, expected in zip(model.buffers(), reference.buffers(), strict=True):
        assert torch.equal(buffer, expected)  # rotary tables and masks, which are in no file


def test_siglip_without_its_tokenizer_says_what_to_get(tmp_path, monkeypatch):
    monkeypatch.setattr(load_module, "_build_clip", lambda card, path: nn.Identity())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no retries of a network that is not there
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="the tokenizer of 'webli/ViT-B-16-SigLIP'"):
        load_clip("webli/ViT-B-16-SigLIP", checkpoint=tmp_path / "x.safetensors")


def test_packaged_clip_is_read_from_the_assets(clip_model, tmp_path, monkeypatch):
    wrapped = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}
    for config, mean in ((CONFIG, open_clip.OPENAI_DATASET_MEAN), (wrapped, (0.5, 0.5, 0.5))):
        (tmp_path / "tiny.json").write_text(json.dumps(config))
        save_open_clip(clip_model, tmp_path / "tiny.safetensors")
        card = replace(get_card("nano"), name="tiny", packaged=tmp_path / "tiny")
        monkeypatch.setitem(catalogue(), "tiny", card)
        loaded = load_clip("tiny")
        assert_same_model(loaded.model, clip_model)
        assert loaded.mean == mean
        assert loaded.tokenizer(["a cat"]).shape == (1, 16)


def test_nano_comes_with_ovseg():
    if not get_card("nano").packaged.with_suffix(".safetensors").is_file():
        pytest.skip("nano's weights are not in this checkout")
    loaded = load_clip("nano")
    side = loaded.model.visual.image_size
    assert loaded.card.image_size == (side if isinstance(side, int) else side[0])
    assert loaded.model.encode_text(loaded.tokenizer(["a cat"])).isfinite().all()


# ------------------------------------------------------------------------------------------ DINO, SAM, heads
DINO_ARCH = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def dino_model():
    return timm_model(DINO_ARCH)


@pytest.fixture
def dino_card(monkeypatch):
    card = replace(get_card("dino/vitb16"), name="test/dino", arch=DINO_ARCH)
    monkeypatch.setitem(catalogue(), card.name, card)
    return card


def dino_backbone(model):
    return dict(model.state_dict())


def dino_training(model):
    teacher = {f"backbone.{key}": value for key, value in model.state_dict().items()}
    teacher["head.mlp.0.weight"] = torch.zeros(4, 4)
    teacher["head.last_layer.weight_g"] = torch.zeros(4, 1)
    student = {f"module.{key}": value + 1 for key, value in teacher.items()}
    return {"student": student, "teacher": teacher, "epoch": 100, "optimizer": {}}


@pytest.mark.parametrize(
    ("layout", "save"),
    [(dino_backbone, torch.save), (dino_backbone, save_file), (dino_training, torch.save)],
    ids=["official", "timm", "training"],
)
def test_dino_formats(layout, save, dino_model, dino_card, tmp_path):
    save(layout(dino_model), tmp_path / "dino.pth")
    loaded = load_dino(dino_card.name, checkpoint=tmp_path / "dino.pth")
    assert_same_model(loaded.model, dino_model)
    assert loaded.model.norm.eps == 1e-6
    assert loaded.model.forward_features(torch.rand(1, 3, 64, 96)).shape == (1, 1 + 4 * 6, 192)


def test_dino_student_alone_is_read_too(dino_model, dino_card, tmp_path):
    state = {f"module.backbone.{key}": value for key, value in dino_model.state_dict().items()}
    torch.save({"student": state}, tmp_path / "dino.pth")
    assert_same_model(load_dino(dino_card.name, checkpoint=tmp_path / "dino.pth").model, dino_model)


def test_dinov2_with_registers_from_the_official_layout(tmp_path):
    reference = timm_model(get_card("dinov2/vits14_reg").arch)
    state = dict(reference.state_dict())
    save_file(state, tmp_path / "timm.safetensors")
    assert_same_model(load_dino("dinov2/vits14_reg", checkpoint=tmp_path / "timm.safetensors").model, reference)

    # Official: a position for the class token, which the model adds to it at every call; registers have none.
    position = torch.randn(1, 1, 384)
    state["register_tokens"] = state.pop("reg_token")
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], 1)
    state["cls_token"] = state["cls_token"] - position
    state["mask_token"] = torch.zeros(1, 384)
    torch.save(state, tmp_path / "official.pth")
    model = load_dino("dinov2/vits14_reg", checkpoint=tmp_path / "official.pth").model
    assert torch.allclose(model.cls_token, reference.cls_token, atol=1e-6)
    assert torch.equal(model.reg_token, reference.reg_token)
    assert torch.equal(model.pos_embed, reference.pos_embed)
    patches = torch.rand(1, 37, 37, 384)
    tokens = model._pos_embed(patches)
    assert torch.allclose(tokens[:, 0], state["cls_token"][:, 0] + position[:, 0], atol=1e-6)
    assert torch.equal(tokens[:, 1:5], state["register_tokens"])
    assert torch.allclose(tokens[:, 5:], patches.flatten(1, 2) + state["pos_embed"][:, 1:])


def test_dinov2_without_registers(tmp_path):
    reference = timm_model(get_card("dinov2/vits14").arch)
    torch.save({**reference.state_dict(), "mask_token": torch.zeros(1, 384)}, tmp_path / "official.pth")
    assert_same_model(load_dino("dinov2/vits14", checkpoint=tmp_path / "official.pth").model, reference)


def test_dinov3_from_timms_and_from_the_official_layout(tmp_path):
    reference = timm_model(get_card("dinov3/vits16").arch)
    assert reference.norm.eps == 1e-5
    save_file(dict(reference.state_dict()), tmp_path / "timm.safetensors")
    loaded = load_dino("dinov3/vits16", checkpoint=tmp_path / "timm.safetensors").model
    assert_same_model(loaded, reference)
    assert torch.equal(loaded.rope.periods, reference.rope.periods)  # computed, in no file

    state = {key.replace("reg_token", "storage_tokens"): value for key, value in reference.state_dict().items()}
    for old, new in (("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")):
        state = {key.replace(old, new): value for key, value in state.items()}
    for i in range(12):
        bias = torch.zeros(3 * 384)
        bias[384:768] = torch.nan  # the keys' part is masked in the official model
        state[f"blocks.{i}.attn.qkv.bias"] = bias
        state[f"blocks.{i}.attn.qkv.bias_mask"] = torch.ones(3 * 384)
    state.update({"rope_embed.periods": torch.ones(16), "mask_token": torch.zeros(1, 384)})
    torch.save(state, tmp_path / "official.pth")
    assert_same_model(load_dino("dinov3/vits16", checkpoint=tmp_path / "official.pth").model, reference)


def test_heads_wherever_they_lie(tmp_path):
    heads = {
        "obj_proj.weight": torch.rand(256, 768, 3, 3),
        "obj_proj.bias": torch.rand(256),
        "bkg_decoder.weight": torch.rand(1, 768, 1, 1),
        "bkg_decoder.bias": torch.rand(1),
    }
    beside = {f"module.{key}": value for key, value in heads.items()} | {"module.clip.proj": torch.zeros(3)}
    for state in (heads, {"state_dict": heads, "epoch": 2}, {"model": heads}, {"state_dict": beside}):
        torch.save(state, tmp_path / "last.pt")
        model = load_heads(checkpoint=tmp_path / "last.pt").model
        assert torch.equal(model["obj_proj"].weight, heads["obj_proj.weight"])
        assert model["obj_proj"].padding_mode == "replicate"
        assert model["obj_proj"](torch.rand(1, 768, 4, 5)).shape == (1, 256, 4, 5)
        assert model["bkg_decoder"](torch.rand(1, 768, 4, 5)).shape == (1, 1, 4, 5)


# --------------------------------------------------------------------------------------------- other models
def test_renamed_missing_and_reshaped_keys_are_named(clip_model, clip_card, tmp_path):
    state = dict(clip_model.state_dict())
    state["visual.projection"] = state.pop("visual.proj")
    del state["ln_final.bias"]
    state["text_projection"] = torch.zeros(7, 5)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError) as caught:
        load_clip(clip_card.name, checkpoint=tmp_path / "x.pt")
    message = str(caught.value)
    assert "x.pt" in message and "test/clip" in message
    assert "2 missing: ln_final.bias, visual.proj" in message or "2 missing: visual.proj, ln_final.bias" in message
    assert "1 unexpected: visual.projection" in message
    assert "1 of another shape: text_projection (7, 5) instead of (32, 32)" in message
    assert "\n" not in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(clip_model, clip_card, tmp_path, value):
    state = {name: tensor.clone() for name, tensor in clip_model.state_dict().items()}
    state["ln_final.bias"][3] = value
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(
        CheckpointError, match=r"x\.pt: holds NaN or infinite values in 1 of \d+ weights: ln_final\.bias\. "
    ):
        load_clip(clip_card.name, checkpoint=tmp_path / "x.pt")


def test_a_causal_mask_may_be_infinite(tmp_path):
    model = torch.nn.Linear(2, 2)
    model.register_buffer("attn_mask", torch.zeros(2, 2))
    weights = {**model.state_dict(), "attn_mask": torch.full((2, 2), -torch.inf).triu(1)}
    assert assemble(model, weights, tmp_path / "x.pt", "a layer").attn_mask[0, 1] == -torch.inf


def test_at_most_five_keys_of_a_kind_are_listed(clip_card, tmp_path):
    torch.save({f"key{i}": torch.zeros(1) for i in range(9)}, tmp_path / "x.pt")
    with pytest.raises(
        CheckpointError, match=r"9 unexpected: key0, key1, key2, key3, key4, \.\.\.$|, \.\.\."
    ) as caught:
        load_clip(clip_card.name, checkpoint=tmp_path / "x.pt")
    assert "key5" not in str(caught.value)


def test_another_architecture_is_recognised(clip_model, clip_card, dino_model, dino_card, tmp_path):
    torch.save(dict(dino_model.state_dict()), tmp_path / "dino.pth")
    with pytest.raises(CheckpointError, match=r"looks like a DINO or timm ViT-Ti/16, 12 blocks, 224 pixels"):
        load_clip(clip_card.name, checkpoint=tmp_path / "dino.pth")
    torch.save(dict(clip_model.state_dict()), tmp_path / "clip.pt")
    with pytest.raises(
        CheckpointError, match=r"looks like a CLIP ViT-width 64/16, 2 blocks, 32 pixels \(OpenAI or open_clip"
    ):
        load_dino(dino_card.name, checkpoint=tmp_path / "clip.pt")


def test_loader_of_another_kind():
    with pytest.raises(WeightsError, match=r"load it with load_dino, not load_clip"):
        load_clip("dino/vitb8")


# --------------------------------------------------------------------- the stand-in weights at their real size
LOADERS = {
    "openai/ViT-B-16": load_clip,
    "dino/vitb16": load_dino,
    "dino/vitb8": load_dino,
    "sam/vit_b": load_sam,
    "clip_dinoiser/last": load_heads,
}


def pseudo(name):
    weights = pseudo_weights()
    return {
        "openai/ViT-B-16": weights.openai_clip_vit_b16,
        "dino/vitb16": lambda: weights.dino_vitb(16),
        "dino/vitb8": lambda: weights.dino_vitb(8),
        "sam/vit_b": weights.sam_vit_b,
        "clip_dinoiser/last": weights.clip_dinoiser_heads,
    }[name]()


@pytest.mark.parametrize("name", LOADERS)
def test_standins_load_exactly(name):
    path = standin(name)
    state = LOADERS[name](name, checkpoint=path).model.state_dict()
    assert all(value.dtype == torch.float32 for value in state.values())
    written = torch.load(path, weights_only=True)
    written = written.get("state_dict", written)
    assert set(written) - set(ENTRIES) == set(state)
    for key, value in state.items():
        assert torch.equal(value, written[key].float()), key


@pytest.mark.parametrize(("name", "other"), [("dino/vitb16", "dino/vitb8"), ("openai/ViT-B-16", "sam/vit_b")])
def test_standins_of_another_model(name, other):
    with pytest.raises(CheckpointError, match="does not fit"):
        LOADERS[name](name, checkpoint=standin(other))


def test_truncated_standin(tmp_path):
    content = standin("dino/vitb16").read_bytes()
    (tmp_path / "dino.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="is truncated"):
        load_dino("dino/vitb16", checkpoint=tmp_path / "dino.pth")


@pytest.mark.slow
def test_torchscript_at_full_size(tmp_path):
    weights = pseudo("openai/ViT-B-16")
    model = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None).eval()
    model.load_state_dict(weights)
    entries = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    save_torchscript(model, tmp_path / "ViT-B-16.pt", entries)
    assert os.path.getsize(tmp_path / "ViT-B-16.pt") < 360e6  # OpenAI's has 351 MB
    assert_same_model(load_clip("openai/ViT-B-16", checkpoint=tmp_path / "ViT-B-16.pt").model, model)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_standins_are_the_pseudo_weights(name):
    state = LOADERS[name](name, checkpoint=standin(name)).model.state_dict()
    expected = OrderedDict(pseudo(name))
    assert set(expected) == set(state)
    for key, value in expected.items():
        assert torch.equal(state[key], value), key
