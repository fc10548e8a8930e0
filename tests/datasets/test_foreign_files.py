"""Converters on foreign, damaged and linked files: each is named and recorded, and the others are made."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from ovseg.datasets import read_mask
from ovseg.datasets.convert import CONVERTERS, ConversionError, Job, UnsafeArchive, extract, run_jobs
from ovseg.datasets.convert.ade847 import read_objects
from ovseg.datasets.convert.context import read_label_map
from ovseg.datasets.convert.jobs import read_json, read_names
from ovseg.datasets.convert.matlab import read_matrix
from tests.datasets.fixtures import NAMES, build_official, save
from tests.datasets.test_convert import make_tar, make_zip
from tests.datasets.test_dataset import dataset_from_config

BROKEN_JSON = {
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "empty": b"",
    "cut": b'{"images": [{"image_id": 1',
    "Latin-1": b'{"a": "caf\xe9"}',
    "nested": b"[" * 100_000,
    "zeros": bytes(64),
}


@pytest.mark.parametrize("kind", BROKEN_JSON)
def test_json_that_is_none_is_named(tmp_path, kind):
    path = tmp_path / "x.json"
    path.write_bytes(BROKEN_JSON[kind])
    with pytest.raises(ConversionError, match="x.json is .*download it again"):
        read_json(path)


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "x.json").write_bytes('\ufeff{"a": "é"}'.encode())
    assert read_json(tmp_path / "x.json") == {"a": "é"}


# --------------------------------------------------------------------------------------------------------- Cityscapes
def test_cityscapes_from_label_ids_alone(tmp_path, monkeypatch):
    expected = build_official(tmp_path, "cityscapes")
    folder = tmp_path / "cityscapes/gtFine/val"
    assert run_jobs(CONVERTERS["cityscapes"](tmp_path)) == {}
    made = {p.relative_to(folder): read_mask(p) for p in folder.rglob("*_labelTrainIds.png")}
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path))
    for path in folder.rglob("*_polygons.json"):
        path.unlink()
    assert CONVERTERS["cityscapes"](tmp_path), "label ids are enough"
    for path in folder.rglob("*_labelIds.png"):
        (folder / path.relative_to(folder).with_name(path.name.replace("labelIds", "labelTrainIds"))).unlink()
    assert run_jobs(CONVERTERS["cityscapes"](tmp_path)) == {}
    for path, labels in made.items():
        np.testing.assert_array_equal(read_mask(folder / path), labels)
    for path in folder.rglob("*_labelIds.png"):
        path.unlink()
    assert CONVERTERS["cityscapes"](tmp_path) == [], "train ids that are there need no source"
    assert len(dataset_from_config("cityscapes")) == len(expected)


def test_linked_cities(tmp_path):
    build_official(tmp_path, "cityscapes")
    plain = len(CONVERTERS["cityscapes"](tmp_path))
    val, disk = tmp_path / "cityscapes/gtFine/val", tmp_path / "disk"
    shutil.move(val / "lindau", disk / "lindau")
    (val / "lindau").symlink_to(disk / "lindau")
    (val / "loop").symlink_to(val)
    (val / "frankfurt/gone_gtFine_labelIds.png").symlink_to("nowhere")
    failures = run_jobs(CONVERTERS["cityscapes"](tmp_path))
    assert len(list(disk.rglob("*_labelTrainIds.png"))) == 1 and plain == 3
    assert sorted(Path(f).name for f in failures) == ["gone_gtFine_labelIds.png", "loop"]
    assert "a link to nowhere" in failures[str(val / "frankfurt/gone_gtFine_labelIds.png")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>", "web page"),
        (b"", "is empty"),
        (b"[]", "TypeError"),
        (b'{"imgWidth": 9, "imgHeight": 9}', "KeyError: 'objects'"),
        (b'{"imgWidth": 1e9, "imgHeight": 9, "objects": []}', "width"),
        (b'{"imgWidth": 999999999, "imgHeight": 999999999, "objects": []}', "above the limit"),
        (
            b'{"imgWidth": 9, "imgHeight": 9, "objects": [{"label": "car", "polygon": [[1, 1]]}]}',
            "object 0 (car): 1 points",
        ),
        (
            b'{"imgWidth": 9, "imgHeight": 9, "objects": [{"label": "car", "polygon": [[1, NaN], [2, 2], [3, 1]]}]}',
            "finite",
        ),
        (
            b'{"imgWidth": 9, "imgHeight": 9, "objects": [{"label": "car", "polygon": [[1, 1e9], [2, 2], [3, 1]]}]}',
            "far",
        ),
        (b'{"imgWidth": 9, "imgHeight": 9, "objects": [{"label": "car", "polygon": 5}]}', "TypeError"),
        (b'{"imgWidth": 9, "imgHeight": 9, "objects": [7]}', "TypeError"),
    ],
)
def test_odd_polygons_are_recorded_and_the_run_goes_on(tmp_path, content, reason):
    build_official(tmp_path, "cityscapes")
    odd = next((tmp_path / "cityscapes/gtFine/val/lindau").glob("*_polygons.json"))
    odd.write_bytes(content)
    failures = run_jobs(CONVERTERS["cityscapes"](tmp_path))
    assert list(failures) == [str(odd)] and reason in failures[str(odd)]
    assert len(list(tmp_path.rglob("*_labelTrainIds.png"))) == 2
    assert not list(tmp_path.rglob("*.part*"))


# ------------------------------------------------------------------------------------------------- ADE847, COCO-Object
def test_ade847_follows_links_and_tells_of_two_photos_with_one_name(tmp_path):
    build_official(tmp_path, "ade847")
    base = tmp_path / "ADE20K_2021_17_01/images/ADE/validation/urban"
    shutil.move(base / "street", tmp_path / "disk")
    (base / "street").symlink_to(tmp_path / "disk")
    (base / "again").mkdir()
    for ending in (".jpg", "_seg.png"):
        twin = base / f"again/{NAMES['ade847'][1]}{ending}"
        shutil.copy(tmp_path / "disk" / twin.name, twin)
    failures = run_jobs(CONVERTERS["ade847"](tmp_path))
    assert len(list((tmp_path / "ADE20K_2021_17_01/annotations_detectron2/validation").iterdir())) == 3
    assert all("is that of" in reason for reason in failures.values()) and len(failures) == 2


def test_object_numbers_are_never_read_from_a_lossy_file(tmp_path):
    path = tmp_path / "x_seg.png"
    colours = np.zeros((8, 8, 3), np.uint8)
    for array, kind in ((colours, "JPEG"), (np.zeros((8, 8, 4), np.uint8), "PNG"), (np.zeros((8, 8), np.uint8), "PNG")):
        Image.fromarray(array).save(path, kind)
        with pytest.raises(ValueError, match="x_seg.png.*exact colours|x_seg.png.*8-bit RGB"):
            read_objects(path)
    save(path, colours)
    assert (read_objects(path) == 65535).all()


def test_coco_object_on_a_linked_disk(tmp_path, monkeypatch):
    expected = build_official(tmp_path, "coco_object")
    disk = tmp_path / "mnt/disk/far/away"
    disk.mkdir(parents=True)
    (tmp_path / "coco_object").symlink_to(disk)
    shutil.move(tmp_path / "coco_stuff164k", tmp_path / "mnt/other")
    (tmp_path / "coco_stuff164k").symlink_to("mnt/other")
    assert run_jobs(CONVERTERS["coco_object"](tmp_path)) == {}
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path))
    data = dataset_from_config("coco_object")
    assert len(data) == 3
    for i, truth in enumerate(expected):
        np.testing.assert_array_equal(data[i]["data_samples"].gt_sem_seg.data[0].numpy(), truth)


def test_missing_sources_say_that_they_are_broken_links(tmp_path):
    (tmp_path / "cityscapes/gtFine").mkdir(parents=True)
    (tmp_path / "cityscapes/gtFine/val").symlink_to("/nowhere/val")
    with pytest.raises(ConversionError, match="it is a link to /nowhere/val, which does not exist"):
        CONVERTERS["cityscapes"](tmp_path)


# ------------------------------------------------------------------------------------------------------------- Context
def test_odd_entries_of_context_are_recorded(tmp_path):
    build_official(tmp_path, "context60")
    source = tmp_path / "VOCdevkit/VOC2010/trainval_merged.json"
    data = json.loads(source.read_text())
    data["images"] += [{"phase": "val"}, "nonsense", {"image_id": 7, "phase": "val", "file_name": ""}]
    data["annos_segmentation"] += [None, {"category_id": 2}]
    del data["images"][0]["height"]
    source.write_text(json.dumps(data))
    failures = run_jobs(CONVERTERS["context"](tmp_path))
    names = sorted(Path(f).name.removeprefix("trainval_merged.json:") for f in failures)
    expected = [NAMES["context60"][0], "annos_segmentation[", "images["]
    assert len(names) == 6 and [n for n in names if n.startswith(expected[0])]
    assert sum(n.startswith("images[") for n in names) == 3 and sum(n.startswith("annos") for n in names) == 2
    assert len(list((source.parent / "SegmentationClassContext").glob("*.png"))) == 2
    for content, message in (
        (b"[]", "not the official file"),
        (b'{"images": [], "annos_segmentation": []}', "no annotated"),
    ):
        source.write_bytes(content)
        with pytest.raises(ConversionError, match=message):
            CONVERTERS["context"](tmp_path)


def test_mat_files(tmp_path):
    path = tmp_path / "x.mat"
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM"
    path.write_bytes(header + b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(ValueError, match="MATLAB 7.3"):
        read_label_map(path)
    scipy.io.savemat(path, {"LabelMap": np.full((4, 5), 459, np.uint16)}, do_compression=True)
    assert (read_label_map(path) == 458).all()
    good = path.read_bytes()
    for content in (b"", b"<html>", good[:-20], good[:130], good[:140] + bytes(9) + good[149:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no readable MATLAB file"):
            read_label_map(path)
    scipy.io.savemat(path, {"LabelMap": np.ones((2, 2))}, format="4")  # sizes in its header are not bounded
    with pytest.raises(ValueError, match="version 5 to 7"):
        read_label_map(path)
    for content, message in (
        ({"labels": np.ones((2, 2))}, "no LabelMap, but labels"),
        ({"LabelMap": np.full((2, 2), 1.5)}, "whole numbers"),
        ({"LabelMap": "text"}, "no matrix of real numbers"),
        ({"LabelMap": {"a": 1}}, "no matrix of real numbers"),
        ({"LabelMap": np.ones((2, 2)) * 1j}, "no matrix of real numbers"),
        ({"LabelMap": np.zeros((0, 0))}, "whole numbers"),
        ({"LabelMap": np.full((2, 2), np.nan)}, "whole numbers"),
        ({"LabelMap": np.full((2, 2), 460)}, "has 1..459"),
    ):
        scipy.io.savemat(path, content)
        with pytest.raises(ValueError, match=message):
            read_label_map(path)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("compress", [False, True])
def test_matrices_are_those_that_scipy_reads(tmp_path, dtype, compress):
    path = tmp_path / "x.mat"
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (2, 1), (3, 5), (40, 30)):
        other = {
            "a": np.arange(3),
            "s": {"b": "text"},
            "c": "words",
            "LabelMap": rng.integers(0, 99, shape).astype(dtype),
        }
        scipy.io.savemat(path, other, do_compression=compress)
        found = read_matrix(path, "LabelMap")
        np.testing.assert_array_equal(found, scipy.io.loadmat(path)["LabelMap"])
        assert found.dtype.isnative


def test_a_matrix_in_the_other_byte_order(tmp_path):
    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    parts = element(6, struct.pack(">II", 11, 0)) + element(5, struct.pack(">ii", 2, 3)) + element(1, b"LabelMap")
    matrix = element(14, parts + element(4, struct.pack(">6H", 1, 2, 3, 4, 5, 459)))
    (tmp_path / "x.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + matrix)
    assert read_matrix(tmp_path / "x.mat", "LabelMap").tolist() == [[1, 3, 5], [2, 4, 459]]


def test_mat_files_that_cannot_be_read_do_not_stop_the_others(tmp_path):
    build_official(tmp_path, "pc459")
    folder = tmp_path / "VOCdevkit/VOC2010/trainval"
    (folder / f"{NAMES['pc459'][0]}.mat").write_bytes(b"<html>")
    (folder / f"{NAMES['pc459'][1]}.mat").unlink()
    (folder / f"{NAMES['pc459'][1]}.mat").symlink_to("gone.mat")
    failures = run_jobs(CONVERTERS["pc459"](tmp_path))
    assert [Path(f).stem for f in failures] == list(NAMES["pc459"][:2])
    assert len(list((folder.parent / "annotations_detectron2/pc459_val").iterdir())) == 1


def test_split_files_of_converters(tmp_path):
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbf2008_000003  -1\r\n\r\n2008_000009  1\r\n")
    assert read_names(tmp_path / "val.txt") == ["2008_000003", "2008_000009"]
    (tmp_path / "val.txt").write_bytes(b"a\ncaf\xe9\n")
    with pytest.raises(ConversionError, match="val.txt, line 2: not UTF-8"):
        read_names(tmp_path / "val.txt")


# ---------------------------------------------------------------------------------------------------------------- jobs
def fail(error: BaseException):
    def make(_: Path) -> np.ndarray:
        raise error

    return make


def good(_: Path) -> np.ndarray:
    return np.zeros((2, 2), np.uint8)


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError("HDF"),
        RuntimeError("x"),
        AttributeError("x"),
        ZeroDivisionError(),
        EOFError(),
        RecursionError(),
    ],
)
def test_whatever_a_decoder_raises_is_recorded(tmp_path, error):
    jobs = [Job(tmp_path / "bad", tmp_path / "bad.png", fail(error)), Job(tmp_path / "b", tmp_path / "b.png", good)]
    failures = run_jobs(jobs)
    assert list(failures) == [str(tmp_path / "bad")] and type(error).__name__ in failures[str(tmp_path / "bad")]
    assert (tmp_path / "b.png").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), SystemExit(1)])
def test_what_is_no_fault_of_a_file_is_not_swallowed(tmp_path, error):
    with pytest.raises(type(error)):
        run_jobs([Job(tmp_path / "bad", tmp_path / "bad.png", fail(error))])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing_ends_the_run_by_name(tmp_path, number):
    def write(path: Path, _: np.ndarray) -> None:
        raise OSError(number, os.strerror(number), str(path))

    jobs = [Job(tmp_path / name, tmp_path / f"{name}.png", good, write) for name in ("a", "b")]
    with pytest.raises(ConversionError, match=rf"cannot write .*a.png: {os.strerror(number)}"):
        run_jobs(jobs)
    with pytest.raises(ConversionError, match="No space left"):
        run_jobs([Job(tmp_path / "a", tmp_path / "a.png", fail(OSError(errno.ENOSPC, "No space left on device")))])


# ------------------------------------------------------------------------------------------------------------ archives
def test_every_byte_of_a_zip_directory_may_be_wrong(tmp_path):
    whole = make_zip(tmp_path / "x.zip", {"a/b.txt": b"first", "c.txt": b"second"}).read_bytes()
    start = whole.index(b"PK\x01\x02")
    for position in range(start, len(whole)):
        data = bytearray(whole)
        data[position] ^= 0xFF
        (tmp_path / "bad.zip").write_bytes(data)
        try:
            extract(tmp_path / "bad.zip", tmp_path / "out")
        except UnsafeArchive as error:
            assert "bad.zip" in str(error)
    assert all(p.read_bytes() in (b"first", b"second") for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_cut_archives(tmp_path):
    members = {name: bytes([i]) * 700 for i, name in enumerate("abc")}
    whole = make_tar(tmp_path / "x.tar", members).read_bytes()
    for length in (512, 1000, 1536, 3072, 4608, 4700):  # within and between members: no end mark
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(UnsafeArchive, match="cut.tar"):
            extract(tmp_path / "cut.tar", tmp_path / "out")
    damaged = bytearray(whole)
    damaged[1536 + 20] ^= 0xFF  # the second member's header: tarfile takes it for the end
    (tmp_path / "bad.tar").write_bytes(damaged)
    with pytest.raises(UnsafeArchive, match="after 1 members"):
        extract(tmp_path / "bad.tar", tmp_path / "out")
    for kind in ("gz", "bz2", "xz"):
        packed = make_tar(tmp_path / f"x.tar.{kind}", members, compression=kind).read_bytes()
        for data in (packed[: len(packed) // 2], packed[:-6], packed[:30] + b"\xff" * 9 + packed[39:]):
            (tmp_path / "cut").write_bytes(data)
            with pytest.raises(UnsafeArchive, match="cut"):
                extract(tmp_path / "cut", tmp_path / "out")
    packed = make_zip(tmp_path / "x.zip", members).read_bytes()
    (tmp_path / "cut.zip").write_bytes(packed[:-30])
    with pytest.raises(UnsafeArchive, match="whose end is missing"):
        extract(tmp_path / "cut.zip", tmp_path / "out")
    (tmp_path / "page.zip").write_bytes(b"\n<html>")
    with pytest.raises(UnsafeArchive, match="a web page"):
        extract(tmp_path / "page.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_no_damaged_archive(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "x.zip", {"a": b"12345"})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        extract(archive, tmp_path / "out")
    assert not isinstance(caught.value, UnsafeArchive) and not list((tmp_path / "out").iterdir())


def test_later_members_of_one_name_count(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for text in (b"old!", b"new"):
            (tmp_path / "f").write_bytes(text)
            tar.add(tmp_path / "f", "f")
    extract(tmp_path / "x.tar", tmp_path / "out")
    assert (tmp_path / "out/f").read_bytes() == b"new"
    assert extract(tmp_path / "x.tar", tmp_path / "out") == 0


def test_zip_members_that_need_a_password_are_named(tmp_path):
    make_zip(tmp_path / "x.zip", {"a": b"12345"})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    assert zipfile.ZipFile(tmp_path / "x.zip").infolist()[0].flag_bits & 1
    with pytest.raises(UnsafeArchive, match="encrypted"):
        extract(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize(
    "segmentation, reason",
    [
        ({"size": [1, 1], "counts": [1]}, "is needed"),
        ({"size": None, "counts": [3, 4]}, "hold 7 pixels"),  # of the photo's size, but runs that do not fill it
        ({"size": None, "counts": "3"}, "hold 3 pixels"),
        ({"size": None, "counts": [2**62, 2**62]}, "whole number of pixels"),
        ([[1, 1]], "1 points"),
        ([[0, 0, 1e9, 0, 3, 3]], "far outside"),
        ([[0, 0, float("nan"), 0, 3, 3]], "no finite number"),
        (7, "run lengths or a list of polygons"),
    ],
)
def test_damaged_masks_of_context_are_recorded(tmp_path, segmentation, reason):
    build_official(tmp_path, "context60")
    path = tmp_path / "VOCdevkit/VOC2010/trainval_merged.json"
    data = json.loads(path.read_text())
    kept = next(i for i in data["images"] if i["phase"] == "val")
    region = next(r for r in data["annos_segmentation"] if r["image_id"] == kept["image_id"])
    if isinstance(segmentation, dict) and segmentation["size"] is None:
        segmentation = {**segmentation, "size": [kept["height"], kept["width"]]}
    region["segmentation"] = segmentation
    path.write_text(json.dumps(data))
    failures = run_jobs(CONVERTERS["context"](tmp_path))
    assert len(failures) == 1 and Path(kept["file_name"]).stem in next(iter(failures))
    assert reason in next(iter(failures.values()))
