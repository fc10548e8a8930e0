"""Photos with captions: both kinds of files, broken photos, what travels to the model."""

import json

import numpy as np
import pytest
from PIL import Image

from ovseg.datasets import CaptionDataset, DatasetNotFound, ImageReadError

PIPELINE = (
    dict(type="LoadImage"),
    dict(type="ResizePIL", short_side=32, center_crop=True),
    dict(type="PackInputs", keys=("captions",)),
)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    for i, size in enumerate(((60, 40), (40, 60))):
        Image.fromarray(np.full((*size, 3), 60 * i, np.uint8)).save(tmp_path / "images" / f"{i}.jpg")
    (tmp_path / "pairs.tsv").write_text("0.jpg\ta cat, asleep \n\n1.jpg\ta dog\n0.jpg\tan animal\n", encoding="utf-8")
    coco = dict(
        images=[dict(id=7, file_name="1.jpg"), dict(id=3, file_name="0.jpg")],
        annotations=[dict(image_id=3, caption=" a cat, asleep"), dict(image_id=7, caption="a dog\n")],
    )
    (tmp_path / "captions.json").write_text(json.dumps(coco))
    return tmp_path


def test_every_caption_is_a_pair(root):
    data = CaptionDataset("pairs.tsv", str(root), pipeline=PIPELINE)
    found = [(item["captions"], item["inputs"].shape, int(item["inputs"].max()) > 30) for item in data]
    shape = (3, 32, 32)
    assert found == [("a cat, asleep", shape, False), ("a dog", shape, True), ("an animal", shape, False)]
    from_json = CaptionDataset("captions.json", str(root), pipeline=PIPELINE)
    assert [item["captions"] for item in from_json] == ["a cat, asleep", "a dog"]
    assert int(from_json[1]["inputs"].max()) > 30


def test_a_broken_photo_is_an_error_or_another_is_drawn(root):
    (root / "images" / "0.jpg").write_bytes(b"no photo")
    with pytest.raises(ImageReadError, match=r"0\.jpg"):
        CaptionDataset("pairs.tsv", str(root), pipeline=PIPELINE)[0]
    np.random.seed(0)
    assert CaptionDataset("pairs.tsv", str(root), on_error="another", pipeline=PIPELINE)[0]["captions"] == "a dog"


def test_what_is_wrong_is_named(root):
    with pytest.raises(DatasetNotFound, match=r"captions expected at .*none\.tsv"):
        CaptionDataset("none.tsv", str(root))
    (root / "bad.tsv").write_text("0.jpg a cat\n")
    with pytest.raises(ValueError, match=r"bad\.tsv, line 1: write a photo's path, a tab"):
        CaptionDataset("bad.tsv", str(root))
    (root / "bad.json").write_text("[]")
    with pytest.raises(ValueError, match=r"bad\.json is no file of COCO's captions"):
        CaptionDataset("bad.json", str(root))
    (root / "empty.tsv").write_text("\n")
    with pytest.raises(ValueError, match="holds no pair"):
        CaptionDataset("empty.tsv", str(root))
    with pytest.raises(ValueError, match="on_error='skip'"):
        CaptionDataset("pairs.tsv", str(root), on_error="skip")
