"""Preparing: from archives of any name, through kills, to the number that a known prediction has."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import shutil
import signal
import tarfile
import threading
import time
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.cli import main
from ovseg.datasets import BENCHMARKS
from ovseg.datasets.check import check_dataset
from ovseg.datasets.convert import ConversionError, UnsafeArchive
from ovseg.datasets.files import clear_parts
from ovseg.datasets.prepare import prepare
from ovseg.evaluation import confusion_update, summarise
from ovseg.weights.errors import DownloadError
from tests.datasets.fixtures import OFFICIAL, build, build_official
from tests.datasets.test_dataset import dataset_from_config


def tree(root: Path) -> dict[str, str]:
    """Hash of every file below a folder, hidden ones too."""
    files = [p for p in root.rglob("*") if p.is_file()]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def pack(folder: Path, archive: Path) -> Path:
    """All of a folder as an archive, by the ending of its name."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                zipped.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix in (".gz", ".tgz") else "w") as tar:
            for path in sorted(folder.iterdir()):
                tar.add(path, path.name)
    return archive


# ------------------------------------------------------------------------------------- official files -> known number
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_to_the_hand_computed_number(tmp_path, monkeypatch, name):
    """Prepared, checked and read; the prediction is class 1 everywhere, so IoU is its share, and 0 for the others."""
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path))
    source = {"context59": "context60"}.get(name, name)
    converted = BENCHMARKS[name].converter is not None
    truths = build_official(tmp_path, source) if converted else build(tmp_path, name)
    if name == "context59":  # background is ignored, the other classes move down
        truths = [np.where(t == 0, 255, t - 1) for t in truths]
    assert prepare(name, tmp_path, workers=2).failures == {}
    dataset = dataset_from_config(name)
    report = check_dataset(dataset, dataclasses.replace(BENCHMARKS[name], images=(3,)), workers=2)
    assert report.failures == {} and report.images == 3
    assert not {f.kind for f in report.findings if f.wrong} & {"count", "bits", "shifted", "already-reduced", "size"}
    classes = len(dataset.metainfo["classes"])
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    for i in range(3):
        truth = dataset[i]["data_samples"].gt_sem_seg.data
        confusion_update(matrix, torch.ones_like(truth), truth, dataset.metainfo["ignore_index"])
    counted = np.concatenate([t[t != dataset.metainfo["ignore_index"]] for t in truths])
    share = 100 * float((counted == 1).mean())
    present = set(np.unique(counted).tolist()) | {1}  # predicted, so it counts even where it never occurs
    summary = summarise(matrix)
    assert summary.mIoU == pytest.approx(share / len(present)) and summary.aAcc == pytest.approx(share)


# ---------------------------------------------------------------------------------------- archives as people have them
def voc(tmp_path: Path) -> Path:
    build(tmp_path / "made", "voc21")
    return tmp_path / "made"


@pytest.mark.parametrize(
    "archive",
    ["VOCtrainval_11-May-2012.tar", "VOCtrainval_11-May-2012.zip", "voctrainval_11-may-2012.tgz", "my.tar.gz"],
)
def test_archives_packed_anew_and_renamed(tmp_path, archive):
    path = pack(voc(tmp_path), tmp_path / archive)
    done = prepare("voc21", tmp_path / "data", [path])
    assert tree(tmp_path / "data") == tree(tmp_path / "made") and done.missing == []
    again = prepare("voc21", tmp_path / "data", [path])
    assert "0 files to" in again.done[0]


def test_folders_of_archives_and_the_downloads_folder(tmp_path):
    pack(voc(tmp_path), tmp_path / "mine/VOCtrainval_11-May-2012.tar")
    assert prepare("voc21", tmp_path / "a", [tmp_path / "mine"]).missing == []
    shutil.copytree(tmp_path / "mine", tmp_path / "b/downloads")
    prepare("voc21", tmp_path / "b")
    assert (tmp_path / "b/VOCdevkit/VOC2012/JPEGImages").is_dir()
    assert prepare("voc21", tmp_path / "a").done == ["VOCtrainval_11-May-2012.tar: unpacked already"]


def test_wrong_archives(tmp_path):
    (tmp_path / "notes.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(ConversionError, match="not a file of VOC21"):
        prepare("voc21", tmp_path / "data", [tmp_path / "notes.zip"])
    whole = pack(voc(tmp_path), tmp_path / "VOCtrainval_11-May-2012.tgz").read_bytes()
    (tmp_path / "VOCtrainval_11-May-2012.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnsafeArchive):
        prepare("voc21", tmp_path / "data", [tmp_path / "VOCtrainval_11-May-2012.tgz"])
    assert not (tmp_path / "data/VOCdevkit").exists()


def test_linked_folders(tmp_path):
    build_official(tmp_path / "disk", "cityscapes")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cityscapes").symlink_to(tmp_path / "disk/cityscapes")
    assert prepare("cityscapes", tmp_path / "data").failures == {}
    assert len(list((tmp_path / "disk").rglob("*_labelTrainIds.png"))) == 3


def test_cityscapes_with_nothing_but_label_ids(tmp_path, monkeypatch):
    truths = build_official(tmp_path, "cityscapes")
    for path in tmp_path.rglob("*_polygons.json"):
        if path.with_name(path.name.replace("polygons.json", "labelIds.png")).exists():
            path.unlink()
    prepare("cityscapes", tmp_path)
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path))
    dataset = dataset_from_config("cityscapes")
    for i in (0, 2):
        np.testing.assert_array_equal(dataset[i]["data_samples"].gt_sem_seg.data[0].numpy(), truths[i])


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    path = pack(voc(tmp_path), tmp_path / "VOCtrainval_11-May-2012.tar")
    root = tmp_path / "data"
    given = ["data", "prepare", "voc21", "--data-root", str(root), "--dry-run"]
    assert main([*given, "--archive", str(path)]) == 0
    assert "would be unpacked to" in capsys.readouterr().out
    assert main(given) == 1 and "--download fetches it from http://host" in capsys.readouterr().out.replace("\n", " ")
    assert main([*given, "--download"]) == 0 and "would be downloaded from" in capsys.readouterr().out
    assert main(["data", "prepare", "cityscapes", "--data-root", str(root), "--dry-run", "--download"]) == 1
    assert "cityscapes-dataset.com" in capsys.readouterr().out  # its terms forbid a download by anybody else
    assert not root.exists()


# ----------------------------------------------------------------------------------------------------------- downloads
@pytest.fixture
def served(tmp_path, monkeypatch):
    """VOC's archive on a server of this machine; returns the address of its folder."""
    folder = tmp_path / "www"
    path = pack(voc(tmp_path), folder / "VOCtrainval_11-May-2012.tar")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    part = BENCHMARKS["voc21"].downloads[0]
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    part = dataclasses.replace(part, url=f"{address}/gone/{part.file}", mirrors=(f"{address}/{part.file}",), md5=md5)
    monkeypatch.setitem(BENCHMARKS, "voc21", dataclasses.replace(BENCHMARKS["voc21"], downloads=(part,)))
    yield part
    server.shutdown()


def test_a_mirror_is_asked_when_the_source_has_gone(served, tmp_path):
    done = prepare("voc21", tmp_path / "data", fetch=True)
    assert "downloaded to" in done.done[0] and (tmp_path / "data/VOCdevkit/VOC2012/JPEGImages").is_dir()
    kept = tree(tmp_path / "data")
    assert "downloaded" not in " ".join(prepare("voc21", tmp_path / "data", fetch=True).done)
    assert tree(tmp_path / "data") == kept


def test_another_file_than_the_official_one_is_refused(served, tmp_path, monkeypatch):
    part = dataclasses.replace(served, md5="0" * 32)
    monkeypatch.setitem(BENCHMARKS, "voc21", dataclasses.replace(BENCHMARKS["voc21"], downloads=(part,)))
    with pytest.raises(DownloadError, match="has the MD5"):
        prepare("voc21", tmp_path / "data", fetch=True)
    assert not (tmp_path / "data/VOCdevkit").exists()


# --------------------------------------------------------------------------------------------------------------- kills
def many_maps(root: Path, count: int) -> None:
    """COCO-Stuff's two archives with ``count`` photos."""
    rng = np.random.default_rng(0)
    made = root / "made"
    for part in ("images", "maps"):
        (made / part / "val2017").mkdir(parents=True)
    for i in range(count):
        name = f"{139 + i:012}"
        Image.fromarray(rng.integers(0, 255, (96, 128, 3), np.uint8)).save(made / f"images/val2017/{name}.jpg")
        labels = rng.choice([0, 12, 89, 91, 181, 255], (12, 16)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(labels).save(made / f"maps/val2017/{name}.png")
    pack(made / "images", root / "archives/val2017.zip")
    pack(made / "maps", root / "archives/stuffthingmaps_trainval2017.zip")


def kills(root: Path, number: int, seed: int) -> tuple[int, dict[str, str], dict[str, str]]:
    """Kill ``number`` runs at random moments, then let one end; how many were killed, its files and those of a
    run that nobody disturbed."""
    many_maps(root, 40)
    given = [root / "archives"]
    started = time.monotonic()
    prepare("coco_stuff", root / "quiet", given, workers=2)
    whole = time.monotonic() - started
    moments = random.Random(seed)
    killed = 0
    for _ in range(number):
        child = os.fork()
        if child == 0:
            try:
                prepare("coco_stuff", root / "killed", given, workers=2, force=True)
            finally:
                os._exit(0)
        time.sleep(moments.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    prepare("coco_stuff", root / "killed", given, workers=2)
    return killed, tree(root / "killed"), tree(root / "quiet")


def test_a_killed_run_is_completed_by_the_next(tmp_path):
    killed, files, expected = kills(tmp_path, 4, seed=1)
    assert killed >= 1 and files == expected and len(files) == 3 * 40


@pytest.mark.slow
def test_twenty_kills(tmp_path):
    killed, files, expected = kills(tmp_path, 20, seed=2)
    assert killed >= 10 and files == expected


def test_parts_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    for name in (f".a.{child}.part.png", f".b.{os.getpid()}.part.png", ".c.png", "d.part.png"):
        (tmp_path / name).write_bytes(b"")
    assert clear_parts(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f".b.{os.getpid()}.part.png", ".c.png", "d.part.png"])
