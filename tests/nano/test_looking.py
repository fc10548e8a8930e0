"""nano-photo looks at photographs: names that are moved by one are told by ``ovseg data check``."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.cli import main

PHOTOS = Path(__file__).parents[2] / "data/photos"


@pytest.fixture
def photos(tmp_path):
    """The repository's photographs with their maps, labels 1 to 20 moved down by one, person among them."""
    (tmp_path / "masks").mkdir()
    for path in sorted((PHOTOS / "masks").glob("*.png")):
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where((labels > 0) & (labels < 255), labels - 1, labels)).save(
            tmp_path / "masks" / path.name
        )
    return tmp_path


def check(masks, capsys, *more):
    arguments = ["--images", str(PHOTOS / "images"), "--masks", str(masks), "--classes", "voc21", "--json", *more]
    status = main(["data", "check", *arguments])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    return status, report, [f["kind"] for f in report["findings"] if f["wrong"]]


def test_shipped_photos_fit_their_names(capsys):
    status, report, wrong = check(PHOTOS / "masks", capsys)
    assert status == 0 and not wrong
    assert report["looked"]["agreement"]["0"] > 0.8 and report["looked"]["photos"] == 26
    assert check(PHOTOS / "masks", capsys, "--look", "0")[1]["looked"] is None


def test_moved_names_are_told(photos, capsys):
    status, report, wrong = check(photos / "masks", capsys)
    assert report["looked"]["agreement"]["1"] > report["looked"]["agreement"]["0"] + 0.2
    assert status == 1 and wrong == ["shifted-names"]
