"""SegCLIP's recipe at nano's scale through tools/train.py, and its file read back."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from ovseg.cli import door
from ovseg.registry import MODELS
from tests.nano.conftest import FIXTURES
from tools.publish_decoder import publish, read_training

CONFIG = Path(__file__).parents[2] / "configs" / "nano" / "segclip_nano_train.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segclip")
    options = [
        f"train_dataloader.dataset.sprites={FIXTURES}",
        "train_dataloader.batch_size=4",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "train_dataloader.prefetch_factor=None",
        "val_dataloader=None",
        "val_cfg=None",
        "val_evaluator=None",
        "train_cfg.max_iters=3",
        "default_hooks.checkpoint.interval=1",
        "default_hooks.logger.interval=1",
    ]
    assert not door("train", [str(CONFIG), "--work-dir", str(folder), "--cfg-options", *options])
    return folder


def test_the_recipe_trains_what_it_names(run):
    first, last = (read_training(run / f"iter_{i}.pth") for i in (2, 3))
    changed = {name for name in last if not torch.equal(first[name], last[name])}
    moved = {name for name in changed if not name.startswith("backbone.tower.")}  # CLIP's under a second name
    model = MODELS.build(Config.fromfile(CONFIG).model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained >= moved and len(moved) > 0.9 * len(trained)
    assert not any(name.startswith("backbone.clip.transformer") for name in moved)


def test_its_file_is_read_without_the_reconstruction(run, tmp_path):
    publish(CONFIG, run / "iter_3.pth", tmp_path / "out.safetensors", "training")
    config = Config.fromfile(CONFIG)
    config.model.update(reconstruction=None, trained=[], vocabulary=["cat", "dog"], templates="plain")
    config.model.decoder.update(weights="segclip/vitb16", checkpoint=str(tmp_path / "out.safetensors"))
    model = MODELS.build(config.model).eval()
    trained = read_training(run / "iter_3.pth")
    for name, parameter in model.decoder.named_parameters():
        assert torch.equal(parameter, trained[f"decoder.{name}"]), name
    photo = model.prepare(torch.randint(0, 256, (3, 112, 150), dtype=torch.uint8), (112, 150))
    assert model.predict([photo])[0].shape == (112, 150)
