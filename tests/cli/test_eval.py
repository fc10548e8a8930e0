"""``ovseg eval``: set-up errors are one line and exit status 2; a finished run is not evaluated again."""

import csv
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ovseg.cli import main
from ovseg.engine import hold_work_dir
from tests.engine.conftest import config_file  # noqa: F401

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quiet_loggers(monkeypatch):
    """MMEngine's loggers outlive a test and keep the stream that pytest has closed since."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.mark.parametrize(
    "addition, options, message",
    [
        ("", ["shortside=10"], "shortside"),
        ("", ["short_side=0"], "short_side is 0"),
        ("", ["short_side=-4"], "short_side is -4"),
        ("", ["short_side=abc"], "short_side is 'abc'"),
        ("", ["short_side=16.5"], "short_side is 16.5"),
        ("", ["short_side=True"], "short_side is True"),
        ("", ["short_side=None"], "short_side=None would change nothing"),
        ("", ["test_dataloader.num_workers=two"], "num_workers is 'two'"),
        ("", ["test_dataloader.batch_size=0"], "batch_size"),
        ("", ["test_cfg.save_every=often"], "save_every is 'often'"),
        ("", ["model.type=BrightnesModel"], "did you mean 'BrightnessModel'"),
        ("model = None\n", [], "has no model"),
        ("test_evaluator = None\n", [], "has no test_evaluator"),
        ("test_cfg = None\n", [], "has no test_cfg"),
        ("test_dataloader = None\n", [], "has no test_dataloader"),
        (
            "model = dict(type='BrightnessModel', num_classes='many')\n",
            [],
            "model: BrightnessModel: num_classes is 'many'",
        ),
        ("test_dataloader = dict(dataset=dict(classes='voc22'))\n", [], "voc22"),
        ("visualizer = dict(type='Vizualizer')\n", [], "did you mean 'Visualizer'"),
        ("custom_imports = dict(imports=['tests.engine.fake_modle'])\n", [], "fake_modle"),
    ],
)
def test_set_up_errors(config_file, tmp_path, capsys, addition, options, message):  # noqa: F811
    path = config_file()
    path.write_text(path.read_text() + addition)
    options = ["--cfg-options", *options] if options else []
    assert main(["eval", str(path), "--work-dir", str(tmp_path / "work"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and path.name in error and "Traceback" not in error
    assert len([line for line in error.splitlines() if line.startswith("error:")]) == 1


def test_a_model_without_words(tmp_path, capsys):
    path = tmp_path / "wordless.py"
    path.write_text(f"_base_ = ['{ROOT}/configs/nano/clip_nano_scenes.py']\nmodel = dict(vocabulary=None)\n")
    assert main(["eval", str(path), "--work-dir", str(tmp_path / "work")]) == 2
    assert "wordless.py: model.vocabulary is missing" in capsys.readouterr().err


def test_work_directories_that_cannot_be(config_file, tmp_path, capsys):  # noqa: F811
    config = str(config_file())
    (tmp_path / "file").touch()
    for place in ("/proc/ovseg", str(tmp_path / "file" / "work")):
        assert main(["eval", config, "--work-dir", place]) == 2
        error = capsys.readouterr().err
        assert f"cannot write to work directory {place}" in error and "Traceback" not in error
    with hold_work_dir(tmp_path / "work"):
        assert main(["eval", config, "--work-dir", str(tmp_path / "work")]) == 2
    assert f"process {os.getpid()}" in capsys.readouterr().err


def rows(work: Path) -> int:
    return len(list(csv.reader((work / "results.csv").open()))) - 1


def test_a_finished_run_is_printed_again(config_file, tmp_path, capsys):  # noqa: F811
    work, log = tmp_path / "work", tmp_path / "seen.txt"
    command = ["eval", str(config_file(log=str(log))), "--work-dir", str(work)]
    assert main(command) == 0
    seen, result, first = log.read_text(), (work / "result.json").read_text(), capsys.readouterr().out
    assert main([*command, "--resume", "--out", str(tmp_path / "maps")]) == 0
    printed = capsys.readouterr()
    assert log.read_text() == seen and (work / "result.json").read_text() == result and rows(work) == 1
    assert f"{json.loads(result)['mIoU']:.2f}" in printed.out
    assert printed.out.count("person") == first.count("person")
    assert "no pictures or label maps were written" in printed.err and not (tmp_path / "maps").exists()
    assert main(command) == 0, "without --resume it runs"
    assert log.read_text() == 2 * seen and rows(work) == 2


def test_resume_of_another_run_is_refused(config_file, tmp_path, capsys):  # noqa: F811
    command = ["eval", str(config_file()), "--work-dir", str(tmp_path / "work")]
    assert main(command) == 0
    assert main([*command, "--resume", "--cfg-options", "short_side=40"]) == 2
    assert "another config" in capsys.readouterr().err


def test_resume_tries_what_was_skipped(config_file, tmp_path, capsys):  # noqa: F811
    work, log = tmp_path / "work", tmp_path / "seen.txt"
    command = ["eval", str(config_file(log=str(log))), "--work-dir", str(work)]
    photo = tmp_path / "data/VOCdevkit/VOC2012/JPEGImages/2007_000042.jpg"
    shutil.copy(photo, tmp_path / "kept.jpg")
    photo.write_bytes(b"")
    assert main(command) == 3
    assert main([*command, "--resume"]) == 3, "still skipped"
    assert "1 samples skipped" in capsys.readouterr().out and rows(work) == 1
    shutil.copy(tmp_path / "kept.jpg", photo)
    assert main([*command, "--resume"]) == 0
    assert sorted(log.read_text().split()) == ["2007_000033", "2007_000042", "2011_003276"], "each once"
    assert json.loads((work / "result.json").read_text())["images"] == 3 and rows(work) == 2


def test_user_text_is_no_markup(config_file, tmp_path, capsys):  # noqa: F811
    path = config_file()
    names = ["lane [/white]", "[red]x[/red]", ":cat:", "[v2]", *map(str, range(17))]
    path.write_text(path.read_text() + f"test_dataloader = dict(num_workers=0, dataset=dict(classes={names!r}))\n")
    renamed = path.rename(tmp_path / "run [v2].py")
    assert main(["eval", str(renamed), "--work-dir", str(tmp_path / "work [b]"), "--per-class"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in names[:4]) and "run [v2] on" in out and "work [b]" in out


def test_the_door_in_tools(config_file, tmp_path):  # noqa: F811
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, str(ROOT / "tools/test.py"), str(config_file()), "--cfg-options", "short_side"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "KEY=VALUE" in done.stderr and "Traceback" not in done.stderr
