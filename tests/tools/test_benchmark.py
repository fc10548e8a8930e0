"""The command line of tools/benchmark.py, on the embedded small model."""

import csv
import importlib.util
import shutil

import pytest

from ovseg.apis import config_root

ROOT = config_root().parent
TOOL = ROOT / "tools" / "benchmark.py"
CONFIG = str(config_root() / "nano" / "sclip_nano_scenes.py")
SMALL = ["--size", "64", "96", "--repeats", "1", "--precision", "fp32", "--threads", "1"]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("benchmark_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def scenes():
    if not (ROOT / "data" / "scenes").is_dir():
        pytest.skip("the embedded scenes are in a checkout only")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_stages_go_to_a_table_a_csv_and_a_picture(tool, tmp_path, capsys):
    out, picture = tmp_path / "s.csv", tmp_path / "s.png"
    code = tool.main(["--methods", CONFIG, *SMALL, "--csv", str(out), "--picture", str(picture)])
    said = capsys.readouterr().out
    assert code == 0 and "random stand-in weights" in said and "CLIP" in said
    rows = rows_of(out)
    assert {row["stage"] for row in rows} >= {"load", "CLIP", "attention", "argmax", "metric", "total"}
    assert all(row["cpu"] and row["threads"] == "1" and row["torch"] for row in rows)
    if "no picture" not in said:
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_speed_table(tool, tmp_path, capsys):
    out = tmp_path / "speed.csv"
    assert tool.main(["--speed", "--methods", CONFIG, *SMALL, "--csv", str(out)]) == 0
    (row,) = rows_of(out)
    assert row["precision"] == row["computed_in"] == "fp32" and float(row["agreement_with_fp32"]) == 1
    assert float(row["agreement_with_naive"]) > 0.99 and float(row["gflop"]) > 0 and row["cpu"]
    shown = 1e12 * float(row["gflop"]) / float(row["ms"]) / 1e9
    best = max(float(row["fp32_gflops"]), float(row["bf16_gflops"]))
    assert float(row["share_of_best_rate"]) == pytest.approx(shown / best, rel=0.1, abs=1e-3)
    assert tool.main(["--speed", "--methods", CONFIG.replace("sclip", "itaclip"), *SMALL]) == 2
    assert "no straightforward form" in capsys.readouterr().err


def test_accuracy_table(tool, tmp_path):
    out = tmp_path / "accuracy.csv"
    arguments = ["--accuracy", "2", "--methods", "sclip", "--precision", "bf16", "--threads", "1", "--csv", str(out)]
    assert tool.main(arguments) == 0
    exact, quick = rows_of(out)
    assert exact["precision"] == "fp32" and float(exact["agreement"]) == 1 and float(exact["difference"]) == 0
    assert quick["precision"] == "bf16" and 0.97 < float(quick["least_agreement"]) < 1 and quick["images"] == "2"
    assert float(exact["mIoU"]) > 10


def test_curves(tool, tmp_path):
    out, picture = tmp_path / "c.csv", tmp_path / "c.png"
    arguments = ["--curves", "--series", "nano", "--sides", "64", "96", "--repeats", "1", "--csv", str(out)]
    assert tool.main([*arguments, "--picture", str(picture)]) == 0
    rows = rows_of(out)
    assert [row["value"] for row in rows if row["along"] == "pixels"] == ["4096", "9216"]
    assert [row["value"] for row in rows if row["along"] == "classes"] == ["1", "10", "100", "1000"]


def test_wrong_arguments_are_said(tool, capsys):
    for arguments in (
        ["--ops", "nothing"],
        ["--bars", "--only", "nothing"],
        ["--photo", "missing.jpg"],
        ["--repeats", "0"],
    ):
        with pytest.raises(SystemExit) as stop:
            tool.main(arguments)
        assert stop.value.code == 2
    assert tool.main(["--methods", "nosuchmethod", *SMALL]) == 2
    assert "give a method with a ViT-B/16 config" in capsys.readouterr().err


@pytest.mark.slow
def test_two_checkouts_are_measured_with_the_same_code(tool, tmp_path, capsys):
    """Two processes, each a fresh import: the other tree has no measuring code of its own."""
    other = tmp_path / "other"
    for name in ("ovseg", "configs"):
        shutil.copytree(ROOT / name, other / name, ignore=shutil.ignore_patterns("__pycache__"))
    words = other / "data" / "scenes" / "classes.txt"
    words.parent.mkdir(parents=True)
    shutil.copy(ROOT / "data" / "scenes" / "classes.txt", words)
    assert tool.main(["--methods", CONFIG, *SMALL, "--compare", str(other), "--csv", str(tmp_path / "x.csv")]) == 0
    rows = rows_of(tmp_path / "x.csv")
    assert {"CLIP", "argmax", "total"} <= {row["stage"] for row in rows}
    assert all(row["there"] == str(other) for row in rows)
