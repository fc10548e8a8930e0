"""tools/test.py as a user calls it: exit codes, tables, pictures, label maps."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg.datasets import read_image, read_mask
from tests.engine.conftest import config_file  # noqa: F401

spec = importlib.util.spec_from_file_location("ovseg_tools_test", Path(__file__).parents[2] / "tools" / "test.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def test_everything_in_one_run(config_file, tmp_path, capsys):  # noqa: F811
    config = str(config_file("pc459"))
    work, show, out = (str(tmp_path / n) for n in ("work", "show", "out"))
    argv = [config, "--work-dir", work, "--show-dir", show, "--out", out, "--limit", "2", "--per-class"]
    assert tool.main([*argv, "--cfg-options", "short_side=48", "test_dataloader.batch_size=2"]) == 0
    printed = capsys.readouterr().out
    assert "brightness_pc459 on PC459" in printed and "accordion" in printed
    result = json.loads((tmp_path / "work/result.json").read_text())
    assert (result["images"], result["short_side"], result["complete"]) == (2, 48, False)
    names = ["2008_000003", "2008_000009"]
    assert sorted(p.stem for p in Path(show).iterdir()) == names
    for name, size in zip(names, [(48, 64), (64, 48)], strict=True):
        picture = read_image(Path(show) / f"{name}.png")
        assert picture.shape[0] >= size[0] and picture.shape[1] > 3 * size[1]
        labels = read_mask(Path(out) / f"{name}.png")
        assert labels.shape == size and labels.max() > 255, "16 bit: these classes do not fit into 8"


def test_pictures_keep_sub_folders(config_file, tmp_path):  # noqa: F811
    config = str(config_file("cityscapes"))
    assert tool.main([config, "--work-dir", str(tmp_path / "w"), "--show-dir", str(tmp_path / "show")]) == 0
    assert (tmp_path / "show/frankfurt/frankfurt_000000_000294.png").is_file()


def test_pictures_of_cropped_photos(config_file, tmp_path):  # noqa: F811
    path = config_file("voc21")
    steps = [dict(type="LoadImage"), dict(type="LoadMask"), dict(type="ResizePIL", short_side=32, center_crop=True)]
    pipeline = dict(pipeline=[*steps, dict(type="PackInputs")])
    path.write_text(f"{path.read_text()}\ntest_dataloader = dict(num_workers=0, dataset={pipeline!r})\n")
    assert tool.main([str(path), "--work-dir", str(tmp_path / "w"), "--show-dir", str(tmp_path / "s")]) == 0
    assert json.loads((tmp_path / "w/result.json").read_text())["short_side"] == 32


def test_skipped_samples_have_an_exit_code_of_their_own(config_file, tmp_path, capsys):  # noqa: F811
    config = str(config_file())
    (tmp_path / "data/VOCdevkit/VOC2012/JPEGImages/2007_000042.jpg").write_bytes(b"")
    assert tool.main([config, "--work-dir", str(tmp_path / "work")]) == 3
    printed = capsys.readouterr().out
    assert "1 samples skipped" in printed and "the file is empty" in printed


def test_interrupted_and_resumed(config_file, tmp_path, capsys):  # noqa: F811
    config = str(config_file(interrupt_on="2007_000042"))
    assert tool.main([config, "--work-dir", str(tmp_path / "work")]) == 130
    assert "--resume" in capsys.readouterr().err
    assert tool.main([config, "--work-dir", str(tmp_path / "work"), "--resume"]) == 0
    assert json.loads((tmp_path / "work/result.json").read_text())["images"] == 3


def test_what_is_missing_is_told_in_one_line(config_file, tmp_path, monkeypatch, capsys):  # noqa: F811
    config = str(config_file())
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "broken.py").write_text("model = dict(\n")
    (tmp_path / "empty.py").write_text("model = dict(type='BrightnessModel', num_classes=2)\n")
    work = ["--work-dir", str(tmp_path / "work")]
    cases = [
        ([str(tmp_path / "nowhere.py")], "nowhere.py"),
        ([str(tmp_path / "broken.py")], "cannot be read"),
        ([str(tmp_path / "empty.py"), *work], "no test_dataloader"),
        ([config, "nowhere.pth", *work], "checkpoint nowhere.pth does not exist"),
        ([config, str(tmp_path / "other.pth"), *work], "does not fit the model"),
    ]
    for argv, message in cases:
        assert tool.main(argv) == 2, argv
        captured = capsys.readouterr()
        assert message in captured.err and "Traceback" not in captured.err
        assert len([line for line in captured.err.splitlines() if line.startswith("error:")]) == 1
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path / "nowhere"))
    assert tool.main([config, *work]) == 2
    assert "VOC21 not found" in capsys.readouterr().err


def test_wrong_use(capsys):
    assert tool.main([]) == 2
    assert "give a config file, or --suite" in capsys.readouterr().err
    for argv in (["c.py", "--limit", "0"], ["c.py", "--launcher", "smoke-signals"]):
        with pytest.raises(SystemExit) as caught:
            tool.main(argv)
        assert caught.value.code == 2


def test_real_photos(tmp_path):
    shared = Path(__file__).parents[3] / "shared"
    if not (shared / "data/real_mini/coco100").is_dir():
        pytest.skip(f"no real photos at {shared}")
    base = Path(__file__).parents[2] / "configs" / "_base_"
    path = tmp_path / "brightness_coco100.py"
    path.write_text(
        f"_base_ = ['{base}/datasets/coco100_voc21.py', '{base}/runtime/eval.py']\n"
        "custom_imports = dict(imports=['tests.engine.fake_model'], allow_failed_imports=False)\n"
        "model = dict(type='BrightnessModel', num_classes=21)\n"
        f"test_dataloader = dict(num_workers=0, dataset=dict(data_root='{shared}/data/real_mini/coco100'))\n"
    )
    argv = [str(path), "--limit", "3", "--work-dir", str(tmp_path / "w"), "--show-dir", str(tmp_path / "show")]
    assert tool.main(argv) == 0
    result = json.loads((tmp_path / "w/result.json").read_text())
    assert result["images"] == 3 and result["short_side"] == 336 and 0 <= result["mIoU"] < 50
    assert len(list((tmp_path / "show").iterdir())) == 3
    assert np.asarray(result["per_class"]).shape == (21,)
