"""Whoever has no network learns of all missing files at once."""

import pytest
from mmengine.config import Config

from ovseg import Segmenter
from ovseg.cli import main
from ovseg.registry import MODELS
from ovseg.weights import WeightsNotFound, catalogue, get_card
from ovseg.weights.needed import needs_of, told_together

TRIDENT = ("openai/ViT-B-16", "dino/vitb16", "sam/vit_b")


def names(config, **options):
    return [need.card.name for need in needs_of(config, **options)]


def test_a_model_tells_all_it_lacks(cache):
    with pytest.raises(WeightsNotFound) as caught:
        Segmenter("openai/ViT-B-16", "trident")
    message = str(caught.value)
    assert "3 files are missing" in message and "downloads are switched off" in message
    for name in TRIDENT:
        card = get_card(name)
        assert name in message and card.licence in message and str(cache / card.filename) in message
        assert card.sources[0].url in message
    assert "375,042,383 bytes" in message and "not stated" in message
    assert f"weights fetch {' '.join(TRIDENT)}" in message


def test_what_is_here_is_not_named(cache):
    for name in TRIDENT[1:]:
        path = cache / get_card(name).filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(WeightsNotFound) as caught:
        Segmenter("openai/ViT-B-16", "trident")
    assert "dino" not in str(caught.value) and "openai/ViT-B-16" in str(caught.value)


def test_masks_in_a_cache_need_no_sam():
    regions = dict(type="CachedRegions", source=dict(type="SamMasks", weights="sam/vit_h"))
    assert names(dict(regions=regions), lazily=True) == []
    assert names(dict(regions=regions)) == ["sam/vit_h"]
    assert names([dict(type="SamMasks")]) == ["sam/vit_b"], "the default of the class"
    assert names(dict(type="SamMasks", checkpoint="mine.pth")) == []
    assert names(dict(type="DinoiserAttention", heads=None)) == [] == names(dict(type="Magic", weights="nano"))
    assert names(dict(type="Sam2Masks")) == ["facebook/sam2-hiera-large"]
    pair = dict(type="TextMappedBackbone", checkpoint="mine.pth")
    assert names(pair) == ["openai/ViT-B-16", "talk2dino/vitb14_reg"]
    assert names(dict(pair, map_checkpoint="map.pth", text="nano")) == ["nano"]
    assert names(dict(type="DinoTxtBackbone")) == ["dinov3/vitl16", "dinotxt/vitl16"]
    assert names(dict(type="RadioBackbone", text="nano")) == ["radio/vitb16", "radio/siglip2_vitb16", "nano"]
    guide = dict(type="CachedGuide", source=dict(type="DinoBackbone"))
    assert names(guide, lazily=True) == ["dino/vitb8"], "built at once"


def test_one_missing_file_is_told_as_before():
    with pytest.raises(WeightsNotFound, match="'dino/vitb8' needs a file"), told_together(dict(type="DinoBackbone")):
        MODELS.get("OpenVocabSegmentor")
        from ovseg.backbones import DinoBackbone

        DinoBackbone("dino/vitb8")


def test_models_of_transformers_say_where_they_go(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert main(("weights", "fetch", "facebook/sam2-hiera-large")) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "models--facebook--sam2-hiera-large") in error.replace("\n", "") and "Apache-2.0" in error
    snapshot = tmp_path / "models--facebook--sam2-hiera-large" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--facebook--sam2-hiera-large" / "refs").mkdir()
    (tmp_path / "models--facebook--sam2-hiera-large" / "refs" / "main").write_text("abc")
    assert main(("weights", "fetch", "facebook/sam2-hiera-large")) == 1, "a configuration without weights"
    (snapshot / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    capsys.readouterr()
    assert main(("weights", "fetch", "facebook/sam2-hiera-large")) == 0
    assert str(snapshot / "model.safetensors") in capsys.readouterr().out


def test_fetch_of_a_method(capsys):
    assert main(("weights", "fetch", "--method", "trident")) == 1
    error = capsys.readouterr().err
    assert all(name in error for name in TRIDENT)
    assert main(("weights", "fetch", "--method", "corrclip", "--weights", "metaclip_fullcc/ViT-B-16")) == 1
    error = capsys.readouterr().err
    assert "metaclip_fullcc/ViT-B-16 for ClipBackbone" in error and "sam/vit_h for SamMasks" in error
    assert main(("weights", "fetch", "--method", "clearclip", "--weights", "nano")) == 0
    assert "nano" in capsys.readouterr().out
    assert main(("weights", "fetch")) == 2
    assert main(("weights", "fetch", "--method", "trident", "--weights", "openai/ViTB16")) == 1
    assert "no weights named" in capsys.readouterr().err


def test_every_method_is_listed_whole():
    """The registered classes that read weights are those that say so."""
    from ovseg.apis import available_methods, method_config, published_config

    for method in available_methods():
        weights = Config.fromfile(published_config(method)).model.backbone.get("text", "openai/ViT-B-16")
        found = names(method_config(method, weights).model)
        assert weights in found and set(found) <= set(catalogue())
    assert names(method_config("clip_dinoiser", "laion2b_s34b_b88k/ViT-B-16").model) == [
        "laion2b_s34b_b88k/ViT-B-16",
        "clip_dinoiser/last",
    ]
