"""Exports of annotation tools in their own formats: each gives the label maps that were drawn by hand here."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from ovseg.cli import main
from ovseg.datasets import SegmentationDataset
from ovseg.datasets.annotations import read_colour_table
from ovseg.datasets.annotations.colours import voc_colours
from ovseg.datasets.folder import folder_dataset

PIPELINE = [dict(type="LoadImage"), dict(type="LoadMask"), dict(type="PackInputs")]
H, W = 8, 10
TRUTH = np.zeros((H, W), int)  # a cat of 3 x 4 pixels at (1, 2) and a dog of 3 x 3 at (6, 4)
TRUTH[2:6, 1:4] = 1
TRUTH[4:7, 6:9] = 2
CLASSES = ["background", "cat", "dog"]


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (W, H), (90, 90, 90)).save(tmp_path / "images/a.jpg")
    return tmp_path


def labels(root: Path, masks: str, classes: object = None, **options) -> np.ndarray:
    """The label map of the only photo; the kind of the files is seen from them."""
    config = folder_dataset(root / "images", root / masks, classes, **options)
    config.pop("type")
    data = SegmentationDataset(**config, pipeline=PIPELINE)
    sample = data[0]["data_samples"]
    assert "error" not in sample.metainfo, sample.error
    return sample.gt_sem_seg.data[0].numpy()


def failure(root: Path, masks: str, classes: object = None, **options) -> str:
    config = folder_dataset(root / "images", root / masks, classes, **options)
    config.pop("type")
    return SegmentationDataset(**config, pipeline=PIPELINE)[0]["data_samples"].metainfo["error"]


# --------------------------------------------------------------------------------------------------------------- COCO
def coco(root: Path, *annotations: dict, name: str = "a.jpg") -> None:
    """A file with the ids of COCO's categories: gaps, and no background."""
    data = {
        "images": [{"id": 42, "file_name": name, "height": H, "width": W}],
        "categories": [{"id": 17, "name": "cat"}, {"id": 90, "name": "dog"}],
        "annotations": [{"id": i, "image_id": 42, "iscrowd": 0, **a} for i, a in enumerate(annotations)],
    }
    (root / "coco.json").write_text(json.dumps(data))


def rectangle(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


CAT_RUNS = {"size": [H, W], "counts": [8 + 2, 4, 4, 4, 4, 4, 8 * 6 + 2]}  # down the columns


def compressed(mask: np.ndarray) -> dict:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}


@pytest.mark.parametrize("cat", [rectangle(1, 2, 4, 6), CAT_RUNS, compressed(TRUTH == 1)])
def test_coco(root, cat):
    dog = dict(category_id=90, segmentation=rectangle(6, 4, 9, 7))
    coco(root, dict(category_id=17, segmentation=cat), dog)
    np.testing.assert_array_equal(labels(root, "coco.json", CLASSES), TRUTH)
    # without a background among the classes, what nobody labelled is ignored; classes in the order of their ids
    found = labels(root, "coco.json")
    np.testing.assert_array_equal(found, np.where(TRUTH == 0, 255, TRUTH - 1))
    assert (labels(root, "coco.json", CLASSES, unlabelled="ignore")[TRUTH == 0] == 255).all()


def test_overlaps_and_crowds_of_coco(root):
    whole = rectangle(0, 0, W, H)
    small = dict(category_id=17, segmentation=rectangle(1, 2, 4, 6))
    coco(root, small, dict(category_id=90, segmentation=whole))
    expected = np.where(TRUTH == 1, 1, 2)
    np.testing.assert_array_equal(labels(root, "coco.json", CLASSES), expected)  # the smaller one is on top
    reading = dict(classes=CLASSES, data_root=str(root), mask_dir=None, pipeline=PIPELINE)

    def read(**options) -> np.ndarray:
        annotations = dict(type="CocoAnnotations", file="coco.json", **options)
        return SegmentationDataset(**reading, annotations=annotations)[0]["data_samples"].gt_sem_seg.data[0].numpy()

    assert (read(overlap="last") == 2).all()
    coco(root, dict(category_id=17, segmentation=CAT_RUNS), dict(category_id=90, segmentation=whole, iscrowd=1))
    np.testing.assert_array_equal(read(overlap="last"), expected)  # a crowd is below everything
    np.testing.assert_array_equal(read(crowd="ignore"), np.where(TRUTH == 1, 1, 255))
    np.testing.assert_array_equal(read(rename={"dog": None}), np.where(TRUTH == 1, 1, 255))
    np.testing.assert_array_equal(read(rename={"dog": "cat"}), np.ones((H, W)))
    for wrong, message in ((dict(overlap="first"), "overlap"), (dict(rename={"dog": "cow"}), "'cow'")):
        with pytest.raises(ValueError, match=message):
            read(**wrong)


def test_what_is_wrong_in_a_coco_file_is_named(root):
    coco(root, dict(category_id=17, segmentation=[]))
    assert "annotation 0" in failure(root, "coco.json", CLASSES)
    coco(root, dict(category_id=5, segmentation=CAT_RUNS))
    assert "category_id 5" in failure(root, "coco.json", CLASSES)
    coco(root, dict(category_id=17, segmentation=CAT_RUNS))
    assert "'cat', which is none of the data set's" in failure(root, "coco.json", ["background", "lion"])
    coco(root, dict(category_id=17, segmentation=CAT_RUNS), name="elsewhere/b.jpg")
    with pytest.warns(UserWarning, match="1 images of the annotations have no photo"):
        assert "no such image" in failure(root, "coco.json", CLASSES)
    coco(root, dict(category_id=17, segmentation=CAT_RUNS), name="train/a.png")  # the folder and ending do not matter
    assert (labels(root, "coco.json", CLASSES) == np.where(TRUTH == 1, 1, 0)).all()
    coco(root, dict(category_id=17, segmentation=CAT_RUNS, image_id=43))
    with pytest.raises(FileNotFoundError, match="image_id 43"):
        labels(root, "coco.json", CLASSES)
    (root / "coco.json").write_text("[]")
    with pytest.raises(FileNotFoundError, match="no COCO file"):
        labels(root, "coco.json", CLASSES)


# ------------------------------------------------------------------------------------------------------------ colours
COLOURS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n"


def coloured(root: Path, array: np.ndarray = COLOURS[TRUTH]) -> None:
    (root / "SegmentationClass").mkdir(exist_ok=True)
    Image.fromarray(array).save(root / "SegmentationClass/a.png")


def test_colours_of_cvat(root):
    coloured(root)
    (root / "labelmap.txt").write_text(LABELMAP)
    np.testing.assert_array_equal(labels(root, "SegmentationClass", root / "labelmap.txt"), TRUTH)
    np.testing.assert_array_equal(labels(root, "SegmentationClass", colours=root / "labelmap.txt"), TRUTH)
    order = ["dog", "background", "cat"]  # classes are found by name, not by their place in the table
    found = labels(root, "SegmentationClass", order, colours=root / "labelmap.txt")
    np.testing.assert_array_equal(found, np.array([1, 2, 0])[TRUTH])
    with pytest.raises(ValueError, match="give the table with --colours"):
        labels(root, "SegmentationClass", CLASSES)


def test_colours_of_voc(root):
    array = COLOURS[TRUTH]
    array[0, 0] = (224, 224, 192)
    coloured(root, array)
    expected = TRUTH.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(labels(root, "SegmentationClass", CLASSES, colours="voc"), expected)
    palette = Image.fromarray(np.where(expected == 255, 255, expected).astype(np.uint8)).convert("P")
    palette.putdata(expected.ravel())
    palette.putpalette(np.array(voc_colours(), np.uint8).tobytes())
    palette.save(root / "SegmentationClass/a.png")  # VOC's own files: indices that have these colours
    np.testing.assert_array_equal(labels(root, "SegmentationClass", CLASSES), expected)
    np.testing.assert_array_equal(labels(root, "SegmentationClass", CLASSES, colours="voc"), expected)


def test_colours_that_are_none_of_the_table(root):
    array = COLOURS[TRUTH]
    array[0, 0] = (64, 0, 0)  # a resized mask
    coloured(root, array)
    (root / "labelmap.txt").write_text(LABELMAP)
    assert "colour (64, 0, 0) (1 px)" in failure(root, "SegmentationClass", root / "labelmap.txt")


@pytest.mark.parametrize(
    "text",
    [
        LABELMAP,
        "name,r,g,b\nbackground,0,0,0\ncat,128,0,0\ndog,0,128,0\n",
        "background 0 0 0\ncat 128 0 0\ndog 0 128 0\n",
        "0 0 0 background\n128 0 0 cat\n0 128 0 dog\n",
        "background #000000\ncat #800000\ndog #008000\n",
    ],
)
def test_tables_of_colours(tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    table = read_colour_table(tmp_path / "t.txt")
    assert list(table) == CLASSES and list(table.values()) == [tuple(c) for c in COLOURS.tolist()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\ndog\n", "line 1"),
        ("cat 1 2 3\ndog 1 2 3\n", "same colour"),
        ("cat 1 2 300\n", "0 to 255"),
        ("cat 1 2 3\ncat 3 2 1\n", "twice"),
    ],
)
def test_tables_that_are_none(tmp_path, text, message):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_colour_table(tmp_path / "t.txt")


def test_masks_of_roboflow(tmp_path):
    """Photos and masks in one folder, numbers in ``_classes.csv``."""
    folder = tmp_path / "images"
    folder.mkdir()
    name = "a_jpg.rf.0123456789abcdef"
    Image.new("RGB", (W, H)).save(folder / f"{name}.jpg")
    Image.fromarray(TRUTH.astype(np.uint8)).save(folder / f"{name}_mask.png")
    (folder / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    np.testing.assert_array_equal(labels(tmp_path, "images", folder / "_classes.csv"), TRUTH)


# ------------------------------------------------------------------------------------------------------ LabelMe's JSON
def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def labelme(root: Path, *shapes: dict) -> None:
    (root / "json").mkdir(exist_ok=True)
    rest = {"version": "5.5.0", "flags": {}, "imagePath": "../images/a.jpg", "imageData": None}
    document = {**rest, "shapes": list(shapes), "imageHeight": H, "imageWidth": W}
    (root / "json/a.json").write_text(json.dumps(document))


CAT_SHAPES = [
    dict(shape_type="polygon", points=[[1, 2], [4, 2], [4, 6], [1, 6]]),
    dict(shape_type="rectangle", points=[[4, 6], [1, 2]]),
    dict(
        shape_type="mask", points=[[1, 2], [3, 5]], mask=base64.b64encode(png(np.full((4, 3), 255, np.uint8))).decode()
    ),
]


@pytest.mark.parametrize("cat", CAT_SHAPES)
def test_labelme(root, cat):
    dog = dict(label="dog", shape_type="polygon", points=[[6, 4], [9, 4], [9, 7], [6, 7]])
    labelme(root, {"label": "cat", **cat}, dog)
    np.testing.assert_array_equal(labels(root, "json", CLASSES), TRUTH)


def test_a_circle_of_labelme(root):
    labelme(root, dict(label="cat", shape_type="circle", points=[[5, 4], [5, 6]]))
    rows, columns = np.mgrid[:H, :W] + 0.5
    np.testing.assert_array_equal(labels(root, "json", CLASSES), (rows - 4) ** 2 + (columns - 5) ** 2 <= 4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (dict(label="cat", shape_type="line", points=[[0, 0], [3, 3]]), "a line has no area"),
        (dict(label="cow", shape_type="polygon", points=[[0, 0], [3, 3], [0, 3]]), "'cow', which is none"),
        (dict(label="cat", shape_type="polygon", points=[[0, 0], [3, 3]]), "at least three points"),
        (dict(label="cat", shape_type="mask", points=[[9, 0], [12, 3]], mask=CAT_SHAPES[2]["mask"]), "outside"),
    ],
)
def test_what_is_wrong_in_labelme_is_named(root, shape, message):
    labelme(root, shape)
    assert message in failure(root, "json", CLASSES)


# --------------------------------------------------------------------------------------------------------- Supervisely
def supervisely(root: Path, *objects: dict) -> None:
    (root / "ds/ann").mkdir(parents=True, exist_ok=True)
    document = {"description": "", "tags": [], "size": {"height": H, "width": W}, "objects": list(objects)}
    (root / "ds/ann/a.jpg.json").write_text(json.dumps(document))


def bitmap(mask: np.ndarray) -> str:
    """As the SDK encodes it: a palette PNG whose first colour is transparent, compressed, as base64."""
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0, optimize=0)
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def rings(*points: list) -> dict:
    return {"exterior": points[0], "interior": list(points[1:])}


CORNER = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1]], bool)


@pytest.mark.parametrize(
    "cat",
    [
        dict(geometryType="bitmap", bitmap={"origin": [1, 2], "data": bitmap(CORNER)}),
        dict(
            geometryType="polygon",
            points=rings([[1, 2], [4, 2], [4, 6], [1, 6]], [[2, 3], [3, 3], [3, 4], [2, 4]]),
        ),
    ],
)
def test_supervisely(root, cat):
    dog = dict(classTitle="dog", geometryType="rectangle", points=rings([[6, 4], [8, 6]]))
    supervisely(root, {"classTitle": "cat", **cat}, dog)
    expected = TRUTH.copy()
    expected[3, 2] = 0  # a hole
    np.testing.assert_array_equal(labels(root, "ds/ann", CLASSES), expected)


def test_what_is_wrong_in_supervisely_is_named(root):
    supervisely(root, dict(classTitle="cat", geometryType="bitmap", bitmap={"origin": [1, 2], "data": "AAAA"}))
    assert "object 0 ('cat'): its bitmap" in failure(root, "ds/ann", CLASSES)
    bomb = base64.b64encode(zlib.compress(bytes(1 << 27))).decode()
    supervisely(root, dict(classTitle="cat", geometryType="bitmap", bitmap={"origin": [1, 2], "data": bomb}))
    assert "far too large" in failure(root, "ds/ann", CLASSES)


# --------------------------------------------------------------------------------------------------- pairs, one number
def test_pairs_of_other_names(root):
    (root / "masks").mkdir()
    Image.fromarray(TRUTH.astype(np.uint8)).save(root / "masks/truth 7.png")
    (root / "pairs.txt").write_text("# photo, label map\na.jpg\ttruth 7.png\n")
    np.testing.assert_array_equal(labels(root, "masks", CLASSES, pairs=root / "pairs.txt"), TRUTH)
    (root / "pairs.txt").write_text("a.jpg\n")
    with pytest.raises(FileNotFoundError, match="line 1: 'a.jpg' is no photo and label map"):
        labels(root, "masks", CLASSES, pairs=root / "pairs.txt")


def test_every_tool_gives_one_number(root, tmp_path, monkeypatch, capsys):
    """One prediction, all cat, on the same truth from three tools: IoU of cat 12 / 80, mIoU a third of it."""
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path / "cache"))
    coco(
        root,
        dict(category_id=17, segmentation=CAT_RUNS),
        dict(category_id=90, segmentation=rectangle(6, 4, 9, 7)),
    )
    coloured(root)
    (root / "labelmap.txt").write_text(LABELMAP)
    labelme(root, {"label": "cat", **CAT_SHAPES[0]}, dict(label="dog", points=[[6, 4], [9, 4], [9, 7], [6, 7]]))
    (root / "names.json").write_text(json.dumps(CLASSES))
    configs = Path(__file__).parents[2] / "configs/_base_"
    (root / "mine.py").write_text(
        f"_base_ = ['{configs}/datasets/_common.py', '{configs}/runtime/eval.py']\n"
        "custom_imports = dict(imports=['tests.engine.fake_model'], allow_failed_imports=False)\nshort_side = 8\n"
        "model = dict(type='BrightnessModel', num_classes=3, vocabulary=None)\n"
        "test_dataloader = dict(num_workers=0, dataset=dict(classes=['a'], img_dir='nowhere'))\n"
    )
    hashes = set()
    for masks, rest in (
        ("coco.json", []),
        ("SegmentationClass", ["--colours", str(root / "labelmap.txt")]),
        ("json", []),
    ):
        given = ["--images", str(root / "images"), "--masks", str(root / masks), "--classes", str(root / "names.json")]
        work = ["--work-dir", str(root / "work" / masks)]
        assert main(["eval", str(root / "mine.py"), *given, *rest, *work]) == 0
        result = json.loads((root / "work" / masks / "result.json").read_text())
        shares = {c["name"]: c["iou"] for c in result["per_class"]}
        assert shares == pytest.approx({"background": 0, "cat": 15, "dog": 0})
        assert result["mIoU"] == pytest.approx(5) and result["images"] == 1
        hashes.add(result["data"]["fingerprint"])
    assert len(hashes) == 3 and all(len(h) == 64 for h in hashes)
