"""docs/explain.md: its block of Python runs, and its pictures are there."""

import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explain.md"


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    photos = ROOT / "data" / "photos"
    Image.open(photos / "images" / "000000013348.jpg").reduce(4).save(tmp_path / "photo.png")
    mask = Image.open(photos / "masks" / "000000013348.png")
    small = mask.resize(Image.open(tmp_path / "photo.png").size, Image.Resampling.NEAREST)
    small.point([*range(2), *[2] * 253, 255]).save(tmp_path / "truth.png")  # what is neither ground nor plane: person
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(compile(block, PAGE.name, "exec"), names)
    assert abs(names["found"].total - 2) < 1e-4 and names["words"].label in names["result"].names
    assert [one.miou for one in names["several"]][1] == names["errors"].miou
    assert "aeroplane" in capsys.readouterr().out


def test_its_pictures_are_there_and_small():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(pictures) >= 5
    for name in pictures:
        assert (PAGE.parent / name).stat().st_size < 150_000
