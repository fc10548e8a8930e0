"""Every format a result is written in gives the labels back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from ovseg.polygons import area, fill, join_holes, outlines
from ovseg.results import SegmentationResult
from ovseg.rle import MaskCodeError, encode_labels, encode_mask

NAMES = tuple(f"class {i}" for i in range(847))
MAPS = arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.integers(0, 4))


def blobs(height: int = 120, width: int = 161, classes: int = 847) -> np.ndarray:
    """A map of all classes: a checked ground with every class somewhere, and large smooth areas."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, (height // 3, (width + 2) // 3)).astype(np.uint16)
    labels = labels.repeat(3, axis=0).repeat(3, axis=1)[:height, :width]
    labels.flat[:classes] = np.arange(classes)
    labels[40:80, 30:120] = 846
    labels[50:60, 50:60] = 3
    return labels


def result(labels: np.ndarray) -> SegmentationResult:
    return SegmentationResult(labels, NAMES)


@settings(max_examples=60, deadline=None)
@given(labels=MAPS)
def test_one_pass_codes_equal_those_of_single_masks(labels):
    codes = encode_labels(labels)
    assert list(codes) == np.unique(labels).tolist()
    for value, code in codes.items():
        assert code == encode_mask(labels == value)


@settings(max_examples=80, deadline=None)
@given(mask=arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_outlines_run_along_the_pixels_edges(mask):
    parts = list(outlines(mask))
    total = 0.0
    for rings in parts:
        assert all(np.array_equal(ring, np.rint(ring)) for ring in rings)
        sizes = [abs(area(ring)) for ring in rings]
        total += sizes[0] - sum(sizes[1:])
        assert abs(area(join_holes(rings))) == pytest.approx(sizes[0] - sum(sizes[1:]))
    assert total == mask.sum()
    drawn = np.zeros_like(mask)
    for rings in parts:
        assert not (drawn & fill(rings, mask.shape)).any()
        assert np.array_equal(fill(rings, mask.shape), fill([join_holes(rings)], mask.shape))
        drawn |= fill(rings, mask.shape)
    assert np.array_equal(drawn, mask)


ROUND_TRIPS = {
    "rle": lambda r: SegmentationResult.from_rle(r.to_rle(), NAMES),
    "coco": lambda r: SegmentationResult.from_coco(r.to_coco(), NAMES),
    "coco things": lambda r: SegmentationResult.from_coco(r.to_coco(instances=True), NAMES),
    "panoptic": lambda r: SegmentationResult.from_panoptic(*r.to_panoptic(), NAMES),
    "panoptic things": lambda r: SegmentationResult.from_panoptic(*r.to_panoptic(instances=True), NAMES),
    "polygons": lambda r: SegmentationResult.from_polygons(r.to_polygons(), NAMES, r.labels.shape),
    "geojson": lambda r: SegmentationResult.from_geojson(_text(r.to_geojson()), NAMES, r.labels.shape),
    "labelme": lambda r: SegmentationResult.from_labelme(_text(r.to_labelme()), NAMES),
    "labelme masks": lambda r: SegmentationResult.from_labelme(_text(r.to_labelme(masks=True)), NAMES),
    "cvat": lambda r: SegmentationResult.from_cvat(r.to_cvat(), NAMES),
}


def _text(document: dict) -> dict:
    return json.loads(json.dumps(document))


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_847_classes_come_back(name):
    labels = blobs()
    assert len(np.unique(labels)) == 847
    back = ROUND_TRIPS[name](result(labels))
    assert np.array_equal(back.labels, labels)
    assert back.names == NAMES


@pytest.mark.parametrize("name", ROUND_TRIPS)
@settings(max_examples=25, deadline=None)
@given(labels=MAPS)
def test_any_map_comes_back(name, labels):
    assert np.array_equal(ROUND_TRIPS[name](result(labels)).labels, labels)


def test_annotations_cover_every_pixel_once_and_pycocotools_opens_them(tmp_path):
    made = result(blobs(classes=30) % 30)
    made.confidence = np.linspace(0, 1, made.labels.size, dtype=np.float32).reshape(made.labels.shape)
    made.save_coco(tmp_path / "out" / "coco.json", "a photo.jpg")
    coco = COCO(str(tmp_path / "out" / "coco.json"))
    drawn, times = np.zeros_like(made.labels), np.zeros(made.labels.shape, int)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation).astype(bool)
        drawn[mask] = annotation["category_id"]
        times += mask
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
        assert coco.loadCats([annotation["category_id"]])[0]["name"] == annotation["category_name"]
        assert annotation["score"] == pytest.approx(made.confidence[mask].mean(), abs=1e-5)
    assert (times == 1).all()
    assert np.array_equal(drawn, made.labels)


def test_coco_polygons_are_close_when_pycocotools_draws_them():
    labels = np.zeros((90, 120), np.uint16)
    yy, xx = np.mgrid[:90, :120]
    labels[np.hypot(yy - 40, xx - 50) < 30] = 1
    labels[np.hypot(yy - 40, xx - 50) < 12] = 2
    for annotation in result(labels).to_coco(polygons=True):
        code = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], 90, 120))
        drawn, wanted = coco_mask.decode(code).astype(bool), labels == annotation["category_id"]
        assert (drawn & wanted).sum() / (drawn | wanted).sum() > 0.93


def test_things_are_connected_parts_or_the_methods_regions():
    labels = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [2, 0, 1, 0]], np.uint16)
    things = result(labels).instances()
    assert [(t.name, t.area) for t in things] == [
        ("class 0", 6),
        ("class 1", 3),
        ("class 1", 2),
        ("class 2", 1),
    ]
    assert things[1].box == (2, 0, 2, 3)
    assert np.array_equal(sum(t.full_mask(labels.shape).astype(int) for t in things), np.ones_like(labels, int))
    apart = SegmentationResult(labels, NAMES, regions=np.array([[5, 5, 9, 5], [9, 9, 9, 7], [7, 9, 7, 9]]))
    assert [(t.name, t.area) for t in apart.instances()] == [
        ("class 0", 6),
        ("class 1", 3),
        ("class 1", 2),
        ("class 2", 1),
    ]
    assert len(apart.instances(by_regions=False)) == len(things)
    with pytest.raises(ValueError, match="no regions"):
        result(labels).instances(by_regions=True)
    assert [t.area for t in result(labels).instances(min_area=3)] == [6, 3]


def test_pixels_of_nothing_are_not_guessed():
    codes = result(np.array([[0, 1], [1, 1]], np.uint16)).to_rle()
    del codes["class 0"]
    with pytest.raises(ValueError, match="1 pixels belong to nothing"):
        SegmentationResult.from_rle(codes, NAMES)
    assert SegmentationResult.from_rle(codes, NAMES, fill="class 7").labels.tolist() == [[7, 1], [1, 1]]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (np.zeros((2, 2)), ("a",), "whole numbers"),
        (np.full((2, 2), 3), ("a", "b"), "from 3 to 3 for 2 names"),
        (np.full((2, 2), -1), ("a", "b"), "from -1"),
        (np.zeros((0, 2), int), ("a",), "whole numbers"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, names, message):
    with pytest.raises(ValueError, match=message):
        SegmentationResult(labels, names)


def test_damaged_documents_are_refused():
    made = result(np.array([[0, 1], [1, 1]], np.uint16))
    document = made.to_labelme()
    document["shapes"][0]["points"][0][0] = float("nan")
    with pytest.raises(MaskCodeError, match="finite"):
        SegmentationResult.from_labelme(document, NAMES)
    cut = made.to_labelme(masks=True)
    cut["shapes"][0]["mask"] = cut["shapes"][0]["mask"][:20]
    with pytest.raises(MaskCodeError, match="no PNG"):
        SegmentationResult.from_labelme(cut, NAMES)
    with pytest.raises(ValueError, match="not among"):
        SegmentationResult.from_cvat(made.to_cvat(), NAMES[:1])
    with pytest.raises(MaskCodeError, match="do not fill"):
        SegmentationResult.from_cvat(made.to_cvat().replace('rle="0, 1', 'rle="0, 2'), NAMES)
    with pytest.raises(ValueError, match="entities"):
        SegmentationResult.from_cvat('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', NAMES)
    picture, segments = made.to_panoptic()
    with pytest.raises(ValueError, match="which no segment has"):
        SegmentationResult.from_panoptic(picture, segments[:1], NAMES)
    with pytest.raises(ValueError, match="index below 847"):
        SegmentationResult.from_coco([{**made.to_coco()[0], "category_name": None, "category_id": 900}], NAMES)


def test_supervision_and_pandas():
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    made = result(blobs(classes=30) % 30)
    detections = made.to_supervision()
    assert isinstance(detections, supervision.Detections)
    assert np.array_equal(SegmentationResult.from_supervision(detections, NAMES).labels, made.labels)


def test_rows_of_the_table():
    made = result(np.array([[0, 1], [1, 1]], np.uint16))
    made.confidence = np.array([[0.5, 0.25], [0.5, 0.75]], np.float32)
    assert made.table() == [
        {"name": "class 1", "class": 1, "pixels": 3, "share": 0.75, "confidence": 0.5},
        {"name": "class 0", "class": 0, "pixels": 1, "share": 0.25, "confidence": 0.5},
    ]
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    assert isinstance(made.to_pandas(), pandas.DataFrame)


def test_notebooks_and_figures_show_the_overlay():
    made = SegmentationResult(np.array([[0, 1], [1, 1]], np.uint16), ("ground", "cat"), np.zeros((2, 2, 3), np.uint8))
    assert made._repr_png_().startswith(b"\x89PNG")
    assert repr(made) == "SegmentationResult(2 x 2 pixels: cat 75%, ground 25%)"
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert len(made.plot().axes) == 2
