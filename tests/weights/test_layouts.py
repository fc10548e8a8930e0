"""Files of trained segmenters: both parts of one file, and one clear error where it is not what it should be."""

import pytest
import torch
from safetensors.torch import save_file

from ovseg.backbones.towers import build_tower
from ovseg.decoders import CatSegDecoder
from ovseg.weights import CheckpointError, load_clip, load_decoder
from ovseg.weights.catalogue import WeightCard, catalogue
from ovseg.weights.layouts import LAYOUTS, changes_from, joint_projections, laid_over, separate_projections
from tests.small_models import small_clip

SMALL = dict(guidance_blocks=(0, 1), dim=32, guidance_dim=32, window=2, up_dims=(32, 16), up_guidance=(16, 16))
CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def decoder(seed=0):
    torch.manual_seed(seed)
    return CatSegDecoder(build_tower(small_clip().visual), **SMALL)


@pytest.fixture
def cards(monkeypatch):
    """Small models under names of the catalogue."""
    monkeypatch.setattr("ovseg.weights.load._clip_config", lambda card: {"model_cfg": CONFIG})
    facts = dict(
        family="small", arch="small", sources=(), licence="none", commercial="ask", image_size=64, mean=(0.5,) * 3
    )
    monkeypatch.setitem(catalogue(), "small", WeightCard("small", "clip", std=(0.5,) * 3, **facts))
    for layout, base in (("catseg", ""), ("overlay", "small")):
        card = WeightCard(f"small/{layout}", "decoder", std=(0.5,) * 3, layout=layout, base=base, **facts)
        monkeypatch.setitem(catalogue(), card.name, card)


def catseg_file(path):
    weights = LAYOUTS["catseg"].joined(small_clip(seed=3).state_dict(), decoder(4).state_dict())
    mask = "sem_seg_head.predictor.transformer.layers.0.swin_block.block_2.attn_mask"
    torch.save({"model": {**weights, mask: torch.zeros(4, 4, 4)}, "iteration": 7}, path)
    return path


def equal(found, expected):
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_official_files_hold_both_parts(cards, tmp_path):
    file = catseg_file(tmp_path / "model_base.pth")
    equal(load_clip("small/catseg", file).model.state_dict(), small_clip(seed=3).state_dict())
    module = decoder()
    load_decoder("small/catseg", module, file)
    equal(module.state_dict(), decoder(4).state_dict())


def test_projections_are_separated_and_joined_again():
    state = small_clip().state_dict()
    apart = separate_projections(state)
    assert not any("in_proj_weight" in key for key in apart) and len(apart) == len(state) + 2 * 5
    equal(joint_projections(apart), state)


def test_an_overlay_changes_its_base(cards, tmp_path, monkeypatch):
    base, tuned = small_clip(seed=1).state_dict(), small_clip(seed=1).state_dict()
    tuned["transformer.resblocks.0.attn.in_proj_weight"][:32] += 1
    changes = changes_from(base, tuned)
    assert list(changes) == ["transformer.resblocks.0.attn.q_proj_weight"]
    equal(laid_over(base, changes), tuned)
    save_file(base, tmp_path / "base.safetensors")
    save_file(LAYOUTS["overlay"].joined(changes, decoder(4).state_dict()), tmp_path / "overlay.safetensors")
    monkeypatch.setattr("ovseg.weights.load.resolve", lambda name, file=None: file or tmp_path / "base.safetensors")
    equal(load_clip("small/overlay", tmp_path / "overlay.safetensors").model.state_dict(), tuned)
    module = decoder()
    load_decoder("small/overlay", module, tmp_path / "overlay.safetensors")
    equal(module.state_dict(), decoder(4).state_dict())


@pytest.mark.parametrize(
    ("edit", "part", "message"),
    [
        (lambda w: w.pop("upsample1.bias"), "decoder", "1 missing: upsample1.bias"),
        (lambda w: w.update({"upsample3.bias": torch.zeros(1)}), "decoder", "1 unexpected: upsample3.bias"),
        (
            lambda w: w.pop("sem_seg_head.predictor.clip_model.visual.proj"),
            "clip",
            "1 missing: visual.proj",
        ),
        (
            lambda w: w.pop("sem_seg_head.predictor.clip_model.transformer.resblocks.0.attn.q_proj_weight"),
            "clip",
            "missing: transformer.resblocks.0.attn.in_proj_weight",
        ),
    ],
)
def test_what_is_missing_or_renamed_is_named(cards, tmp_path, edit, part, message):
    file = catseg_file(tmp_path / "model_base.pth")
    weights = torch.load(file, weights_only=True)
    edit(weights["model"])
    torch.save(weights, file)
    with pytest.raises(CheckpointError, match=message) as caught:
        if part == "clip":
            load_clip("small/catseg", file)
        else:
            load_decoder("small/catseg", decoder(), file)
    assert "looks like a CAT-Seg" in str(caught.value)


def test_a_truncated_file_is_told(cards, tmp_path):
    file = catseg_file(tmp_path / "model_base.pth")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="truncated"):
        load_decoder("small/catseg", decoder(), file)
