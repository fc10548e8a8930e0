"""A training that is killed and resumed ends with the weights of one that was left alone: bit for bit on the CPU."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.nano.conftest import FIXTURES
from tools.publish_decoder import read_training

ROOT = Path(__file__).parents[2]
ITERATIONS = 8
OPTIONS = [
    f"train_dataloader.dataset.sprites={FIXTURES}",
    "train_dataloader.batch_size=2",
    "model.words_per_step=8",
    "model.training_vocabulary=None",
    f"train_cfg.max_iters={ITERATIONS}",
    "train_cfg.val_interval=100",
    "val_dataloader=None",
    "val_cfg=None",
    "val_evaluator=None",
    f"param_scheduler.1.end={ITERATIONS}",
    "param_scheduler.0.end=2",
    "param_scheduler.1.begin=2",
    "default_hooks.checkpoint.interval=1",
    "default_hooks.checkpoint.max_keep_ckpts=2",
]


def start(folder):
    command = [sys.executable, str(ROOT / "tools" / "train.py"), str(ROOT / "configs/nano/catseg_nano_train.py")]
    command += ["--work-dir", str(folder), "--resume", "--cfg-options", *OPTIONS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder)


def finish(folder):
    process = start(folder)
    error = process.communicate(timeout=400)[1]
    assert process.returncode == 0, error.decode()[-2000:]
    return read_training(folder / f"iter_{ITERATIONS}.pth")


@pytest.mark.slow
def test_three_kills_change_nothing(tmp_path):
    chance = random.Random(time.time_ns())
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    expected = finish(tmp_path / "whole")
    folder, done = tmp_path / "killed", 0
    for _ in range(3):
        process = start(folder)
        due = done + chance.choice((1, 2))
        while process.poll() is None and not (folder / f"iter_{due}.pth").is_file():
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        assert process.poll() is None, process.communicate()[1].decode()[-2000:]
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        done = int((folder / "last_checkpoint").read_text().strip().rpartition("_")[2].removesuffix(".pth"))
    found = finish(folder)
    assert set(found) == set(expected)
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert not different
