"""A file that is known as something else is not read in silence."""

import json
import warnings
from dataclasses import replace

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from ovseg.weights import CheckpointError, Source, catalogue, file_sha256, load_clip, load_dino
from ovseg.weights.identity import owner_by_hash, owner_by_place
from tests.standins import openai_layout
from tests.weights.small import ARCH, CONFIG, ENTRIES, save_torchscript


@pytest.fixture
def cards(clip_card, tmp_path, monkeypatch):
    """``test/clip`` (OpenAI's, QuickGELU), ``test/laion`` (GELU) and ``test/meta`` (QuickGELU, another publisher)."""
    plain = f"{ARCH}-plain"
    (tmp_path / f"{plain}.json").write_text(json.dumps({**CONFIG, "quick_gelu": False}))
    open_clip.add_model_config(tmp_path / f"{plain}.json")
    laion = replace(clip_card, name="test/laion", arch=plain, quickgelu=False, family="LAION")
    meta = replace(clip_card, name="test/meta", family="MetaCLIP")
    for card in (laion, meta):
        monkeypatch.setitem(catalogue(), card.name, card)
    return clip_card, laion, meta


def state_dict(model):
    """OpenAI's plain layout: half precision and three integers."""
    return {**openai_layout(model.state_dict()), **{name: torch.tensor(value) for name, value in ENTRIES.items()}}


@pytest.mark.parametrize("kind", ["archive", "state dict", "nested", "with a prefix"])
def test_openais_layout_under_a_name_with_gelu_is_told(cards, clip_model, tmp_path, kind):
    path = tmp_path / "file.pt"
    if kind == "archive":
        save_torchscript(clip_model, path)
    elif kind == "with a prefix":
        torch.save({f"module.{name}": value for name, value in state_dict(clip_model).items()}, path)
    else:
        state = state_dict(clip_model)
        torch.save(state if kind == "state dict" else {"state_dict": state, "epoch": 3}, path)
    with pytest.warns(UserWarning, match="OpenAI's layout.*QuickGELU; test/laion computes with GELU"):
        load_clip("test/laion", path)
    with pytest.warns(UserWarning, match="OpenAI's layout .* and is read as test/meta"):
        load_clip("test/meta", path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_clip("test/clip", path)
    assert torch.equal(loaded.model.visual.proj, clip_model.visual.proj)


def test_open_clips_layout_is_read_under_either_name(cards, clip_model, tmp_path):
    save_file(clip_model.state_dict(), tmp_path / "mine.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for card in cards:
            load_clip(card.name, tmp_path / "mine.safetensors")


@pytest.mark.parametrize("digits", [8, 64])
def test_a_published_hash_under_another_name_is_refused(cards, clip_model, tmp_path, monkeypatch, digits):
    path = tmp_path / "renamed.safetensors"
    save_file(clip_model.state_dict(), path)
    published = Source("https://example.org/a.pt", file_sha256(path)[:digits])
    monkeypatch.setitem(catalogue(), "test/meta", replace(cards[2], sources=(published,)))
    assert owner_by_hash(path) == ["test/meta"]
    for name in ("test/clip", "test/laion"):
        with pytest.raises(CheckpointError, match=f"published as test/meta, and was to be read as {name}") as caught:
            load_clip(name, path)
        assert str(path) in str(caught.value) and "Load it under the name test/meta" in str(caught.value)
    load_clip("test/meta", path)


def test_a_file_in_anothers_place_is_refused(cards, clip_model, tmp_path, cache, monkeypatch):
    repo = replace(cards[2], sources=(Source("https://huggingface.co/org/model/resolve/main/model.safetensors"),))
    monkeypatch.setitem(catalogue(), "test/meta", repo)
    hub = tmp_path / "models--org--model" / "snapshots" / "abc" / "model.safetensors"
    hub.parent.mkdir(parents=True)
    save_file(clip_model.state_dict(), hub)
    own = cache / "test" / "meta.safetensors"
    own.parent.mkdir(parents=True)
    own.write_bytes(hub.read_bytes())
    for path in (hub, own):
        assert owner_by_place(path) == ["test/meta"]
        with pytest.raises(CheckpointError, match="published as test/meta"):
            load_clip("test/laion", path)
        load_clip("test/meta", path)
    assert owner_by_place(tmp_path / "models--some--body" / "x.bin") == [] == owner_by_place(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("name", "config", "quick"),
    [
        ("config.json", {"vision_config": {"hidden_act": "quick_gelu"}, "text_config": {}}, True),
        ("config.json", {"vision_config": {"hidden_act": "gelu"}}, False),
        ("open_clip_config.json", {"model_cfg": {"quick_gelu": True}}, True),
        ("open_clip_config.json", {"model_cfg": {"embed_dim": 3}}, False),
    ],
)
def test_the_configuration_beside_is_believed(cards, clip_model, tmp_path, name, config, quick):
    save_file(clip_model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / name).write_text(json.dumps(config))
    right, wrong = ("test/clip", "test/laion") if quick else ("test/laion", "test/clip")
    load_clip(right, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="configuration beside it states"):
        load_clip(wrong, tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", ["[1, 2]", "{", '{"vision_config": 3}', '{"model_cfg": []}', "\udcff", "[" * 99999])
def test_a_configuration_that_says_nothing_is_passed_by(cards, clip_model, tmp_path, content):
    save_file(clip_model.state_dict(), tmp_path / "model.safetensors")
    for name in ("config.json", "open_clip_config.json"):
        (tmp_path / name).write_text(content, errors="surrogateescape")
    load_clip("test/laion", tmp_path / "model.safetensors")


def test_a_classifier_is_no_dino(tmp_path, monkeypatch):
    state = {"patch_embed.proj.weight": torch.zeros(4, 3, 2, 2), "head.weight": torch.zeros(1000, 4)}
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match="classifier of 1000 classes"):
        load_dino("dino/vitb16", tmp_path / "vit.pth")


def test_published_hashes_belong_to_one_entry_each():
    known = [source.sha256 for card in catalogue().values() for source in card.sources if source.sha256]
    for one in set(known):
        assert len({k for k in known if k.startswith(one) or one.startswith(k)}) == 1
