"""The whole way once, small: tools/train.py trains, resumes and exports."""

import csv
import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ovseg.engine.runner import TrainRunner
from ovseg.nano.export import export, read_checkpoint
from ovseg.nano.pretrain import build_clip
from ovseg.weights import CheckpointError
from tests.nano.conftest import FIXTURES
from tests.nano.test_pretrain import TINY

ROOT = Path(__file__).parents[2]


def _train_main():
    spec = importlib.util.spec_from_file_location("train", ROOT / "tools" / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    (folder / "clip.json").write_text(json.dumps(TINY))
    common = [
        str(ROOT / "configs" / "nano" / "clip_nano_pretrain.py"),
        "--work-dir",
        str(folder / "run"),
        "--cfg-options",
    ]
    common += [
        f"model.clip={folder / 'clip.json'}",
        f"train_dataloader.dataset.sprites={FIXTURES}",
        "train_dataloader.dataset.size=32",
        "train_dataloader.batch_size=8",
        f"custom_hooks.1.sprites={FIXTURES}",
        "custom_hooks.1.interval=2",
        "custom_hooks.1.count=2",
        "custom_hooks.0.interval=1",
        "custom_hooks.0.begin_iter=0",
        "default_hooks.checkpoint.interval=2",
        "default_hooks.logger.interval=1",
        "default_scope=ovseg",
    ]
    main = _train_main()
    main([*common, "train_cfg.max_iters=2"])
    before = read_checkpoint(folder / "run" / "iter_2.pth")
    main([*common, "train_cfg.max_iters=4", "resume=True"])
    return folder, before


def test_training_resumes_where_it_stopped(trained):
    folder, before = trained
    assert (folder / "run" / "last_checkpoint").read_text().endswith("iter_4.pth")
    after = read_checkpoint(folder / "run" / "iter_4.pth")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    with (folder / "run" / "probe.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["2", "4"]
    assert all(0 <= float(row["kk"]) <= 100 for row in rows)


class Payload:
    """Makes a folder when it is unpickled without care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_checkpoints_that_would_execute_code_are_refused(tmp_path):
    mark = tmp_path / "was here"
    torch.save({"state_dict": {}, "extra": Payload(mark)}, tmp_path / "evil.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "evil.pth").read_bytes()[:90])
    runner = object.__new__(TrainRunner)
    for name, message in (("evil", "could execute code"), ("cut", "is damaged"), ("none", "does not exist")):
        with pytest.raises((CheckpointError, FileNotFoundError), match=rf"{name}\.pth.*{message}"):
            runner.load_checkpoint(str(tmp_path / f"{name}.pth"))
    assert not mark.exists()


def test_exported_weights_load_strictly(trained, tmp_path):
    folder, _ = trained
    size = export(folder / "run" / "iter_4.pth", tmp_path / "clip.safetensors")
    weights = load_file(tmp_path / "clip.safetensors")
    assert size == (tmp_path / "clip.safetensors").stat().st_size
    assert all(tensor.dtype == torch.float16 for tensor in weights.values())
    build_clip(folder / "clip.json").load_state_dict(weights, strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.safetensors"]


def test_foreign_checkpoints_are_refused(tmp_path):
    torch.save({"state_dict": {"other": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="is it a checkpoint of another training"):
        export(tmp_path / "other.pth", tmp_path / "clip.safetensors")
