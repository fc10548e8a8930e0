"""The command that brings benchmarks into place."""

import importlib.util
import json
import tarfile
from pathlib import Path

import pytest

from ovseg.datasets import BENCHMARKS
from tests.datasets.fixtures import build, build_official

spec = importlib.util.spec_from_file_location("prepare_data", Path(__file__).parents[2] / "tools" / "prepare_data.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def use_three_images(monkeypatch, name):
    import dataclasses

    monkeypatch.setitem(BENCHMARKS, name, dataclasses.replace(BENCHMARKS[name], images=(3,)))


def test_archive_to_checked_data_set(tmp_path, root, monkeypatch, capsys):
    build(tmp_path / "made", "voc21")
    archive = tmp_path / "VOCtrainval_11-May-2012.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "made" / "VOCdevkit", "VOCdevkit")
    use_three_images(monkeypatch, "voc21")
    assert tool.main(["voc21", "--archive", str(archive)]) == 0
    assert "VOC21: 3 images" in capsys.readouterr().out


def test_incomplete_data_set_is_told(root, capsys):
    build(root, "voc21")
    assert tool.main(["voc21", "--check"]) == 1
    assert "3 images, 1449 were expected" in capsys.readouterr().out


def test_conversion_records_broken_files_and_goes_on(root, monkeypatch, capsys):
    build_official(root, "coco_stuff")
    broken = root / "coco_stuff164k/annotations/val2017/000000000285.png"
    good = broken.read_bytes()
    broken.write_bytes(good[:40])
    use_three_images(monkeypatch, "coco_stuff")
    assert tool.main(["coco_stuff"]) == 1
    errors = json.loads((root / "prepare_errors_coco_stuff.json").read_text())
    assert list(errors) == [str(broken)]
    assert "1 of 3 files could not be converted" in capsys.readouterr().out
    broken.write_bytes(good)
    assert tool.main(["coco_stuff"]) == 0
    assert not (root / "prepare_errors_coco_stuff.json").exists()
    assert "of 171 classes occur" in capsys.readouterr().out


def test_json_files_are_copied(tmp_path, root, monkeypatch):
    build_official(root, "context60")
    source = tmp_path / "trainval_merged.json"
    (root / "VOCdevkit/VOC2010/trainval_merged.json").rename(source)
    use_three_images(monkeypatch, "context60")
    assert tool.main(["context60", "--archive", str(source)]) == 0


@pytest.mark.parametrize(
    "argv, message",
    [
        (["voc21"], "VOC21 not found"),
        (["cityscapes"], "Unpack gtFine_trainvaltest.zip"),
        (["voc21", "--archive", "holiday.zip"], "not a file of VOC21"),
        (["voc21", "--archive", "VOCtrainval_11-May-2012.tar"], "does not exist. Get it:"),
    ],
)
def test_one_line_says_what_is_missing(root, capsys, argv, message):
    assert tool.main(argv) == 1
    out = capsys.readouterr().out
    assert message in out and "Traceback" not in out


def test_unknown_name_is_wrong_use(root, capsys):
    assert tool.main(["voc22"]) == 2
    assert "no benchmark 'voc22'; did you mean 'voc2" in capsys.readouterr().err
