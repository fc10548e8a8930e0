"""``ovseg weights``: what is printed, the exit status, and no tracebacks for expected errors."""

from dataclasses import replace

from ovseg.cli import main
from ovseg.weights import Source, catalogue, file_sha256
from tests.weights.server import serve
from tests.weights.small import save_torchscript


def run(capsys, *arguments):
    status = main(arguments)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


def test_list(capsys, cache):
    (cache / "dino").mkdir(parents=True)
    (cache / "dino" / "vitb8.pth").touch()
    status, out, _ = run(capsys, "weights", "list")
    assert status == 0
    assert all(name in out for name in catalogue())
    _, out, _ = run(capsys, "weights", "list", "--kind", "sam")
    assert "sam/vit_h" in out and "openai" not in out
    _, out, _ = run(capsys, "weights", "list", "--here", "--kind", "dino")
    assert "dino/vitb8" in out and "dino/vitb16" not in out


def test_show(capsys, cache):
    status, out, _ = run(capsys, "weights", "show", "sam/vit_b")
    assert status == 0
    assert "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912" in out
    assert "375,042,383 bytes" in out
    assert "Apache-2.0 (commercial use: yes)" in out
    assert str(cache / "sam" / "vit_b.pth") in out


def test_unknown_names(capsys):
    for verb in ("show", "fetch"):
        status, out, err = run(capsys, "weights", verb, "openai/ViTB16")
        assert status == 1
        assert out == ""
        assert "error: no weights named 'openai/ViTB16'" in err and "openai/ViT-B-16" in err


def test_fetch_and_verify(capsys, clip_model, clip_card, tmp_path, monkeypatch):
    monkeypatch.delenv("OVSEG_OFFLINE")
    save_torchscript(clip_model, tmp_path / "clip.pt")
    digest = file_sha256(tmp_path / "clip.pt")
    with serve() as server:
        server.files["/clip.pt"] = (tmp_path / "clip.pt").read_bytes()
        source = Source(f"{server.url}/clip.pt", digest)
        monkeypatch.setitem(catalogue(), clip_card.name, replace(clip_card, sources=(source,)))
        status, out, _ = run(capsys, "weights", "fetch", clip_card.name)
    assert status == 0
    assert digest in out
    path = out.split()[1]

    status, out, _ = run(capsys, "weights", "verify")
    assert status == 0
    assert f"ok      {clip_card.name}: {path} fits" in out and "as published" in out

    status, out, _ = run(capsys, "weights", "verify", path)
    assert status == 0
    assert "a CLIP ViT" in out and digest in out

    with open(path, "r+b") as file:
        file.truncate(1000)
    status, out, _ = run(capsys, "weights", "verify", clip_card.name, path)
    assert status == 1
    assert f"FAILED  {clip_card.name}: {path}: has the SHA-256" in out
    assert f"FAILED  {path}: {path}: is truncated" in out


def test_verify_of_absent_weights(capsys):
    status, out, _ = run(capsys, "weights", "verify", "dino/vitb8")
    assert status == 1
    assert "put it at" in out


def test_fetch_offline(capsys):
    status, _, err = run(capsys, "weights", "fetch", "dino/vitb8")
    assert status == 1
    assert "https://dl.fbaipublicfiles.com/dino/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth" in err


def test_docs(capsys, tmp_path):
    status, out, _ = run(capsys, "weights", "docs")
    assert status == 0
    run(capsys, "weights", "docs", "--output", str(tmp_path / "weights.md"))
    assert (tmp_path / "weights.md").read_text() == out
    status, _, err = run(capsys, "weights", "docs", "--output", str(tmp_path))
    assert status == 1
    assert "Is a directory" in err
