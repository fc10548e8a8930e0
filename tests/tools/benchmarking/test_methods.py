"""From a method's name to what is measured."""

import pytest
from mmengine.config import Config

from tools.benchmarking import methods
from tools.benchmarking.methods import VARIANTS, config_of, load_config
from tools.benchmarking.speed import FORMS


@pytest.fixture(autouse=True)
def no_files(monkeypatch):
    """Names in the place of files of stand-in weights, which take seconds each."""
    monkeypatch.setattr(methods, "standin", lambda name: f"file of {name}")
    monkeypatch.setattr(methods, "standin_bank", lambda: "folder of the bank")


@pytest.mark.parametrize("name", FORMS)
def test_every_form_has_a_config(name):
    path = config_of(name, "voc21")
    assert path.name.startswith(f"{name}_")
    found = [form for form in FORMS if path.stem.startswith(f"{form}_")]
    assert found == [name]
    model = load_config(path).model
    assert model.backbone.weights.endswith(("b16", "B-16", "b14_reg"))  # no stand-in is larger than ViT-B
    assert model.backbone.checkpoint == f"file of {model.backbone.weights}"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_its_base_with_changes(name):
    base, changes = VARIANTS[name]
    model, plain = (Config.fromfile(config_of(method, "voc21")).model for method in (name, base))
    for part, settings in changes.items():
        assert {key: model[part][key] for key in settings} == settings
        model[part] = plain.get(part)
    assert {k: v for k, v in model.items() if v is not None} == dict(plain)


def test_files_take_the_place_of_all_names():
    backbone = load_config(config_of("radseg", "voc21")).model.backbone
    assert backbone.text == "openai/ViT-B-16" and backbone.text_checkpoint == "file of openai/ViT-B-16"
    assert backbone.language_checkpoint == "file of radio/siglip2_vitb16"
    assert load_config(config_of("talk2dino", "voc21")).model.backbone.map_checkpoint
    assert load_config(config_of("segearth", "voc21")).model.stitch.checkpoint == "file of segearth/jbu_one"
    model = load_config(config_of("corrclipv2-bank", "voc21"), "bf16").model
    assert model.guide.source.precision == "bf16" and model.guide.source.checkpoint == "file of dinov3/vitb16"
    assert model.stitch.bank == "folder of the bank" and model.regions is None


def test_real_weights_keep_their_sizes():
    model = load_config(config_of("vip", "voc21"), weights="real").model
    assert model.backbone.weights == "dinov3/vitl16" and "checkpoint" not in model.backbone


def test_a_method_without_the_benchmark_is_told():
    assert config_of("radseg", "voc21").name == "radseg_vitb16_voc20.py"
    with pytest.raises(ValueError, match=r"no config nosuch_vitb16_voc21\.py; give a method"):
        config_of("nosuch", "voc21")
