"""docs/api.md: every block of Python runs, one after another."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 6
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((160, 120)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    assert (tmp_path / "out.png").is_file()
    said = capsys.readouterr().out
    assert "(120, 160) (3, 120, 160) float32" in said and "cannot read image" in said
