"""Linked, hidden, doubled, unpaired and foreign files of a data set: used, or told; never left out without a word."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from ovseg.datasets import DatasetNotFound, SegmentationDataset
from ovseg.datasets.files import find_files, link_folder, list_files
from ovseg.registry import DATASETS

PIPELINE = [dict(type="LoadImage"), dict(type="LoadMask"), dict(type="PackInputs")]


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path) -> Path:
    """Two photos with label maps of 0, 1 and 255."""
    for name in ("a", "sub/b"):
        save(tmp_path / "data/images" / f"{name}.jpg", np.full((4, 6, 3), 90, np.uint8))
        save(tmp_path / "data/masks" / f"{name}.png", np.array([[0, 1, 255] * 2] * 4, np.uint8))
    return tmp_path / "data"


def dataset(root: Path, **options) -> SegmentationDataset:
    return SegmentationDataset(**{**dict(classes=["cat", "dog"], data_root=str(root), pipeline=PIPELINE), **options})


def names(data: SegmentationDataset) -> list[str]:
    return [data.get_data_info(i)["name"] for i in range(len(data))]


def test_nothing_to_tell_of_a_plain_data_set(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = dataset(root)
    assert names(data) == ["a", "sub/b"] and data.notes == []


def test_linked_folders_and_files_are_followed(root, tmp_path):
    plain = [dataset(root)[i]["data_samples"].gt_sem_seg.data for i in range(2)]
    elsewhere = tmp_path / "disk"
    shutil.move(root / "images/sub", elsewhere / "photos")
    (root / "images/sub").symlink_to(elsewhere / "photos")
    shutil.move(root / "masks/sub", elsewhere / "labels")
    (root / "masks/sub").symlink_to("../../disk/labels")
    shutil.move(root / "images/a.jpg", elsewhere / "a.jpg")
    (root / "images/a.jpg").symlink_to(elsewhere / "a.jpg")
    data = dataset(root)
    assert names(data) == ["a", "sub/b"] and data.notes == []
    for i in range(2):
        assert data[i]["data_samples"].gt_sem_seg.data.equal(plain[i])
    (tmp_path / "linked").symlink_to(root)
    assert names(dataset(tmp_path / "linked")) == ["a", "sub/b"]


def test_loops_of_links_end_and_are_told(root):
    (root / "images/sub/up").symlink_to(root / "images")
    (root / "images/self").symlink_to("self")
    with pytest.warns(UserWarning) as caught:
        data = dataset(root)
    assert names(data) == ["a", "sub/b"]
    told = " ".join(str(w.message) for w in caught)
    assert "a link back to" in told and "images/self" in told


def test_links_that_lead_nowhere_are_recorded_by_name(root):
    (root / "images/c.jpg").symlink_to("gone.jpg")
    (root / "masks/c.png").symlink_to("gone.png")
    with pytest.warns(UserWarning, match="c.jpg: a link to gone.jpg, which does not exist"):
        data = dataset(root)
    assert names(data) == ["a", "c", "sub/b"]
    assert "c.jpg: a link to gone.jpg, which does not exist" in data[1]["data_samples"].error
    shutil.rmtree(root / "masks")
    (root / "masks").symlink_to("/nowhere/masks")
    with pytest.raises(DatasetNotFound, match="masks is a link to /nowhere/masks, which does not exist"):
        dataset(root)


def test_folders_that_cannot_be_read_are_told(root, monkeypatch):
    real = os.scandir

    def refuse(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.warns(UserWarning, match="images/sub: cannot be looked into: Permission denied"):
        assert names(dataset(root)) == ["a"]


def test_what_is_left_out_is_told(root):
    save(root / "images/a.jpeg", np.zeros((4, 6, 3), np.uint8))
    save(root / "images/.ipynb_checkpoints/a.jpg", np.zeros((4, 6, 3), np.uint8))
    save(root / "masks/z.png", np.zeros((4, 6), np.uint8))
    with pytest.warns(UserWarning) as caught:
        data = dataset(root)
    assert names(data) == ["a", "sub/b"]
    told = "\n".join(str(w.message) for w in caught)
    assert "1 *.jpeg left out" in told and "1 hidden files or folders" in told and ".ipynb_checkpoints" in told
    assert "1 label maps have no photo and are left out, e.g. z.png" in told
    with pytest.warns(UserWarning, match=r"1 photos left out, whose name another has, e.g. a.jpg \(a.jpeg is used\)"):
        dataset(root, img_suffix=(".jpeg", ".jpg"))
    with pytest.raises(DatasetNotFound, match=r"there are 1 \*.jpeg, 2 \*.jpg: set img_suffix"):
        dataset(root, img_suffix=".png")


def test_a_photo_without_a_label_map_is_recorded(root):
    save(root / "images/c.jpg", np.zeros((4, 6, 3), np.uint8))
    assert "masks/c.png: no such file" in dataset(root)[1]["data_samples"].error


def test_capitals_in_suffixes(root):
    (root / "masks/a.png").rename(root / "masks/a.PNG")
    (root / "images/a.jpg").rename(root / "images/a.JPG")
    data = dataset(root)
    assert data.notes == [] and "error" not in data[0]["data_samples"].metainfo
    assert "error" not in dataset(root, img_suffix=".JPG")[0]["data_samples"].metainfo


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"sub/b\na\n", ["sub/b", "a"]),
        (b"\xef\xbb\xbfsub/b\r\na\r\n\r\n", ["sub/b", "a"]),
        (b"a.jpg\nsub/b.JPG\n", ["a", "sub/b"]),
        (b"a  1\nsub/b -1\n", ["a", "sub/b"]),
        ("a\n".encode("utf-16"), ["a"]),
    ],
)
def test_split_files(root, content, expected):
    (root / "val.txt").write_bytes(content)
    assert names(dataset(root, split="val.txt")) == expected


def test_odd_split_files(root):
    (root / "val.txt").write_bytes("a\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(DatasetNotFound, match="val.txt, line 2: not UTF-8"):
        dataset(root, split="val.txt")
    (root / "val.txt").write_text("a\nsub/b\na\n")
    with pytest.warns(UserWarning, match="1 names are listed more than once and count so, e.g. a"):
        assert len(dataset(root, split="val.txt")) == 3
    with pytest.raises(DatasetNotFound, match="is a folder"):
        dataset(root, split="masks")
    with pytest.raises(DatasetNotFound, match="which is a file"):
        dataset(root, img_dir="val.txt")


def test_class_files_of_a_data_set(root):
    path = root / "labelmap.txt"
    path.write_text("# label:color_rgb:parts:actions\ncat:0,0,0::\ndog:128,0,0::\n")
    assert dataset(root, classes=str(path)).metainfo["classes"] == ("cat", "dog")
    path.write_text("background := sky; wall\ndog; hound\n")
    assert dataset(root, classes=str(path)).metainfo["classes"] == ("background", "dog")
    path.write_text("cat\n\ndog\n")
    with pytest.raises(ValueError, match="line 2: empty name"):
        dataset(root, classes=str(path))
    path.write_text("1: cat\n2: dog\n")
    with pytest.raises(ValueError, match="numbered from 1, .*reduce_zero_label=True"):
        dataset(root, classes=str(path))
    assert len(dataset(root, classes=str(path), reduce_zero_label=True)) == 2
    for wrong in ([], ["cat", 3], ["cat", " "], 7, {"cat": 3.5}):
        with pytest.raises(ValueError):
            dataset(root, classes=wrong)


def test_masks_of_0_and_255_by_a_label_map(root):
    save(root / "masks/a.png", np.array([[0, 255, 0] * 2] * 4, np.uint8))
    for label_map in ({255: 1}, {"255": "1"}):  # the second is what a command line gives
        truth = dataset(root, label_map=label_map)[0]["data_samples"].gt_sem_seg.data
        assert truth[0, 0].tolist() == [0, 1, 0, 0, 1, 0]
    truth = dataset(root, label_map={255: 2}, reduce_zero_label=True)[0]["data_samples"].gt_sem_seg.data
    assert truth[0, 0].tolist() == [255, 1, 255, 255, 1, 255]
    for wrong, message in (({255: 7}, "neither a class"), ({"x": 1}, "integers"), ([1], "give a mapping")):
        with pytest.raises(ValueError, match=message):
            dataset(root, label_map=wrong)


@pytest.mark.parametrize("scope", [None, "mmengine", "mmseg"])
def test_without_a_runner(root, monkeypatch, scope):
    """The transforms are ovseg's own, whatever the default scope of the program is."""
    if scope is None:
        monkeypatch.setattr(DefaultScope, "_instance_dict", type(DefaultScope._instance_dict)())
        assert DefaultScope.get_current_instance() is None
        assert dataset(root)[0]["inputs"].shape == (3, 4, 6)
        built = DATASETS.build(
            dict(type="SegmentationDataset", classes=["cat", "dog"], data_root=str(root), pipeline=PIPELINE)
        )
        assert built[0]["inputs"].shape == (3, 4, 6)
        return
    with DefaultScope.overwrite_default_scope(scope):
        assert dataset(root)[0]["inputs"].shape == (3, 4, 6)
        config = dict(type="ovseg.SegmentationDataset", classes=["cat", "dog"], data_root=str(root), pipeline=PIPELINE)
        assert DATASETS.build(config)[0]["inputs"].shape == (3, 4, 6)
        mixed = [*PIPELINE[:2], dict(type="mmseg.PackSegInputs", meta_keys=())]
        assert type(dataset(root, pipeline=mixed).pipeline.transforms[-1]).__name__ == "PackSegInputs"


def test_listing_is_sorted_as_rglob_would(tmp_path):
    for name in ("b/a", "b-/a", "a", "b.x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_files(tmp_path).files == sorted(p for p in tmp_path.rglob("*") if p.is_file())
    assert list_files(tmp_path, recursive=False).files == [tmp_path / "a", tmp_path / "b.x"]


def test_files_of_a_path_a_folder_or_a_glob(tmp_path, monkeypatch):
    for name in ("a.jpg", "b[1].jpg", "sub/c.jpg", "sub/deep/d.jpg", "sub/deep/e.png", ".hidden/f.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for i in range(3):  # glob.glob would go round these until the end of time
        (tmp_path / f"sub/up{i}").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "sub/deep")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")

    def found(pattern):
        return [p.relative_to(tmp_path).as_posix() for p in find_files(pattern).files]

    everything = ["a.jpg", "b[1].jpg", "gone.jpg", "linked/d.jpg", "sub/c.jpg", "sub/deep/d.jpg"]
    assert found(tmp_path / "**/*.jpg") == everything
    assert found(f"{tmp_path}/**/d*.jpg") == ["linked/d.jpg", "sub/deep/d.jpg"]
    assert found(f"{tmp_path}/s*/**") == ["sub/c.jpg", "sub/deep/d.jpg", "sub/deep/e.png"]
    assert found(f"{tmp_path}/**/deep/*.jpg") == ["sub/deep/d.jpg"]
    assert found(tmp_path / "*.jpg") == ["a.jpg", "b[1].jpg", "gone.jpg"]
    assert found(tmp_path / "b[1].jpg") == ["b[1].jpg"] and found(tmp_path / "none*") == []
    assert found(tmp_path / "sub") == ["sub/c.jpg"]
    for pattern in (tmp_path / "gone.jpg", tmp_path / "*.jpg", tmp_path / "**/*.jpg", tmp_path):
        assert find_files(pattern).problems[tmp_path / "gone.jpg"] == "a link to nowhere.jpg, which does not exist"
    monkeypatch.chdir(tmp_path)
    assert [p.as_posix() for p in find_files("**/*.jpg").files] == everything


def test_a_folder_is_linked_where_both_really_lie(tmp_path, monkeypatch):
    real, photos = tmp_path / "disk/deep/er", tmp_path / "data/photos"
    real.mkdir(parents=True)
    photos.mkdir(parents=True)
    (photos / "a.jpg").write_bytes(b"x")
    (tmp_path / "data/linked").symlink_to(real)
    link = tmp_path / "data/linked/images/val"
    link_folder(link, photos)
    assert link.is_symlink() and (link / "a.jpg").read_bytes() == b"x"
    link.unlink()
    link.symlink_to("../../gone")  # what earlier versions made
    link_folder(link, photos)
    assert (link / "a.jpg").read_bytes() == b"x"
    link_folder(link, tmp_path / "other")  # what is there is kept
    link.unlink()
    monkeypatch.setattr(Path, "symlink_to", lambda *a, **k: (_ for _ in ()).throw(OSError(95, "not supported")))
    link_folder(link, photos)
    assert not link.is_symlink() and (link / "a.jpg").read_bytes() == b"x"
    assert [p.name for p in link.parent.iterdir()] == ["val"]
