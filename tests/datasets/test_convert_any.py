"""``ovseg data convert``: the label maps of every tool as PNGs, and tables and tars unpacked byte for byte."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.class_files import read_class_file
from ovseg.cli import main
from ovseg.datasets import read_mask
from ovseg.datasets.convert import ConversionError
from ovseg.datasets.convert.folder import write_classes
from ovseg.datasets.convert.records import unpack
from tests.cli.json_lines import run
from tests.datasets.test_annotations import (  # noqa: F401
    CAT_RUNS,
    CAT_SHAPES,
    CLASSES,
    LABELMAP,
    TRUTH,
    coco,
    coloured,
    labelme,
    rectangle,
    root,
)


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array.astype(np.uint8)).save(file, kind)
    return file.getvalue()


PHOTO = encoded(np.full((4, 5, 3), 90), "JPEG")
MASK = encoded(np.arange(20).reshape(4, 5) % 3)


def test_every_tool_gives_the_same_label_maps(root, capsys):  # noqa: F811
    coco(root, dict(category_id=17, segmentation=CAT_RUNS), dict(category_id=90, segmentation=rectangle(6, 4, 9, 7)))
    coloured(root)
    (root / "labelmap.txt").write_text(LABELMAP)
    labelme(root, {"label": "cat", **CAT_SHAPES[0]}, dict(label="dog", points=[[6, 4], [9, 4], [9, 7], [6, 7]]))
    (root / "names.json").write_text(json.dumps(CLASSES))
    for masks, rest in (("coco.json", []), ("SegmentationClass", ["--colours", root / "labelmap.txt"]), ("json", [])):
        given = ["--images", root / "images", "--masks", root / masks, "--classes", root / "names.json", *rest]
        out = root / "out" / masks
        (line,) = run(capsys, "data", "convert", *given, "--out", out, command="data convert")
        assert line["samples"] == 1 and not line["failures"]
        np.testing.assert_array_equal(read_mask(out / "masks/a.png"), TRUTH)
        assert Image.open(out / "masks/a.png").mode == "L"
        assert list(read_class_file(out / "classes.txt").entries) == CLASSES
        again = ["--images", root / "images", "--masks", line["masks"], "--classes", line["classes"]]
        assert main(["data", "check", *map(str, again)]) == 0
        capsys.readouterr()


def test_a_photo_of_another_size_is_named(root, capsys):  # noqa: F811
    coco(root, dict(category_id=17, segmentation=CAT_RUNS))
    Image.new("RGB", (3, 3)).save(root / "images/a.jpg")
    given = ["--images", root / "images", "--masks", root / "coco.json", "--classes", "cat,dog,background"]
    (root / "names.txt").write_text("cat\ndog\nbackground\n")
    given[-1] = root / "names.txt"
    (line,) = run(capsys, "data", "convert", *given, "--out", root / "out", command="data convert", status=1)
    assert line["samples"] == 0 and "a.jpg" in next(iter(line["failures"]))
    assert not list((root / "out").rglob("*.png"))


def test_what_would_overwrite_its_own_source_is_refused(root, capsys):  # noqa: F811
    (root / "masks").mkdir()
    (root / "masks/a.png").write_bytes(encoded(TRUTH))
    (root / "names.txt").write_text("\n".join(CLASSES))
    given = ["--images", root / "images", "--masks", root / "masks", "--classes", root / "names.txt", "--out", root]
    assert main(["data", "convert", *map(str, given)]) == 2
    assert "what is to be converted" in capsys.readouterr().err
    assert main(["data", "convert", "--out", str(root / "out")]) == 2


@pytest.mark.parametrize("names", [("cat", "dog"), ("cat, small", "dog"), ("1 cat", "2 dog"), ("a; b", "#c")])
def test_class_files_give_back_the_names(tmp_path, names):
    path = write_classes(tmp_path, names)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert json.loads(path.read_text()) == list(names) if path.suffix == ".json" else True
    assert path.suffix == ".json" or list(read_class_file(path).entries) == list(names)


def table(path: Path, **columns: list) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    made = arrow.table(columns)
    if path.suffix == ".parquet":
        parquet.write_table(made, path, row_group_size=2)
    else:
        with arrow.ipc.new_stream(str(path), made.schema) as writer:
            writer.write_table(made)
    return path


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_of_hugging_face(tmp_path, kind):
    pictures = [{"bytes": PHOTO, "path": None}, {"bytes": PHOTO, "path": "b.jpg"}, {"bytes": None, "path": "c.jpg"}]
    table(tmp_path / f"train.{kind}", image=pictures, annotation=[{"bytes": MASK, "path": None}] * 3)
    done = unpack([tmp_path / f"train.{kind}"], tmp_path / "out")
    assert done.samples == 2 and [reason for reason in done.failures.values()] == ["it has no photo"]
    files = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*.*")}
    assert files == {
        "images/train/00000000.jpg": PHOTO,
        "images/train/00000001.jpg": PHOTO,
        "masks/train/00000000.png": MASK,
        "masks/train/00000001.png": MASK,
    }


def test_columns_by_name_and_keys(tmp_path):
    path = table(tmp_path / "a.parquet", left=[PHOTO, PHOTO, b"none"], right=[MASK] * 3, id=["x/1", "../../2", "3"])
    with pytest.raises(ConversionError, match="Name it with --image: left, right, id"):
        unpack([path], tmp_path / "out")
    with pytest.raises(ConversionError, match="no column 'key'"):
        unpack([path], tmp_path / "out", "left", "right", "key")
    done = unpack([path], tmp_path / "out", "left", "right", "id")
    assert done.samples == 1 and (tmp_path / "out/masks/x/1.png").read_bytes() == MASK
    assert sorted(done.failures.values()) == ["its name is no file's name below a folder", "its photo is no JPEG, "
                                              "PNG, TIFF, BMP, GIF or WebP file"]  # fmt: skip
    assert not (tmp_path.parent / "2.jpg").exists()
    with pytest.raises(ConversionError, match="holds no encoded pictures"):
        unpack([path], tmp_path / "out", "id", "right")


def shard(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_tars_of_webdataset(tmp_path):
    (tmp_path / "shards").mkdir()
    shard(
        tmp_path / "shards/0.tar", **{"a.jpg": PHOTO, "a.seg.png": MASK, "a.json": b"{}", "b.jpg": PHOTO, "b.png": MASK}
    )
    shard(tmp_path / "shards/1.tar", **{"c/d.jpg": PHOTO, "c/d.mask.png": MASK, "e.jpg": PHOTO, "../f.jpg": PHOTO})
    done = unpack([tmp_path / "shards"], tmp_path / "out")
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["images/a.jpg", "images/b.jpg", "images/c/d.jpg", "masks/a.png", "masks/b.png", "masks/c/d.png"]
    assert done.samples == 3 and {k.split(": ")[1]: v for k, v in done.failures.items()} == {
        "e": "it has no label map",
        "../f": "its name is no file's name below a folder",
    }
    assert (tmp_path / "out/masks/c/d.png").read_bytes() == MASK


def test_files_that_are_none(tmp_path, capsys):
    (tmp_path / "a.tar").write_bytes(b"no tar")
    (tmp_path / "b.zip").touch()
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("a.tar", "damaged"),
        ("b.zip", "only .tar"),
        ("c.tar", "does not exist"),
        ("empty", "holds no file"),
    ):
        assert main(["data", "convert", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
