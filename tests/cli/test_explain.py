"""``ovseg explain``: pictures and tables of a shipped photo, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.cli import main
from tests.cli.json_lines import run

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "data" / "photos" / "images" / "000000013348.jpg"
TRUTH = ROOT / "data" / "photos" / "masks" / "000000013348.png"
WORDS = ("--classes", "voc21_photo")


def test_everything_of_a_shipped_photo(capsys, tmp_path):
    out = tmp_path / "why"
    options = (*WORDS, "--at", "430,245", "--truth", TRUTH, "--methods", "clip", "naclip", "--out", out)
    lines = run(capsys, "explain", PHOTO, *options)
    pictures = {line["what"]: line["path"] for line in lines if line["kind"] == "picture"}
    assert set(pictures) == {"pca", "heat", "attention", "errors", "methods"}
    for path in pictures.values():
        assert np.asarray(Image.open(path)).std() > 10
    by_kind = {line["kind"]: line for line in lines}
    assert by_kind["attention"]["total"] == pytest.approx(1, abs=1e-4)
    assert by_kind["words"]["label"] == "aeroplane" and len(by_kind["words"]["templates"]) > 1
    assert 0 < by_kind["errors"]["miou"] < 100 and by_kind["errors"]["confusions"]
    methods = {line["method"]: line["miou"] for line in lines if line["kind"] == "method"}
    assert methods["naclip"] == pytest.approx(by_kind["errors"]["miou"]), "the same labels, the same number"


def test_a_part_that_does_not_fit_is_told_and_the_others_are_made(capsys, tmp_path):
    options = ("--classes", "cat, grass", "--method", "decomposition", "--at", "5,5", "--out", tmp_path)
    lines = run(capsys, "explain", PHOTO, *options, status=1)
    assert [line["what"] for line in lines if line["kind"] == "left_out"] == ["attention"]
    assert {p.name for p in tmp_path.iterdir()} == {"pca.png", "heat.png"}


@pytest.mark.parametrize(
    "options, message",
    [
        (("--at", "9999,0"), "lies outside of the photo of 640 x"),
        (("--truth", "nowhere.png"), "nowhere.png"),
        (("--heat", "cow"), "--heat 'cow' is not among the classes"),
        (("--methods", "naclp"), "did you mean 'naclip'"),
        (("--methods", "clip", "--checkpoint", "x.pt"), "x.pt"),
    ],
)
def test_refused_in_one_line(capsys, tmp_path, options, message):
    assert main(["explain", str(PHOTO), "--classes", "cat, grass", "--out", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_truth_of_another_size(capsys, tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "t.png")
    assert main(["explain", str(PHOTO), "--classes", "cat", "--truth", str(tmp_path / "t.png")]) == 2
    assert "t.png has 5 x 4 pixels, the photo 640 x" in capsys.readouterr().err


def test_no_pixel():
    with pytest.raises(SystemExit):
        main(["explain", str(PHOTO), "--classes", "cat", "--at", "5"])
