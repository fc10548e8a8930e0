"""README's first command, on a few images."""

import json

import pytest

from tools.eval_nano import main


def test_summary_table_runs_and_pictures(tmp_path, capsys):
    args = ["--methods", "clip", "clearclip", "--limit", "2", "--overlays", "1", "--workers", "0"]
    assert main(["--out", str(tmp_path), *args]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {split: list(methods) for split, methods in summary.items()} == {
        "scenes": ["clip", "clearclip"],
        "scenes_noto": ["clip", "clearclip"],
    }
    out = capsys.readouterr().out
    for values in summary.values():
        for value in values.values():
            assert 0 <= value <= 100 and f"{value:.1f}" in out
    assert len(list((tmp_path / "overlays").rglob("*.png"))) == 4
    result = json.loads((tmp_path / "runs" / "scenes" / "clip" / "result.json").read_text())
    assert "nano" in json.dumps(result)


def test_unknown_method_is_one_line(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--methods", "magic"]) == 2
    error = capsys.readouterr().err
    assert "unknown method 'magic'" in error and "Traceback" not in error


def test_unknown_split_is_refused(tmp_path):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--splits", "voc"])
