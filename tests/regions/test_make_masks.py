"""The tool that fills the mask cache."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.cli.masks import share
from ovseg.errors import SetupError
from tests.datasets.fixtures import build

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("make_masks", ROOT / "tools" / "make_masks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_fills_the_cache_once(tool, tmp_path):
    for i in range(3):
        Image.fromarray(np.full((20, 30, 3), 60 * i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    config = tmp_path / "config.py"
    source = "dict(type='CachedRegions', source=dict(type='SlicRegions', segments=4), folder=%r)"
    config.write_text(f"model = dict(regions={source % str(tmp_path / 'masks')})")
    assert tool.main([str(config), "--images", str(tmp_path / "[0-9].png"), "--part", "1/2"]) == 0
    assert len(list((tmp_path / "masks").rglob("*.rle"))) == 2
    assert tool.main([str(config), "--images", str(tmp_path / "*.png")]) == 1  # the broken one
    files = list((tmp_path / "masks").rglob("*.rle"))
    times = [f.stat().st_mtime_ns for f in files]
    tool.main([str(config), "--images", str(tmp_path / "*.png")])
    assert len(files) == 3 and [f.stat().st_mtime_ns for f in files] == times


def test_photos_of_the_configs_data_set(tool, tmp_path, monkeypatch, capsys):
    build(tmp_path / "data", "voc21")
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path / "data"))
    config = tmp_path / "config.py"
    config.write_text(
        f"_base_ = ['{ROOT}/configs/_base_/datasets/voc21.py']\n"
        "source = dict(type='SlicRegions', segments=4)\n"
        f"model = dict(regions=dict(type='CachedRegions', source=source, folder={str(tmp_path / 'masks')!r}))\n"
    )
    assert tool.main([str(config)]) == 0
    assert len(list((tmp_path / "masks").rglob("*.rle"))) == 3
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path / "nowhere"))
    assert tool.main([str(config)]) == 2
    assert "nowhere" in capsys.readouterr().err.replace("\n", "")


def test_the_tool_says_what_is_wrong(tool, tmp_path):
    with pytest.raises(SetupError, match="write I/N"):
        share(["a"], "3/2")
    (tmp_path / "plain.py").write_text("model = dict()")
    assert tool.main([str(tmp_path / "plain.py")]) == 2
