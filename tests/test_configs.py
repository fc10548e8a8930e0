"""Every config file parses, names registered parts, and builds a model whose classes are the data set's."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from ovseg.datasets import load_class_names
from ovseg.engine.class_words import check_config, check_model
from ovseg.registry import MODELS, TRANSFORMS
from ovseg.weights import LoadedClip, get_card
from tests.small_guides import use_small_guides
from tests.small_models import small_clip, small_convnext_clip

ROOT = Path(__file__).parent.parent / "configs"
CONFIGS = sorted(p for p in ROOT.rglob("*.py") if "_base_" not in p.parts)
EVALUATIONS = [p for p in CONFIGS if "train" not in p.stem and "finetune" not in p.parts]
TRAININGS = [p for p in CONFIGS if "catseg" in p.stem and p not in EVALUATIONS]


@pytest.fixture
def small_weights(monkeypatch):
    """The catalogue's names resolve to a small random CLIP: building must not need gigabytes."""
    import open_clip

    def load(name, checkpoint=None):
        get_card(name)  # unknown names must still fail
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        arch = get_card(name).arch
        clip = small_convnext_clip() if "convnext" in arch else small_clip(layers=24 if "L-14" in arch else 12)
        return LoadedClip(
            model=clip, tokenizer=open_clip.tokenize, mean=mean, std=std, card=get_card(name), sha256="0" * 64
        )

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)
    monkeypatch.setattr("ovseg.backbones.convnext.load_clip", load)
    monkeypatch.setattr("ovseg.backbones.text_map.load_clip", load)
    monkeypatch.setattr("ovseg.backbones.radio.load_clip", load)
    monkeypatch.setattr("ovseg.backbones.sam_clip.load_clip", load)
    for place in ("decoders.base", "backbones.sam_clip"):
        monkeypatch.setattr(f"ovseg.{place}.load_decoder", lambda name, decoder, checkpoint=None: get_card(name).name)
    use_small_guides(monkeypatch)


def ids(paths):
    return [str(p.relative_to(ROOT)) for p in paths]


@pytest.mark.parametrize("path", CONFIGS, ids=ids(CONFIGS))
def test_config_parses_and_has_a_comment_that_says_what_it_is(path):
    config = Config.fromfile(path)
    assert "model" in config
    assert path.read_text().startswith("#"), "say in the first line what the config is for"


@pytest.mark.parametrize("path", EVALUATIONS, ids=ids(EVALUATIONS))
def test_evaluation_config_builds(path, small_weights):
    config = Config.fromfile(path)
    config.model.templates = "plain"  # the words matter here, not the 80 templates
    config.model.text_cache = False
    if config.model.type == "SegClipSegmentor":
        config.model.decoder.groups = 4  # of the small CLIP's 64 channels
    model = MODELS.build(config.model)
    assert len(model.vocabulary) == config.num_classes
    assert repr(model.describe())
    dataset = config.test_dataloader.dataset
    names = load_class_names(dataset.classes)
    meta = SimpleNamespace(metainfo=dict(classes=names, reduce_zero_label=dataset.get("reduce_zero_label", False)))
    check_config(config, meta)
    other = check_model(model, meta)
    assert len(other) < len(names) / 2, "most classes go by their own names"
    assert names[0] != "background" or model.vocabulary.display_names[0] == "background"


@pytest.mark.parametrize("path", ["maft_plus/maft_plus_convnext-base_train.py", "ovseg/ovseg_mask-prompts_train.py"])
def test_training_config_builds(path, small_weights):
    config = Config.fromfile(ROOT / path)
    if "vocabulary" in config.model:
        config.model.update(templates="plain", text_cache=False)
    model = MODELS.build(config.model)
    assert any(parameter.requires_grad for parameter in model.parameters())
    for step in config.train_dataloader.dataset.pipeline:
        TRANSFORMS.build(step)


@pytest.mark.parametrize("path", TRAININGS, ids=ids(TRAININGS))
def test_training_of_a_decoder_builds_and_trains_what_it_names(path, small_weights):
    config = Config.fromfile(path)
    config.model.templates = "plain"
    if "folder" in config:
        config.model.vocabulary = ["cat", "dog"]
    model = MODELS.build(config.model)
    assert model.criterion is not None
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("decoder.") for name in names)
    assert all(name.startswith(("decoder.", "backbone.clip.")) for name in names)
    (schedule,) = (s for s in config.param_scheduler if s.type == "CosineAnnealingLR")
    assert schedule.end == config.train_cfg.max_iters


@pytest.mark.parametrize(
    "path", [p for p in CONFIGS if p not in EVALUATIONS], ids=ids([p for p in CONFIGS if p not in EVALUATIONS])
)
def test_validation_stands_at_its_iteration_in_the_log(path):
    config = Config.fromfile(path)
    by_epoch = config.train_cfg.get("type") == "EpochBasedTrainLoop"
    assert config.default_hooks.logger.get("log_metric_by_epoch", True) == by_epoch


def test_all_ten_benchmarks_have_a_config_for_each_first_method():
    benchmarks = "voc21 voc20 context60 context59 coco_object coco_stuff ade20k cityscapes ade847 pc459".split()
    for method in ("clip", "maskclip", "sclip", "clearclip", "naclip", "naclip_pamr"):
        for benchmark in benchmarks:
            assert list(ROOT.glob(f"*/{method}_vitb16_{benchmark}.py")), (method, benchmark)
