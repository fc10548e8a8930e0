"""Files of every format are read; files that are none of them, or want code run, give one clear error."""

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ovseg.weights import CheckpointError, load_state_dict, read_checkpoint
from ovseg.weights.torchscript import read_torchscript
from tests.weights.small import ENTRIES, save_torchscript

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, 2.0]).half()}


class Payload:
    """What a malicious file contains: unpickling it creates a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def assert_same(weights, expected=WEIGHTS):
    assert list(weights) == list(expected)
    for key, value in expected.items():
        assert weights[key].dtype == value.dtype
        assert torch.equal(weights[key], value)


def legacy(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [torch.save, legacy, save_file], ids=["zip", "legacy", "safetensors"])
def test_formats_are_told_by_content_not_by_ending(save, tmp_path):
    path = tmp_path / "weights.anything"
    save(WEIGHTS, path)
    assert_same(load_state_dict(path))


@pytest.mark.parametrize("container", ["state_dict", "model", "teacher"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_containers_are_opened_and_wrappers_removed(container, prefix, tmp_path):
    inner = {prefix + key: value for key, value in WEIGHTS.items()}
    torch.save({"epoch": 3, container: inner, "optimizer": {"state": {}}}, tmp_path / "x.pt")
    assert_same(load_state_dict(tmp_path / "x.pt"))


def test_teacher_is_taken_before_student(tmp_path):
    student = {key: value + 1 for key, value in WEIGHTS.items()}
    torch.save({"student": student, "teacher": WEIGHTS}, tmp_path / "x.pth")
    assert_same(load_state_dict(tmp_path / "x.pth"))


def test_data_classes_of_training_scripts_are_allowed(tmp_path):
    extras = {
        "args": argparse.Namespace(lr=0.1, arch="vit_base"),
        "loss": np.float64(0.5),
        "steps": np.int64(7),
        "best": np.float32(0.25),
    }
    torch.save({"model": WEIGHTS, **extras}, tmp_path / "x.pth")
    assert_same(load_state_dict(tmp_path / "x.pth"))
    assert read_checkpoint(tmp_path / "x.pth")["loss"] == 0.5


def test_scalars_that_numpy_1_pickled_are_allowed(tmp_path):
    torch.save({"model": WEIGHTS, "loss": np.float64(0.5)}, tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert_same(load_state_dict(tmp_path / "old.pth"))


@pytest.mark.parametrize("in_inference_mode", [False, True])
def test_tensors_own_their_memory_and_can_be_trained(in_inference_mode, tmp_path):
    for save, name in ((torch.save, "x.pt"), (save_file, "x.safetensors")):
        save(WEIGHTS, tmp_path / name)
        with torch.inference_mode(in_inference_mode):
            weights = load_state_dict(tmp_path / name)
        os.truncate(tmp_path / name, 0)  # a mapped file would crash or change here
        assert_same(weights)
        assert not weights["a.weight"].is_inference()


@pytest.mark.parametrize("save", [torch.save, legacy], ids=["zip", "legacy"])
def test_code_in_a_pickle_is_refused_and_not_run(save, tmp_path):
    mark = tmp_path / "was here"
    save({"state_dict": WEIGHTS, "extra": Payload(mark)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt: asks for `\w+\.mkdir`.*refused, nothing was executed"):
        load_state_dict(tmp_path / "x.pt")
    assert not mark.exists()


def test_code_in_a_bare_pickle_is_not_run(tmp_path):
    mark = tmp_path / "was here"
    (tmp_path / "x.pt").write_bytes(pickle.dumps(Payload(mark), protocol=2))
    with pytest.raises(CheckpointError, match="x.pt"):
        load_state_dict(tmp_path / "x.pt")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"  \n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer"),
        (b"just some notes", "is not a checkpoint: 15 bytes"),
        (b"\x80\x02garbage", "damaged or truncated"),
    ],
)
def test_files_that_are_no_checkpoints(content, problem, tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=problem) as caught:
        load_state_dict(path)
    assert caught.value.path == str(path)
    assert caught.value.remedy


def test_directories_and_missing_files(tmp_path):
    with pytest.raises(CheckpointError, match="is a directory"):
        load_state_dict(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_state_dict(tmp_path / "absent.pt")


@pytest.mark.parametrize("save", [torch.save, legacy, save_file], ids=["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_truncated_files(save, fraction, tmp_path):
    path = tmp_path / "x.pt"
    save({"w": torch.rand(100, 100), "v": torch.rand(100)}, path)
    os.truncate(path, int(path.stat().st_size * fraction))
    with pytest.raises(CheckpointError, match="truncated"):
        load_state_dict(path)


def test_zip_that_is_no_checkpoint(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match="is a zip file, but not a PyTorch checkpoint"):
        load_state_dict(tmp_path / "x.npz")


@pytest.mark.parametrize("value", [{"epoch": 3}, [1, 2], torch.zeros(3), {}])
def test_checkpoints_without_weights(value, tmp_path):
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_state_dict(tmp_path / "x.pt")


# ------------------------------------------------------------------------------------------------ TorchScript
@pytest.fixture(scope="module")
def archive(clip_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("torchscript") / "clip.pt"
    save_torchscript(clip_model, path)
    return path


def rewritten(archive, path, change):
    """A copy of a zip archive whose members have gone through ``change(name, content)``."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return path


def test_torchscript_gives_what_executing_it_would_give(archive):
    expected = torch.jit.load(archive).state_dict()
    read = read_torchscript(archive)
    assert set(read) == set(expected)
    assert set(ENTRIES) < set(read)
    for key, value in expected.items():
        assert read[key].dtype == value.dtype
        assert torch.equal(read[key], value)
    assert read["visual.proj"].dtype == torch.float16
    assert read["ln_final.weight"].dtype == torch.float32
    assert set(load_state_dict(archive)) == set(expected) - set(ENTRIES)


def test_torchscript_of_a_scripted_module(clip_model, tmp_path):
    scripted = torch.jit.script(clip_model)
    scripted.save(str(tmp_path / "x.pt"))
    assert_same(read_torchscript(tmp_path / "x.pt"), dict(scripted.state_dict()))


def test_code_of_a_torchscript_archive_is_never_opened(archive, tmp_path, clip_model):
    def ruin(name, content):
        return b"this is no TorchScript" if "/code/" in name or name.endswith("constants.pkl") else content

    path = rewritten(archive, tmp_path / "x.pt", ruin)
    with pytest.raises(RuntimeError):
        torch.jit.load(path)
    assert torch.equal(load_state_dict(path)["ln_final.weight"].float(), clip_model.ln_final.weight)


def test_code_in_the_pickle_of_a_torchscript_archive_is_refused(archive, tmp_path):
    mark = tmp_path / "was here"
    evil = pickle.dumps(OrderedDict(extra=Payload(mark)), protocol=2)
    path = rewritten(archive, tmp_path / "x.pt", lambda n, c: evil if n.endswith("data.pkl") else c)
    with pytest.raises(CheckpointError, match=r"asks for `\w+\.mkdir`.*nothing was executed"):
        load_state_dict(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"\x80\x02cbuiltins\neval\n(X\x01\x00\x00\x001tR.",
        b"\x80\x02c__torch__.m\nM\n)\x81N}b.",  # state of a module that is None, then not a dict
        b"\x80\x02(X\x07\x00\x00\x00storageK\x01X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00K\x01K\x01tR.",
        b"\x80\x02",
        b"",
    ],
    ids=["eval", "state", "storage type", "no storage", "cut", "empty"],
)
def test_nonsense_in_a_torchscript_archive(opcodes, archive, tmp_path):
    path = rewritten(archive, tmp_path / "x.pt", lambda n, c: opcodes if n.endswith("data.pkl") else c)
    with pytest.raises(CheckpointError, match="x.pt"):
        load_state_dict(path)


def test_tensor_outside_its_storage(archive, tmp_path):
    cut = rewritten(archive, tmp_path / "x.pt", lambda n, c: c[:-8] if n.endswith("data/3") else c)
    with pytest.raises(CheckpointError, match="storage 3 has"):
        load_state_dict(cut)


def test_modules_that_refer_to_each_other_do_not_go_on_for_ever(archive, tmp_path):
    # two modules, each an attribute of the other
    loop = b"\x80\x02c__torch__.m\nM\n)\x81q\x00}(X\x01\x00\x00\x00ac__torch__.m\nM\n)\x81}X\x01\x00\x00\x00bh\x00sbub."
    path = rewritten(archive, tmp_path / "x.pt", lambda n, c: loop if n.endswith("data.pkl") else c)
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_state_dict(path)
