"""A training that is killed and resumed ends with the weights of one that was left alone: bit for bit on the CPU."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ovseg.training.policy import StepSeedHook
from tests.launching import launched
from tests.nano.conftest import FIXTURES
from tools.publish_decoder import read_training

ROOT = Path(__file__).parents[2]
ITERATIONS = 8
OPTIONS = [
    f"train_dataloader.dataset.sprites={FIXTURES}",
    "train_dataloader.batch_size=2",
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


def start(folder, method="catseg", launch=(), changes=()):
    command = [sys.executable, *launch, str(ROOT / "tools" / "train.py")]
    command += [str(ROOT / f"configs/nano/{method}_nano_train.py"), *(["--launcher", "pytorch"] if launch else [])]
    command += ["--work-dir", str(folder), "--resume", "--cfg-options", *OPTIONS]
    command += ["model.words_per_step=8", *changes] if method == "catseg" else changes
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder)


def finish(folder, method="catseg", **options):
    process = start(folder, method, **options)
    error = process.communicate(timeout=400)[1]
    assert process.returncode == 0, error.decode()[-2000:]
    return read_training(folder / f"iter_{ITERATIONS}.pth")


def records(folder):
    """What was logged, by iteration."""
    (file,) = folder.glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["catseg", "san"])
def test_two_processes_train_as_one(tmp_path, method):
    """Half a batch each: the same losses, gradients and weights within rounding."""
    logged = [
        "default_hooks.logger.interval=1",
        "model.loss.points=4096" if method == "san" else "model.words_per_step=None",
    ]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = finish(tmp_path / "one", method, changes=logged)
    two = finish(tmp_path / "two", method, changes=[*logged, "train_dataloader.batch_size=1"], launch=launched(2))
    assert set(one) == set(two)
    pairs = list(zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True))
    assert len(pairs) == ITERATIONS
    bar = 1e-4 if method == "catseg" else 0.05  # SAN's loss looks at random points of each process
    for alone, together in pairs:
        assert together["loss"] == pytest.approx(alone["loss"], rel=bar)
        assert together["grad_norm"] == pytest.approx(alone["grad_norm"], rel=20 * bar)
    if method == "catseg":
        far = {name: float((one[name] - two[name]).abs().max()) for name in one}
        assert sorted(far.values())[-4] < 1e-4 and max(far.values()) < 5e-3, "Adam makes steps of rounding near zero"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["catseg", "san"])
def test_three_kills_change_nothing(tmp_path, method):
    chance = random.Random(time.time_ns())
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    expected = finish(tmp_path / "whole", method)
    folder, done = tmp_path / "killed", 0
    for _ in range(3):
        process = start(folder, method)
        due = done + chance.choice((1, 2))
        while process.poll() is None and not (folder / f"iter_{due}.pth").is_file():
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        assert process.poll() is None, process.communicate()[1].decode()[-2000:]
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        done = int((folder / "last_checkpoint").read_text().strip().rpartition("_")[2].removesuffix(".pth"))
    found = finish(folder, method)
    assert set(found) == set(expected)
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert not different


def test_chance_in_a_step_is_that_of_its_iteration(monkeypatch):
    def draws(seed, iteration, rank=0):
        monkeypatch.setattr("ovseg.training.policy.get_rank", lambda: rank)
        StepSeedHook().before_train_iter(SimpleNamespace(seed=seed, iter=iteration), 0)
        return float(torch.rand(())), float(np.random.rand()), random.random()

    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    found = [draws(0, 7), draws(0, 8), draws(1, 7), draws(0, 7, rank=1)]
    assert all(len(set(column)) == 4 for column in zip(*found, strict=True))
    assert draws(0, 7) == found[0]
    random.setstate(state[0]), np.random.set_state(state[1]), torch.set_rng_state(state[2])
