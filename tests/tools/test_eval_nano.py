"""README's first command, on a few images."""

import argparse
import json

import pytest

from ovseg.cli.nano import FIRST, add_parser, evaluation_config
from tools.eval_nano import main


def parse_args(*args):
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["nano", "--out", "x", *args])


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
    assert out.count("first 2 images") == 2  # the table says what it is of
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


def test_without_a_size_it_is_the_documented_subset(tmp_path):
    limits = [parse_args(*size).limit for size in ([], ["--full"], ["--limit", "7"])]
    assert limits == [FIRST, None, 7]
    for limit, indices in zip(limits, (FIRST, None, 7), strict=True):
        config = evaluation_config("clip", "scenes", tmp_path, limit, 0)
        assert config.test_dataloader.dataset.get("indices") == indices


@pytest.mark.parametrize("size", [["--limit", "0"], ["--limit", "-3"], ["--limit", "4.5"], ["--limit", "3", "--full"]])
def test_a_size_that_is_none_is_refused(size, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_args(*size)
    assert stopped.value.code == 2 and "--limit" in capsys.readouterr().err


def test_interrupted_and_resumed(tmp_path, capsys, monkeypatch):
    import ovseg.cli.nano as nano

    args = ["--out", str(tmp_path), "--methods", "clip", "clearclip", "--splits", "scenes", "--limit", "2"]
    args += ["--overlays", "0", "--workers", "0"]
    evaluate = nano.evaluate

    def interrupted(method, split, options):
        if method == "clearclip":
            raise KeyboardInterrupt
        return evaluate(method, split, options)

    monkeypatch.setattr(nano, "evaluate", interrupted)
    assert main(args) == 130
    error = capsys.readouterr().err
    assert "interrupted; the same command with --resume goes on" in error and "Traceback" not in error
    result = tmp_path / "runs" / "scenes" / "clip" / "result.json"
    written = result.read_text()
    monkeypatch.setattr(nano, "evaluate", evaluate)
    assert main([*args, "--resume"]) == 0
    assert result.read_text() == written, "what was finished is not evaluated again"
    assert set(json.loads((tmp_path / "summary.json").read_text())["scenes"]) == {"clip", "clearclip"}
    assert main([*args[:-4], "--limit", "3", "--resume", "--workers", "0"]) == 2
    assert "another config" in capsys.readouterr().err
