"""``--json``: every command has it, prints documented lines only, and tells errors in them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.cli import commands, main, make_parser, runnable
from ovseg.cli._output import emit, json_lines
from tests.cli.json_lines import documented, run

PHOTO = np.kron(np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_every_command_has_it_and_is_documented():
    parsers = list(runnable(make_parser()))
    assert len(parsers) >= len(commands()) and all("--json" in p.format_help() for p in parsers)
    described = {command for command, _ in documented()}
    assert {parser.prog.removeprefix("ovseg ") for parser in parsers} == described - {"all"}


def test_values_that_json_does_not_know(capsys, tmp_path):
    with json_lines(True):
        print("for people")
        emit("x", a=np.float32(0.5), b=np.arange(2), c=tmp_path, d=float("nan"), e={1: (np.inf, None, True)}, f={"é"})
    out, err = capsys.readouterr()
    assert (
        out == '{"kind": "x", "a": 0.5, "b": [0, 1], "c": '
        f'"{tmp_path}", "d": null, "e": {{"1": [null, null, true]}}, "f": ["é"]}}\n'
    )
    assert err == "for people\n"
    emit("x")
    assert capsys.readouterr().out == ""


def test_an_error_is_a_line(capsys, photo):
    (line,) = run(capsys, "segment", "nowhere.png", "--classes", "cat", status=2)
    assert line["kind"] == "error" and "nowhere.png" in line["error"] and line["exit_status"] == 2
    (line,) = run(capsys, "weights", "show", "openai/ViTB16", command="weights show", status=1)
    assert line["kind"] == "error" and line["exit_status"] == 1


def test_segment(capsys, photo):
    (photo.parent / "b.png").write_bytes(b"no photo")
    one, two, last = run(capsys, "segment", photo.parent, "--classes", "cat, grass", "--format", "labels,csv", status=1)
    assert (one["kind"], two["kind"]) == ("photo", "failed") and (one["height"], one["width"]) == (32, 40)
    assert sum(row["pixels"] for row in one["classes"]) == 32 * 40 and one["files"] == {"labels": "out/a_labels.png"}
    assert last["failed"] == 1 and last["files"] == {"csv": "out/areas.csv"} and "naclip" in last["protocol"]


def test_bulk(capsys, photo):
    folder = photo.parent / "photos"
    folder.mkdir()
    photo.rename(folder / "a.png")
    (folder / "b.png").write_bytes(b"no photo")
    words = ("--classes", "a=cat, grass", "--classes", "b=sky, wall", "--model", "nano", "--short-side", 64)
    arguments = ("bulk", folder, *words, "--out", photo.parent / "out")
    (line,) = run(capsys, *arguments, "--dry-run")
    assert (line["photos"], line["shards"], line["finished"]) == (2, 1, 0) and line["seconds_per_photo"] > 0
    shard, last = run(capsys, *arguments, status=1)
    assert (shard["shard"], shard["done"], shard["failed"]) == (0, 1, 1) and last["left"] == 0 and last["new"] == 2
    (last,) = run(capsys, *arguments, status=1)
    assert last["new"] == 0 and last["photos"] == 2
    (line,) = run(capsys, *arguments, "--format", "png", status=2)
    assert line["kind"] == "error" and "made_with.formats" in line["error"]


def test_env(capsys):
    (line,) = run(capsys, "env")
    assert line["facts"]["python"].startswith("3.") and {"operator", "backend", "reasons"} <= set(line["operators"][0])


def test_weights(capsys, cache, tmp_path):
    lines = run(capsys, "weights", "list", "--kind", "sam", command="weights list")
    assert {line["kind_of_model"] for line in lines} == {"sam"} and len(lines) > 3
    (line,) = run(capsys, "weights", "show", "nano", command="weights show")
    assert line["here"] is True and line["licence"]
    (line,) = run(capsys, "weights", "fetch", "nano", command="weights fetch")
    assert len(line["sha256"]) == 64
    (line,) = run(capsys, "weights", "verify", "nano", command="weights verify")
    assert line["ok"] is True
    (tmp_path / "damaged.pt").write_bytes(b"x")
    (line,) = run(capsys, "weights", "verify", tmp_path / "damaged.pt", command="weights verify", status=1)
    assert line["ok"] is False and "damaged.pt" in line["message"]
    (line,) = run(capsys, "weights", "docs", command="weights docs")
    assert line["file"] is None and "nano" in line["text"]


def test_methods(capsys):
    lines = {line["name"]: line for line in run(capsys, "methods")}
    assert lines["trident"]["weights"] == ["openai/ViT-B-16", "dino/vitb16", "sam/vit_b"]
    assert lines["trident"]["embedded"] == ["nano", "nano-photo"] and lines["trident"]["windows"] > 1
    assert lines["sclip"]["about"].startswith("SCLIP (Wang et al., ECCV 2024)")


def test_export(capsys, photo):
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    words = ("--classes", "cat, grass")
    one, two = run(capsys, "export", "--model", "nano", "--method", "maskclip", "--out", "m.onnx", *words)
    assert one["difference"] < 1e-4 and one["labels"] > 0.99 and two["names"] == ["cat", "grass"]


def test_eval(capsys, tmp_path):
    (line,) = run(capsys, "eval", "configs/nano/clip_nano_scenes.py", "--limit", 1, "--work-dir", tmp_path)
    assert line["row"]["images"] == 1 and line["row"]["mIoU"] > 0 and line["failures"] == []
    assert len(line["per_class"]) > 5


def test_nano(capsys, tmp_path):
    arguments = ("--out", tmp_path, "--methods", "clip", "--splits", "scenes", "--limit", 1, "--overlays", 0)
    one, last = run(capsys, "nano", *arguments)
    assert one["method"] == "clip" and one["images"] == 1 and last["summary"].endswith("summary.json")


@pytest.mark.parametrize("command", ["data check", "data prepare"])
def test_data_that_is_not_there(capsys, tmp_path, command):
    check = ["--check"] if command == "data prepare" else []
    arguments = (*command.split(), "voc21", *check, "--data-root", tmp_path)
    (line,) = run(capsys, *arguments, command=command, status=1)
    assert line["kind"] == "error" and str(tmp_path) in line["error"]


def test_data(capsys, tmp_path):
    lines = run(capsys, "data", "list", "--data-root", tmp_path, command="data list")
    assert {line["name"]: line["here"] for line in lines}["voc21"] is False
    (line,) = run(capsys, "data", "check", "photos", command="data check")
    assert line["images"] == 26 and line["ok"] and not line["failures"]
    (line,) = run(
        capsys, "data", "prepare", "voc21", "--dry-run", "--data-root", tmp_path, command="data prepare", status=1
    )
    assert line["dry_run"] and line["missing"]


def test_vocabularies(capsys):
    lines = run(capsys, "data", "vocab", "list", command="data vocab list")
    assert {line["name"]: line["classes"] for line in lines}["ade847"] == 847
    (line,) = run(capsys, "data", "vocab", "check", "voc20", command="data vocab check")
    assert line["ok"] and line["classes"] == 20
    (line,) = run(capsys, "data", "vocab", "diff", "voc20", "voc21", command="data vocab diff", status=1)
    assert not line["same"] and line["changed"]


def test_masks(capsys, photo):
    config = photo.parent / "config.py"
    config.write_text(
        "model = dict(regions=dict(type='CachedRegions', folder='kept', source=dict(type='SlicRegions', segments=4)))\n"
    )
    (line,) = run(capsys, "masks", config, "--images", "*.png")
    assert (line["photos"], line["made"], line["failed"]) == (1, 1, 0)


def test_standard_output_is_json_alone_in_a_process_of_its_own(photo):
    command = [sys.executable, "-m", "ovseg", "segment", "a.png", "--classes", "cat", "--method", "clip", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert [line.partition('"kind": "')[2].partition('"')[0] for line in done.stdout.splitlines()] == [
        "photo",
        "summary",
    ]
    assert "100.0%" in done.stderr


def test_wrong_usage_prints_nothing_on_standard_output(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["segment", "--json"])
    assert caught.value.code == 2 and capsys.readouterr().out == ""
