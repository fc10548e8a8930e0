"""From the official files to what the configs read, and unpacking archives that mean no good."""

import io
import json
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.datasets import load_class_names, read_mask
from ovseg.datasets.convert import CONVERTERS, ConversionError, Job, UnsafeArchive, extract, run_jobs
from ovseg.datasets.convert.cityscapes import from_polygons
from ovseg.datasets.convert.coco import STUFF, THINGS, object_table, stuff_table
from ovseg.datasets.convert.context import context_ids
from tests.datasets.fixtures import build_official
from tests.datasets.test_dataset import dataset_from_config

CONVERTED = {
    "context60": "context",
    "coco_object": "coco_object",
    "coco_stuff": "coco_stuff",
    "cityscapes": "cityscapes",
    "ade847": "ade847",
    "pc459": "pc459",
    "coco_stuff10k": "coco_stuff10k",
}


@pytest.mark.parametrize("name", CONVERTED)
def test_converted_files_are_what_the_config_reads(tmp_path, monkeypatch, name):
    expected = build_official(tmp_path, name)
    jobs = CONVERTERS[CONVERTED[name]](tmp_path)
    assert run_jobs(jobs) == {}
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path))
    dataset = dataset_from_config(name)
    assert len(dataset) == 3
    for i, truth in enumerate(expected):
        sample = dataset[i]["data_samples"]
        assert "error" not in sample.metainfo, sample.metainfo
        np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), truth)


@pytest.mark.parametrize("name", sorted(CONVERTERS))
def test_missing_official_files_are_named(tmp_path, name):
    with pytest.raises(ConversionError, match="does not exist"):
        CONVERTERS[name](tmp_path)


def test_coco_tables_agree_with_the_published_names(shared_data):
    lines = (shared_data / "real_mini/coco100/labels.tsv").read_text().splitlines()
    labels = {int(index): name for index, name in (line.split("\t") for line in lines)}
    names, objects = load_class_names("coco_stuff"), load_class_names("coco_object")
    assert len(THINGS) == 80 and len(STUFF) == 91
    for label in THINGS + STUFF:
        assert names[stuff_table()[label]] == labels[label]
    assert [objects[object_table()[label]] for label in THINGS] == [labels[label] for label in THINGS]
    assert stuff_table()[255] == 255 and object_table()[255] == 0
    for path in sorted((shared_data / "real_mini/coco100/masks").glob("*.png"))[:10]:
        other = path.parent.parent / "masks_object81" / path.name
        np.testing.assert_array_equal(object_table()[read_mask(path)], read_mask(other))


def test_context_ids_are_the_59_classes_in_order():
    ids = context_ids()
    assert len(ids) == 60 and sorted(ids) == list(ids) and ids[2] == 1 and ids[458] == 59  # aeroplane, wood


def test_cityscapes_polygons_cover_what_was_drawn_before(tmp_path):
    square = [[0, 0], [9, 0], [9, 9], [0, 9]]
    objects = [
        {"label": "road", "polygon": square},
        {"label": "car", "polygon": square, "deleted": 1},
        {"label": "persongroup", "polygon": [[0, 0], [4, 0], [4, 9], [0, 9]]},
    ]
    path = tmp_path / "x_gtFine_polygons.json"
    path.write_text(json.dumps({"imgWidth": 12, "imgHeight": 10, "objects": objects}))
    labels = from_polygons(path)
    assert labels[:, :5].tolist() == [[11] * 5] * 10 and (labels[:, 5:10] == 0).all() and (labels[:, 10:] == 255).all()
    path.write_text(json.dumps({"imgWidth": 2, "imgHeight": 2, "objects": [{"label": "cat", "polygon": square}]}))
    with pytest.raises(ValueError, match="'cat'"):
        from_polygons(path)


def test_jobs_are_resumable_and_one_broken_file_does_not_stop_the_others(tmp_path):
    made = []

    def make(source: Path) -> np.ndarray:
        made.append(source.name)
        if source.name == "bad":
            raise ValueError("no labels in it")
        return np.full((2, 3), 300, np.uint16)

    jobs = [Job(tmp_path / name, tmp_path / "out" / f"{name}.png", make) for name in ("a", "bad", "b")]
    failures = run_jobs(jobs)
    assert list(failures) == [str(tmp_path / "bad")] and "no labels in it" in failures[str(tmp_path / "bad")]
    assert (read_mask(tmp_path / "out/a.png") == 300).all()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]  # no temporary files
    made.clear()
    run_jobs(jobs)
    assert made == ["bad"]
    run_jobs(jobs, force=True)
    assert len(made) == 4


# ---------------------------------------------------------------------------------------------------------- archives
def make_zip(path: Path, members: dict[str, bytes], mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return path


def make_tar(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE, compression: str = "") -> Path:
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "make, name",
    [(make_zip, "x.zip"), (make_tar, "x.tar"), (lambda p, m: make_tar(p, m, compression="gz"), "x.tar.gz")],
)
def test_extract_and_go_on_where_it_stopped(tmp_path, make, name):
    archive = make(tmp_path / name, {"VOCdevkit/a.txt": b"first", "VOCdevkit/b/c.txt": b"second"})
    out = tmp_path / "data"
    assert extract(archive, out) == 2
    assert (out / "VOCdevkit/a.txt").read_bytes() == b"first" and (out / "VOCdevkit/b/c.txt").read_bytes() == b"second"
    (out / "VOCdevkit/a.txt").write_bytes(b"fir")  # broken off
    assert extract(archive, out) == 1
    assert (out / "VOCdevkit/a.txt").read_bytes() == b"first"
    assert extract(archive, out) == 0


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "C:/evil", "..\\evil", "a/b/../../../evil"])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_members_cannot_leave_the_folder(tmp_path, make, name):
    archive = make(tmp_path / "x", {"good.txt": b"1", name: b"2"})
    with pytest.raises(UnsafeArchive, match="would leave"):
        extract(archive, tmp_path / "sub" / "data")
    assert [p.name for p in tmp_path.rglob("*")] == ["x"]  # nothing was written, not even the good member


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_no_links_or_devices_from_tar(tmp_path, kind):
    with pytest.raises(UnsafeArchive, match="link or a device"):
        extract(make_tar(tmp_path / "x.tar", {"good": b""}, kind), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_no_links_from_zip(tmp_path):
    with pytest.raises(UnsafeArchive, match="link or a device"):
        extract(make_zip(tmp_path / "x.zip", {"l": b"/etc/passwd"}, stat.S_IFLNK | 0o777), tmp_path / "data")


def test_damaged_archives(tmp_path):
    good = make_zip(tmp_path / "x.zip", {"a": bytes(range(200))})
    data = bytearray(good.read_bytes())
    data[60] ^= 0xFF
    (tmp_path / "crc.zip").write_bytes(bytes(data))
    (tmp_path / "text.zip").write_text("<html>")
    (tmp_path / "cut.tar.gz").write_bytes(
        make_tar(tmp_path / "t", {"a": b"x" * 9000}, compression="gz").read_bytes()[:60]
    )
    with zipfile.ZipFile(tmp_path / "deflate.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", np.random.default_rng(0).integers(0, 9, 5000, np.uint8).tobytes())
    data = bytearray((tmp_path / "deflate.zip").read_bytes())
    data[40:400] = bytes(360)
    (tmp_path / "deflate.zip").write_bytes(bytes(data))
    for name in ("crc.zip", "deflate.zip", "text.zip", "cut.tar.gz", "missing.zip"):
        with pytest.raises(UnsafeArchive, match=name):
            extract(tmp_path / name, tmp_path / "data")
    assert not list(tmp_path.glob("data/*"))


def test_an_archive_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 3})())
    with pytest.raises(UnsafeArchive, match="needs 5 bytes"):
        extract(make_zip(tmp_path / "x.zip", {"a": b"12345"}), tmp_path / "data")


def test_photos_of_coco_object_are_linked_not_copied(tmp_path):
    build_official(tmp_path, "coco_object")
    CONVERTERS["coco_object"](tmp_path)
    link = tmp_path / "coco_object/images/val2017"
    assert link.is_symlink() and Image.open(link / "000000000139.jpg").size == (64, 48)
    CONVERTERS["coco_object"](tmp_path)  # a second time
