"""Checkpoints that training is given: damaged ones end in one named error, and none runs code."""

import pickle
import random

import pytest
import torch
from mmengine.runner import Runner

from ovseg.engine.runner import TrainRunner
from ovseg.weights import CheckpointError
from tests.weights.mutations import mutated


@pytest.fixture
def runner(monkeypatch):
    """A runner that gets as far as handing the file to MMEngine."""
    monkeypatch.setattr(Runner, "load_checkpoint", lambda self, filename, *args, **kwargs: "read")
    return TrainRunner.__new__(TrainRunner)


@pytest.mark.parametrize("zipped", [True, False])
def test_mutated_checkpoints(runner, tmp_path, zipped):
    path, rng = tmp_path / "epoch_1.pth", random.Random(0)
    torch.save(
        {"state_dict": {"w": torch.randn(20, 9)}, "meta": {"epoch": 1}}, path, _use_new_zipfile_serialization=zipped
    )
    content, refused = path.read_bytes(), 0
    assert runner.load_checkpoint(str(path)) == "read"
    for _ in range(80):
        path.write_bytes(mutated(content, rng))
        try:
            runner.load_checkpoint(str(path))
        except CheckpointError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",  # a text that is no UTF-8
        b"\x80\x02}q\x00.",
        b"\x80\x02]q\x00(K\x01K",
        pickle.dumps(print),
        b"PK\x03\x04" + b"\xff" * 40,
    ],
)
def test_foreign_files(runner, tmp_path, content):
    path = tmp_path / "epoch_1.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="epoch_1.pth"):
        runner.load_checkpoint(str(path))
