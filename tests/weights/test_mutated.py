"""Damaged and foreign checkpoints end in a named error, never in another exception, a hang or an eaten memory."""

import argparse
import copy
import io
import os
import pickle
import random
import resource
import socket
import struct
import threading
import time
import zipfile

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

from ovseg.cli import main
from ovseg.weights import CheckpointError, WeightsError, file_sha256, known_sha256, load_clip, read_checkpoint
from ovseg.weights.reading import check_format, load_state_dict
from ovseg.weights.resolve import fetch_again
from tests.weights.mutations import mutated
from tests.weights.small import CONFIG, save_torchscript

KINDS = ("safetensors", "zip", "legacy", "torchscript", "npz", "nested")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    state = {"a.weight": torch.randn(20, 30), "b": torch.arange(50), "c": torch.randn(4).half()}
    save_file(state, folder / "safetensors")
    torch.save(state, folder / "zip")
    torch.save(state, folder / "legacy", _use_new_zipfile_serialization=False)
    config = copy.deepcopy(CONFIG)
    config["text_cfg"]["vocab_size"] = 64  # a small file: 5,000 of them are read
    save_torchscript(CLIP(**config).eval(), folder / "torchscript")
    np.savez(folder / "npz.npz", a=np.zeros(30), b=np.ones(3))
    os.replace(folder / "npz.npz", folder / "npz")
    torch.save(
        {"epoch": 3, "args": argparse.Namespace(lr=0.1), "model": state, "best": np.float64(2)}, folder / "nested"
    )
    return {kind: (folder / kind).read_bytes() for kind in KINDS}


def outcome(path):
    """What a reader makes of a file: names and shapes, or the error's class; anything but a WeightsError escapes."""
    try:
        state = load_state_dict(path)
    except WeightsError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return "refused"
    return {name: (tuple(value.shape), value.sum().item()) for name, value in state.items()}


def try_mutations(kind, originals, path, count):
    rng, read = random.Random(f"{kind}-{count}"), 0
    for _ in range(count):
        path.write_bytes(mutated(originals[kind], rng))
        first = outcome(path)
        read += first != "refused"
        if read % 10 == 1 and first != "refused":
            assert repr(outcome(path)) == repr(first), "another result at the second reading"


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(kind, originals, tmp_path):
    try_mutations(kind, originals, tmp_path / "file", 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_five_thousand_mutated_files(kind, originals, tmp_path):
    try_mutations(kind, originals, tmp_path / "file", 5000)


# ------------------------------------------------------------------------------- what is no file, or not readable
READERS = {
    "load_state_dict": load_state_dict,
    "read_checkpoint": read_checkpoint,
    "check_format": check_format,
    "file_sha256": file_sha256,
    "load_clip": lambda path: load_clip("openai/ViT-B-16", path),
    "known_sha256": lambda path: known_sha256("openai/ViT-B-16", path),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_readable_file(reader, tmp_path):
    pipe, unreadable = tmp_path / "pipe", tmp_path / "unreadable"
    os.mkfifo(pipe)
    unreadable.write_bytes(b"\x80\x02")
    unreadable.chmod(0)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "door"))
    places = [tmp_path, pipe, tmp_path / "door", tmp_path / "absent", tmp_path / "loop", tmp_path / ("x" * 5000)]
    places += [tmp_path / "a\0b", "/dev/null", *([unreadable] if os.geteuid() else [])]
    for place in places:
        done = []

        def read(place=place, done=done):
            try:
                done.append(READERS[reader](place))
            except BaseException as error:
                done.append(error)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(20)
        assert done, f"{reader} hangs on {place!r}"
        assert isinstance(done[0], WeightsError) or (reader == "known_sha256" and not isinstance(done[0], Exception))


# ---------------------------------------------------------------------------------------------- bombs and claims
def zip_of(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_archives_that_would_unpack_to_a_multiple_are_refused(tmp_path):
    bomb = zip_of(tmp_path / "bomb.pt", {"a/data.pkl": bytes(600 << 20), "a/version": b"3"})
    assert bomb.stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="would unpack from .* which no checkpoint does"):
        load_state_dict(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_tensors_that_claim_more_than_the_file_holds(tmp_path):
    torch.save({"w": torch.zeros(1).expand(10**7, 1000)}, tmp_path / "claims.pt")
    with pytest.raises(CheckpointError, match=r"w claims the shape \(10000000, 1000\), 40,000,000,000 bytes"):
        load_state_dict(tmp_path / "claims.pt")


@pytest.mark.parametrize(
    "tensor",
    [torch.eye(3).to_sparse(), torch.eye(3).to_sparse_csr(), torch.zeros(3, device="meta")],
    ids=["sparse", "csr", "meta"],
)
def test_tensors_that_are_no_arrays(tensor, tmp_path):
    torch.save({"w": tensor}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="odd.pt"):
        load_state_dict(tmp_path / "odd.pt")


def test_odd_headers(tmp_path):
    header = b'{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    contents = [
        struct.pack("<Q", len(header)) + header + b"\0" * 16,
        struct.pack("<Q", 90_000_000) + b"{" + b" " * 100,
        struct.pack("<Q", 10) + b"{" * 10,
        b"\x80\x02" + pickle.LONG4 + struct.pack("<i", 2**31 - 1),
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1),
        b"\x80\x04\x95" + struct.pack("<Q", 2**62),
        b"PK\x03\x04" + b"\0" * 100,
        b"PK\x05\x06" + b"\xff" * 18,
    ]
    for content in contents:
        (tmp_path / "odd").write_bytes(content)
        with pytest.raises(CheckpointError, match="odd"):
            load_state_dict(tmp_path / "odd")


def test_a_codec_that_nobody_knows(tmp_path):
    """What torch's unpickler calls may raise anything: 5,000 damaged files found a LookupError."""
    torch.save({"best": np.float64(2), "w": torch.zeros(2), "raw": b"\xff\xfe"}, tmp_path / "codec.pt")
    content = (tmp_path / "codec.pt").read_bytes()
    assert b"latin1" in content
    with zipfile.ZipFile(tmp_path / "codec.pt") as archive:
        members = {name: archive.read(name).replace(b"latin1", b"latin9") for name in archive.namelist()}
    zip_of(tmp_path / "codec.pt", {n: c.replace(b"latin9", b"lat\xcb\xbf1") for n, c in members.items()}, 0)
    with pytest.raises(CheckpointError, match="codec.pt"):
        load_state_dict(tmp_path / "codec.pt")


def test_names_in_an_archive_that_no_charset_has(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("äöü/data.pkl", b"")
    (tmp_path / "names.pt").write_bytes(buffer.getvalue().replace("äöü".encode(), b"\xff\xfe\xfd\xfc\xfb\xfa"))
    with pytest.raises(CheckpointError, match="names.pt"):
        load_state_dict(tmp_path / "names.pt")


def test_a_large_foreign_file_is_known_by_its_beginning(tmp_path, cache, capsys):
    """Three sparse gigabytes under a published name: refused at once, by the first bytes, not after hashing them."""
    path = cache / "sam" / "vit_h.pth"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.write(b"<!DOCTYPE html>")
        file.truncate(3 << 30)
    start = time.monotonic()
    for arguments in (("verify", "sam/vit_h"), ("fetch", "sam/vit_h"), ("verify", str(path))):
        assert main(("weights", *arguments)) == 1
        out, err = capsys.readouterr()
        assert "is a web page" in out + err
    with pytest.raises(CheckpointError, match="web page"):
        load_clip("openai/ViT-B-16", path)
    assert time.monotonic() - start < 5


def test_nobody_is_told_to_lose_a_file(tmp_path, cache, originals, capsys):
    messages = []
    for content in (b"", b"garbage", b"<html>", originals["zip"][:200], originals["legacy"][:50], originals["npz"]):
        (tmp_path / "mine.pt").write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            load_state_dict(tmp_path / "mine.pt")
        messages.append(str(caught.value))
    path = cache / "sam" / "vit_b.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(originals["zip"])
    for verb in ("verify", "fetch"):
        assert main(("weights", verb, "sam/vit_b")) == 1
        messages.append("".join(capsys.readouterr()))
    assert "has the SHA-256" in messages[-1] and "weights fetch --again sam/vit_b" in messages[-1].replace("\n", " ")
    for message in messages:
        assert not any(word in message.lower() for word in ("delete", "remove it", "rm -"))
    assert path.read_bytes() == originals["zip"]
    with pytest.raises(WeightsError, match="switched off"):
        fetch_again("sam/vit_b")
    assert path.read_bytes() == originals["zip"]
