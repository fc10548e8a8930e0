"""``ovseg train``: from any directory, with set-up errors of one line."""

import json
import logging

import pytest
from mmengine.config import Config

from ovseg.cli import main
from ovseg.engine import config_root, load_config
from ovseg.nano.assets import asset
from ovseg.registry import MODELS
from tests.cli.json_lines import run
from tests.nano.conftest import FIXTURES
from tests.nano.test_pretrain import TINY

NANO = config_root() / "nano"
CONFIG = str(NANO / "clip_nano_pretrain.py")


@pytest.mark.parametrize(
    "name", ["clip_nano_pretrain", "guide_nano_pretrain", "sam_nano_pretrain", "clip_nano_guided_pretrain"]
)
def test_models_of_the_trainings_are_built_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert MODELS.build(load_config(NANO / f"{name}.py").model) is not None


def test_sprites_lie_with_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path))
    assert Config.fromfile(CONFIG).sprites == f"{tmp_path}/sprites/fluent.npz"


def test_packaged_files_and_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "vision_cfg" in json.loads(asset("nano/clip.json").read_text())
    (tmp_path / "mine.json").write_text("{}")
    assert asset("mine.json").read_text() == "{}" and asset(tmp_path / "mine.json").read_text() == "{}"
    with pytest.raises(FileNotFoundError, match="nano/clip.jsn is neither.*nano/clip.json"):
        asset("nano/clip.jsn")


def test_two_steps_from_another_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.json").write_text(json.dumps(TINY))
    options = [
        "model.clip=clip.json",
        f"train_dataloader.dataset.sprites={FIXTURES}",
        "train_dataloader.dataset.size=32",
        "train_dataloader.batch_size=4",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "train_dataloader.prefetch_factor=None",
        "train_cfg.max_iters=2",
        "default_hooks.checkpoint.interval=2",
        "custom_hooks=[]",
    ]
    (line,) = run(capsys, "train", CONFIG, "--work-dir", "run", "--cfg-options", *options)
    assert (line["iterations"], line["work_dir"]) == (2, "run") and line["checkpoint"].endswith("iter_2.pth")
    assert (tmp_path / "run" / "iter_2.pth").is_file()


@pytest.mark.parametrize(
    "options, message",
    [
        (["max_iters=2"], "max_iters: nothing reads this key, so it would change nothing; did you mean 'train_cfg.max"),
        (["train_cfg.max_iter=2"], "did you mean 'max_iters'"),
        (["train_cfg.max_iters=two"], "max_iters is 'two'"),
        (["optim_wrapper.optimizer.type=AdmW"], "did you mean 'AdamW'"),
        (["optim_wrapper.clipgrad=1"], "did you mean 'clip_grad'"),
        (["optim_wrapper.optimizer.lrr=1"], "lrr"),
        (["param_scheduler.0.start=1"], "LinearLR has no argument 'start'"),
        (["param_scheduler.0.start_factor=7.5"], "Starting multiplicative factor"),
        (["default_hooks.checkpoint.intervall=2"], "did you mean 'interval'"),
        (["model.clip=nowhere.json"], "nowhere.json"),
        (["train_dataloader.dataset.sprites=nowhere.npz"], "no sprites at nowhere.npz"),
        (["train_dataloader=None"], "has no train_dataloader"),
    ],
)
def test_set_up_errors(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "raiseExceptions", False)  # MMEngine's logger may hold a stream of an earlier test
    options = ["custom_hooks=[]", f"train_dataloader.dataset.sprites={FIXTURES}", *options]
    assert main(["train", CONFIG, "--work-dir", "run", "--cfg-options", *options]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert len([line for line in error.splitlines() if line.startswith("error:")]) == 1


def test_an_evaluation_is_no_training(tmp_path, capsys):
    config = str(config_root() / "sclip" / "sclip_vitb16_voc21.py")
    assert main(["train", config, "--work-dir", str(tmp_path / "run")]) == 2
    assert "has no train_dataloader" in capsys.readouterr().err
