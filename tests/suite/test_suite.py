"""Suites: what a file may say, the cells, a kill between and within them, the tables."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ovseg.cli import main
from ovseg.errors import SetupError
from ovseg.suite import Cell, Suite, SuiteData, SuiteMethod, cell_config, read_suite
from tests.cli.json_lines import run
from tests.engine.conftest import CONFIGS

ROOT = Path(__file__).parents[2]
CLASSES = ["dark", "middle", "light"]


def folder(root: Path, name: str, images: int, wrong: int = 0) -> dict:
    """Photos of one grey each beside their label maps; ``wrong`` of them hold another label than their grey says."""
    for i in range(images):
        shade, (height, width) = i % 3, (24, 32 + 8 * i)
        label = (shade + 1) % 3 if i < wrong else shade
        for part, array in (
            ("images", np.full((height, width, 3), 40 + 85 * shade, np.uint8)),
            ("masks", np.full((height, width), label, np.uint8)),
        ):
            path = root / name / part / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return {"name": name, "images": f"{name}/images", "masks": f"{name}/masks", "classes": CLASSES}


@pytest.fixture
def suite(tmp_path):
    """A suite file of two methods and two folders, the second of which has one wrong label map of three."""

    def write(log: Path | None = None, **changes) -> Path:
        for name in ("one", "two"):
            (tmp_path / f"{name}.py").write_text(
                f"_base_ = ['{CONFIGS}/datasets/voc21.py', '{CONFIGS}/runtime/eval.py']\n"
                "custom_imports = dict(imports=['tests.engine.fake_model'], allow_failed_imports=False)\n"
                f"short_side = 32\nmodel = dict(type='BrightnessModel', num_classes=3, log={log and str(log)!r})\n"
                "test_dataloader = dict(num_workers=0)\n"
            )
        content = {
            "name": "two by two",
            "methods": ["one.py", "two.py"],
            "datasets": [folder(tmp_path, "right", 3), folder(tmp_path, "mixed", 3, wrong=1)],
            "expected": {"one": {"right": 100, "mixed": {"mIoU": 50, "tolerance": 20}}, "two": {"right": 90}},
            **changes,
        }
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def cells(out: Path) -> dict[tuple[str, str], dict]:
    return {(c["method"], c["dataset"]): c for c in json.loads((out / "suite.json").read_text())["cells"]}


def test_two_methods_on_two_data_sets(suite, tmp_path, capsys):
    out = tmp_path / "out"
    lines = run(capsys, "eval", "--suite", suite(), "--work-dir", out, status=1)
    assert [line["kind"] for line in lines] == ["cell"] * 4 + ["suite"] and lines[-1]["wrong"] == 1
    found = cells(out)
    # mixed: 0 is 24 x 32 pixels, 1 24 x 40, 2 24 x 48; the photo of class 0 is labelled 1 in the ground truth
    union = 32 + 40
    by_hand = 100 * (0 + 40 / union + 1) / 3
    assert found["one", "mixed"]["mIoU"] == pytest.approx(by_hand) == found["two", "mixed"]["mIoU"]
    verdicts = {key: (cell["ok"], cell["verdict"]) for key, cell in found.items()}
    assert verdicts == {
        ("one", "right"): (True, "as expected"),
        ("two", "right"): (False, "off by +10.00"),
        ("one", "mixed"): (True, "as expected"),
        ("two", "mixed"): (None, "nothing expected"),
    }
    right, mixed = found["one", "right"]["fingerprint"], found["one", "mixed"]["fingerprint"]
    assert right != mixed and right == found["two", "right"]["fingerprint"]
    rows = list(csv.DictReader((out / "suite.csv").open()))
    assert [row["mIoU"] for row in rows][:2] == ["100.0", "100.0"] and rows[0]["fingerprint"] == right
    table = (out / "suite.md").read_text()
    assert f"| one | 100.00, expected 100.00 ± 0.1: as expected (`{right[:12]}`) |" in table and mixed in table
    page = (out / "suite.html").read_text()
    assert page.count("<img ") == 8 and "http" not in page.replace("data:", "") and "off by +10.00" in page


def test_why_a_cell_did_not_run_is_told_whole_below_the_table(capsys, suite):
    from ovseg.cli._suite import _print

    read = read_suite(suite())
    reason = "not run: " + " ".join(f"word{i}" for i in range(60))
    _print(read, [Cell(m.name, d.name, verdict=reason) for m in read.methods for d in read.datasets])
    printed = capsys.readouterr().out
    table, _, below = printed.partition("\none on right: ")
    assert "not run" in table and "word0" not in table
    assert below.splitlines()[0] == reason
    assert printed.count("word59") == len(read.methods) * len(read.datasets)


def test_a_finished_cell_is_kept_while_nothing_that_matters_changed(suite, tmp_path, capsys):
    log, out = tmp_path / "seen.txt", tmp_path / "out"
    command = ["eval", "--suite", str(suite(log)), "--work-dir", str(out)]
    assert main(command) == 1
    once, first = log.read_text(), cells(out)
    assert main([*command, "--resume"]) == 1
    assert log.read_text() == once and cells(out) == first
    Image.fromarray(np.full((24, 32), 2, np.uint8)).save(tmp_path / "mixed/masks/0.png")
    assert main([*command, "--resume"]) == 1
    assert len(log.read_text().split()) == len(once.split()) + 6, "both methods, on the changed folder only"
    changed = cells(out)
    assert changed["one", "right"] == first["one", "right"]
    assert changed["one", "mixed"]["fingerprint"] != first["one", "mixed"]["fingerprint"]
    assert main(command) == 1
    assert len(log.read_text().split()) == 2 * len(once.split()) + 6, "without --resume everything runs"
    capsys.readouterr()


def test_a_killed_suite_goes_on(suite, tmp_path, capsys):
    log, out = tmp_path / "seen.txt", tmp_path / "out"
    command = ["eval", "--suite", str(suite(log)), "--work-dir", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "ovseg", *command], env=environment, stderr=subprocess.PIPE)
    first = out / "cells/right/one/cell.json"
    until = time.monotonic() + 240
    while not first.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and first.is_file()
    process.stderr.close()
    kept, before = first.read_bytes(), log.read_text().split()
    assert main([*command, "--resume"]) == 1
    assert first.read_bytes() == kept, "what was finished is not done again"
    whole = tmp_path / "whole"
    assert main([*command[:-1], str(whole)]) == 1
    capsys.readouterr()
    varying = {"seconds", "work_dir"}
    killed, straight = cells(out), cells(whole)
    assert killed.keys() == straight.keys() and len(log.read_text().split()) >= len(before)
    for key, cell in straight.items():
        assert {k: v for k, v in cell.items() if k not in varying} == {
            k: v for k, v in killed[key].items() if k not in varying
        }


def test_what_cannot_run_is_a_cell_too(suite, tmp_path, capsys):
    path = suite()
    content = yaml.safe_load(path.read_text())
    content["methods"].append({"name": "gone", "config": "gone.py"})
    content["datasets"].append({"name": "away", "images": "away/images", "masks": "away/masks", "classes": CLASSES})
    path.write_text(yaml.safe_dump(content))
    (tmp_path / "mixed/images/0.png").write_bytes(b"")
    assert main(["eval", "--suite", str(path), "--work-dir", str(tmp_path / "out")]) == 1
    found = cells(tmp_path / "out")
    assert len(found) == 9 and found["one", "right"]["ok"]
    assert "gone.py does not exist" in found["gone", "right"]["verdict"]
    assert "away" in found["one", "away"]["verdict"] and found["one", "away"]["mIoU"] is None
    assert found["one", "mixed"]["ok"] is False and "1 samples skipped" in found["one", "mixed"]["verdict"]
    assert "gone.py does not exist" in (tmp_path / "out/suite.html").read_text()
    capsys.readouterr()


def test_data_of_another_fingerprint_is_told(suite, tmp_path, capsys):
    path = suite()
    content = yaml.safe_load(path.read_text())
    content["datasets"][0]["fingerprint"] = "0123456789ab"
    path.write_text(yaml.safe_dump(content))
    assert main(["eval", "--suite", str(path), "--work-dir", str(tmp_path / "out"), "--limit", "2"]) == 1
    found = cells(tmp_path / "out")
    assert "other data" in found["one", "right"]["verdict"] and found["one", "right"]["ok"] is False
    assert found["one", "right"]["images"] == 2 and not found["one", "right"]["complete"]
    capsys.readouterr()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"methods": []}, "methods is missing"),
        ({"method": ["sclip"]}, "'method' is unknown; did you mean 'methods'"),
        ({"methods": [{"config": "a.py", "method": "sclip"}]}, "either a method's name or a config"),
        ({"methods": ["sclip", "sclip"]}, "'sclip' is there twice"),
        ({"datasets": [{"name": "x"}]}, "give one of benchmark, config, or images and masks"),
        ({"datasets": [{"images": "a", "classes": "b"}]}, "needs images and masks"),
        ({"datasets": [{"benchmark": "voc21", "name": "../x"}]}, "names become folders"),
        ({"expected": {"thre": {"right": 1}}}, "'thre' is not in the suite"),
        ({"expected": {"one": {"wright": 1}}}, "did you mean 'right'"),
        ({"expected": {"one": {"right": "high"}}}, "'high'; give a number in percent"),
        ({"expected": {"one": {"right": {"tolerance": 1}}}}, "mIoU is missing"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_suite_files_that_are_not_clear(suite, changes, message):
    with pytest.raises(SetupError, match=message.replace("(", r"\(")) as caught:
        read_suite(suite(**changes))
    assert "suite.yaml" in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(SetupError, match="cannot be read"):
        read_suite(tmp_path / "nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(SetupError, match="is no YAML"):
        read_suite(tmp_path / "broken.yaml")


def test_options_of_a_single_evaluation(suite, capsys):
    path = str(suite())
    for option in (["configs/nano/clip_nano_scenes.py"], ["--out", "x"], ["--images", "y"]):
        assert main(["eval", *option, "--suite", path]) == 2
        assert "belongs to a single evaluation" in capsys.readouterr().err
    assert main(["eval"]) == 2 and "give a config file, or --suite" in capsys.readouterr().err


def test_configs_of_cells():
    method = SuiteMethod("naclip", config="configs/naclip/naclip_vitb16_{dataset}.py")
    cfg, told = cell_config(method, SuiteData("voc20", benchmark="voc20"), limit=4)
    assert cfg.filename.endswith("naclip_vitb16_voc20.py") and not told
    assert cfg.test_dataloader.dataset.indices == 4 and cfg.model.vocabulary.file == "voc20"
    with pytest.raises(SetupError, match="has a config per benchmark"):
        cell_config(method, SuiteData("mine", folder={"images": "a", "masks": "b"}))
    cfg, _ = cell_config(SuiteMethod("sclip", method="sclip"), SuiteData("v", benchmark="voc21"))
    assert cfg.model.vocabulary == dict(file="voc21", background=0) and cfg.num_classes == 21
    cfg, told = cell_config(
        SuiteMethod("sclip", method="sclip", options={"model.head.logit_scale": 7}), SuiteData("v", benchmark="voc20")
    )
    assert cfg.model.head.logit_scale == 7 and "threshold" in told[0] and not cfg.model.head.threshold
    with pytest.raises(SetupError, match="did you mean 'voc21'"):
        cell_config(SuiteMethod("sclip", method="sclip"), SuiteData("v", benchmark="voc22"))


def test_published_numbers_stand_beside(tmp_path):
    from ovseg.suite.tables import html_page, markdown

    entries = (SuiteMethod("a", method="clip"),), (SuiteData("d", benchmark="voc21"),)
    suite = Suite("s", *entries, published={"Paper": {"d": 41.5}}, source="table 2")
    cell = Cell("a", "d", mIoU=40.0, fingerprint="f" * 64, verdict="evaluated").judged(suite)
    assert "| *Paper* | 41.5 |" in markdown(suite, [cell]) and "table 2" in markdown(suite, [cell])
    assert "<i>41.5</i>" in html_page(suite, [cell])


def test_text_of_users_is_no_markup():
    from ovseg.suite.tables import html_page, markdown

    suite = Suite("<script>x</script> | y", (SuiteMethod("a", method="clip"),), (SuiteData("d", benchmark="voc21"),))
    cell = Cell("a", "d", verdict="not run: <b>|</b>").judged(suite)
    page = html_page(suite, [cell])
    assert "<script>" not in page and "&lt;b&gt;|" in page
    assert "not run: <b>/</b> |" in markdown(suite, [cell])


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "suites").glob("*.yaml")), ids=lambda p: p.stem)
def test_packaged_suites_build(path):
    suite = read_suite(path)
    for method in suite.methods:
        for data in suite.datasets:
            if not data.folder:
                assert cell_config(method, data, suite.limit)[0].model
