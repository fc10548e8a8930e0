"""CLIP-DINOiser on nano: the training config runs on composed scenes, and the shipped heads fit nano."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ovseg.apis import config_root
from ovseg.nano.export import ASSETS, export
from ovseg.nano.validation import ValidationScenes
from ovseg.weights import catalogue, get_card, load_heads
from tests.nano.conftest import FIXTURES


def test_validation_scenes_are_packed_like_a_benchmark():
    scenes = ValidationScenes(sprites=str(FIXTURES), count=3, size=(96, 128))
    again = ValidationScenes(sprites=str(FIXTURES), count=3, size=(96, 128))
    other = ValidationScenes(sprites=str(FIXTURES), count=3, size=(96, 128), seed=1)
    item = scenes[1]
    labels = item["data_samples"].gt_sem_seg.data
    assert len(scenes) == 3 and item["inputs"].shape == (3, 96, 128) and item["inputs"].dtype == torch.uint8
    assert item["data_samples"].ori_shape == (96, 128) and labels.shape == (1, 96, 128)
    assert len(labels.unique()) > 1 and int(labels.max()) < len(scenes.metainfo["classes"])
    assert torch.equal(item["inputs"], again[1]["inputs"]) and not torch.equal(item["inputs"], other[1]["inputs"])


def test_the_config_trains_without_labels_and_the_heads_load(tmp_path, monkeypatch):
    words = ValidationScenes(sprites=str(FIXTURES), count=1).metainfo["classes"]
    (tmp_path / "classes.txt").write_text("\n".join(words) + "\n")
    config = Config.fromfile(config_root() / "nano" / "clip_dinoiser_nano_train.py")
    config.work_dir = str(tmp_path / "work")
    config.model.student.update(text_cache=False, templates="plain")
    config.model.student.vocabulary.file = str(tmp_path / "classes.txt")
    config.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    config.train_dataloader.dataset.sprites = str(FIXTURES)
    config.val_dataloader.dataset.update(sprites=str(FIXTURES), count=1, size=(112, 112))
    config.train_cfg.update(max_iters=2, val_interval=2)
    config.default_hooks.checkpoint.interval = 2
    runner = Runner.from_cfg(config)
    assert set(runner.train_dataloader.dataset[0]) == {"inputs"}
    runner.train()
    assert any("mIoU" in key for key in runner.message_hub.log_scalars)

    export(Path(config.work_dir) / "iter_2.pth", tmp_path / "dinoiser.safetensors", part="dinoiser")
    (tmp_path / "dinoiser.json").write_text(json.dumps({"width": 192}))
    card = replace(get_card("nano_dinoiser"), name="tiny", packaged=tmp_path / "dinoiser")
    monkeypatch.setitem(catalogue(), "tiny", card)
    heads = load_heads("tiny").model
    assert torch.equal(heads["obj_proj"].weight, runner.model.obj_proj.weight.half().float())


def test_shipped_heads_fit_nano_and_are_small():
    heads = load_heads("nano_dinoiser").model
    assert heads["obj_proj"](torch.rand(1, 192, 7, 7)).shape == (1, 256, 7, 7)
    assert all(torch.isfinite(weight).all() for weight in heads.parameters())
    assert (ASSETS / "dinoiser.safetensors").stat().st_size < 2_000_000
