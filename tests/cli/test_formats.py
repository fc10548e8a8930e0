"""What ``ovseg segment --format`` writes, read back by those it is for."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import ovseg
from ovseg import SegmentationResult
from ovseg.cli import main
from ovseg.datasets import read_mask
from ovseg.results import coco

NAMES = ("cat", "grass", "sky")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("x/a.png", "x/y/b.png")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (4, 5 + i, 3), dtype=np.uint8)
        Image.fromarray(np.kron(pixels, np.ones((16, 16, 1), np.uint8))).save(path)
    return tmp_path


def segment(*arguments):
    return main(["segment", *map(str, arguments), "--classes", ", ".join(NAMES), "--model", "nano"])


def labels_of(path):
    model = ovseg.load("naclip", weights="nano")
    model.set_vocabulary(NAMES)
    return model.segment(path).labels


def test_all_formats_of_several_photos(photos):
    assert segment("x/a.png", "x/y/b.png", "--out", "out", "--format", "overlay,labels,coco,geojson,csv") == 0
    files = {p.relative_to(photos / "out").as_posix() for p in (photos / "out").rglob("*") if p.is_file()}
    pictures = {f"{name}{end}" for name in ("a", "y/b") for end in (".png", "_labels.png", ".geojson")}
    assert files == pictures | {"coco.json", "areas.csv"}
    opened = COCO("out/coco.json")
    assert [opened.imgs[i]["file_name"] for i in (1, 2)] == ["a.png", "y/b.png"]
    assert [c["name"] for c in opened.loadCats(opened.getCatIds())] == list(NAMES)
    with open("out/areas.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for image_id, name in ((1, "a"), (2, "y/b")):
        want = labels_of(f"x/{name}.png")
        assert (read_mask(photos / f"out/{name}_labels.png") == want).all()
        drawn = np.full(want.shape, 99)
        for annotation in opened.loadAnns(opened.getAnnIds(image_id)):
            drawn[opened.annToMask(annotation).astype(bool)] = annotation["category_id"]
            assert 0 <= annotation["score"] <= 1
        assert (drawn == want).all()
        outlines = json.loads((photos / f"out/{name}.geojson").read_text())
        assert (SegmentationResult.from_geojson(outlines, NAMES, want.shape).labels == want).all()
        areas = {row["class"]: int(row["pixels"]) for row in rows if row["photo"] == f"{name}.png"}
        assert areas == {NAMES[i]: int((want == i).sum()) for i in np.unique(want)}


@pytest.mark.parametrize(
    "formats, out, files",
    [
        ("coco", "m.json", {"m.json"}),
        ("csv", "m.csv", {"m.csv"}),
        ("geojson", "m.geojson", {"m.geojson"}),
        ("labels", "m.png", {"m.png"}),
        ("coco,csv", "m.png", {"m_coco.json", "m_areas.csv"}),
        ("overlay,geojson", None, {"out.png", "out.geojson"}),
    ],
)
def test_names_for_one_photo(photos, formats, out, files):
    before = {p.name for p in photos.iterdir()}
    assert segment("x/a.png", "--format", formats, *(() if out is None else ("--out", out))) == 0
    assert {p.name for p in photos.iterdir()} - before == files


@pytest.mark.parametrize(
    "options, message",
    [
        (("--format", "overlay,yolo"), "'yolo' is none; there are overlay, labels, coco, geojson, csv"),
        (("--format", ""), "there are overlay"),
        (("--format", "coco,csv", "--out", "m.json"), "several formats get files of several endings"),
    ],
)
def test_what_is_refused(photos, capsys, options, message):
    assert segment("x/a.png", *options) == 2
    assert message in capsys.readouterr().err


def test_the_streamed_coco_file_is_the_one_made_at_once(tmp_path):
    names = ("a", 'ä "b"')
    photos = []
    with_writer = coco.DatasetWriter(tmp_path / "c.json", names)
    for i in range(3):
        labels = np.random.default_rng(i).integers(0, 2, (5, 6 + i)).astype(np.uint16)
        photos.append((f"{i}.jpg", labels.shape, coco.annotations_of(labels, names)))
        with_writer.add(*photos[-1])
    with_writer.close()
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8")) == coco.dataset(photos, names)


def test_a_coco_file_of_no_photo(tmp_path):
    out = coco.DatasetWriter(tmp_path / "c.json", NAMES)
    out.close()
    assert json.loads((tmp_path / "c.json").read_text()) == coco.dataset([], NAMES)
