"""Every defect of a data set that makes numbers wrong is caught and named; a good one is not blamed."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ovseg.cli import main
from ovseg.datasets import SegmentationDataset
from ovseg.datasets.check import check_dataset, draw_samples
from ovseg.datasets.check.neighbours import shifted_maps
from ovseg.datasets.fingerprint import dataset_fingerprint
from ovseg.datasets.folder import folder_dataset, see_endings

NAMES = ["background", "cat", "dog", "cow", "car"]
COLOURS = np.random.default_rng(3).integers(40, 255, (300, 3)).astype(np.uint8)


def shapes(rng: np.random.Generator, size: tuple[int, int], classes: int) -> np.ndarray:
    """Label map uint16 of ellipses on background."""
    labels = np.zeros(size, np.uint16)
    for _ in range(6):
        centre = (int(rng.integers(10, size[1] - 10)), int(rng.integers(10, size[0] - 10)))
        axes = (int(rng.integers(6, 22)), int(rng.integers(6, 22)))
        cv2.ellipse(labels, centre, axes, int(rng.integers(180)), 0, 360, int(rng.integers(1, classes)), -1)
    return labels


def photo_of(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """A photo in which things have colours of their own, and noise."""
    noise = rng.normal(0, 8, (*labels.shape, 3))
    return np.clip(COLOURS[labels % 300] + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Sixteen photos of one size that are what their label maps say."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for i in range(16):
        labels = shapes(rng, (96, 128), len(NAMES))
        Image.fromarray(photo_of(rng, labels)).save(tmp_path / f"images/p{i:02}.png")
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / f"masks/p{i:02}.png")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path


def check(folder: Path, classes: object = None, allowed: tuple[str, ...] = (), **options):
    config = folder_dataset(folder / "images", folder / "masks", classes or NAMES, **options)
    config.pop("type")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return check_dataset(SegmentationDataset(**config), allowed=allowed)


def kinds(report) -> list[str]:
    return [f.kind for f in report.findings if f.wrong]


def label(folder: Path, i: int) -> np.ndarray:
    return np.array(Image.open(folder / f"masks/p{i:02}.png"))


def put(folder: Path, i: int, labels: np.ndarray) -> None:
    Image.fromarray(labels).save(folder / f"masks/p{i:02}.png")


def test_a_good_folder_is_not_blamed(folder):
    report = check(folder)
    assert report.problems == [] and report.findings == [] and report.absent == [] and report.images == 16
    assert report.pixels.sum() == 16 * 96 * 128 and report.maps[0] == 16


def test_truncated_and_flipped_label_pngs(folder):
    path = folder / "masks/p03.png"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:60] + bytes([whole[60] ^ 4]) + whole[61:]):
        path.write_bytes(damaged)
        report = check(folder)
        assert kinds(report) == ["mask-unreadable"] and "p03.png" in report.problems[0]
        assert len(report.failures) == 1 and report.flagged == [3]


def test_missing_files_and_label_maps_without_a_photo(folder):
    (folder / "masks/p03.png").unlink()
    (folder / "images/p04.png").unlink()
    report = check(folder)
    assert kinds(report) == ["mask-without-photo", "mask-missing"]
    assert "p04.png" in report.problems[0] and "p03.png" in report.problems[1]
    (folder / "split.txt").write_text("p00\np04\n")
    assert kinds(check(folder, split=folder / "split.txt")) == ["photo-missing"]


def test_a_set_that_counts_from_one(folder):
    for i in range(16):
        put(folder, i, label(folder, i) + 1)
    report = check(folder)
    assert kinds(report)[-1] == "shifted" and "label-range" in kinds(report)
    assert "0 never occurs" in report.problems[-1] and "reduce_zero_label=True" in report.problems[-1]
    assert check(folder, reduce_zero_label=True).problems == []


def test_a_set_without_its_first_class(folder):
    for i in range(16):
        labels = label(folder, i)
        put(folder, i, np.where(labels == 4, 1, labels + 1).astype(np.uint8))
    report = check(folder)
    assert kinds(report) == ["shifted"] and "'background'" in report.problems[0] and "1 to 4" in report.problems[0]


def test_a_set_whose_zero_is_taken_away_already(folder):
    for i in range(16):
        put(folder, i, label(folder, i) - 1)  # 0 becomes 255, as reduce_zero_label does
    report = check(folder, classes=NAMES[1:], reduce_zero_label=True)
    assert kinds(report) == ["already-reduced"] and "takes 'cat' away too" in report.problems[0]
    assert check(folder, classes=NAMES[1:]).problems == []


def test_one_shifted_map_among_others():
    rng = np.random.default_rng(0)
    # classes come in pairs: an even one is usual, its upper neighbour rare
    usual = [np.flatnonzero(rng.random(40) < np.where(np.arange(40) % 2, 0.02, 0.5)) for _ in range(60)]
    assert shifted_maps(usual, 40) == []
    moved = [*usual[:7], usual[7] + 1, *usual[8:]]
    assert shifted_maps(moved, 41) == [(7, -1)]
    assert shifted_maps(moved[:10], 41) == []  # ten maps do not say what is usual


def test_eight_bits_for_300_classes(folder):
    names = [f"thing {i}" for i in range(301)]
    labels = label(folder, 0).astype(np.uint16) * 75  # 300 in it
    assert labels.max() == 300
    for i in range(16):
        put(folder, i, (label(folder, i).astype(np.uint16) * 75).astype(np.uint8))
    report = check(folder, classes=names)
    assert "bits" in kinds(report)
    (told,) = [f for f in report.findings if f.kind == "bits"]
    assert "16 label maps have 8 bits" in told.message and "300 is 44" in told.message and len(told.paths) == 16
    for i in range(16):
        put(folder, i, label(folder, i).astype(np.uint16))
    assert "bits" not in kinds(check(folder, classes=names))


def test_a_label_above_the_classes(folder):
    labels = label(folder, 5)
    labels[:2, :3] = 44
    put(folder, 5, labels)
    report = check(folder)
    assert kinds(report) == ["label-range"] and "label 44 (6 px)" in report.problems[0] and "p05" in report.problems[0]


def test_exchanged_pairs(folder):
    a, b = label(folder, 2), label(folder, 9)
    put(folder, 2, b)
    put(folder, 9, a)
    report = check(folder)
    assert kinds(report) == ["exchanged"]
    assert "p02.png" in report.problems[0] and "p09.png" in report.problems[0] and report.flagged == [2, 9]
    small = shapes(np.random.default_rng(1), (64, 80), 5)
    Image.fromarray(photo_of(np.random.default_rng(1), small)).save(folder / "images/p02.png")
    report = check(folder)  # another size: said even without a look at the edges
    assert "size" in kinds(report)


def test_exchanged_pairs_of_two_sizes(folder):
    rng = np.random.default_rng(1)
    small = shapes(rng, (64, 80), 5)
    Image.fromarray(photo_of(rng, small)).save(folder / "images/p02.png")
    put(folder, 2, label(folder, 9))
    put(folder, 9, small.astype(np.uint8))
    report = check(folder)
    assert kinds(report) == ["size"] and "have each other's size: are they exchanged?" in report.problems[0]


def test_a_whole_set_that_is_paired_wrongly(folder):
    maps = [label(folder, i) for i in range(16)]
    for i in range(16):
        put(folder, i, maps[(i + 5) % 16])
    report = check(folder)
    assert "edges" in kinds(report) and "paired rightly" in report.problems[-1]
    assert all("paired rightly" not in problem for problem in check(folder, allowed=("edges",)).problems)


@pytest.mark.parametrize("classes", (["wall", "crack"], ["wall"] + [f"thing {i}" for i in range(299)]))
def test_masks_of_0_and_255(folder, classes):
    for i in range(16):
        put(folder, i, np.where(label(folder, i) > 0, 255, 0).astype(np.uint8))
    report = check(folder, classes=classes)
    assert "two-valued" in kinds(report) and "label_map={255: 1}" in " ".join(report.problems)
    assert check(folder, classes=["wall", "crack"], label_map={255: 1}).problems == []


def test_linked_folders_are_named(folder, tmp_path):
    shutil.move(folder / "masks", tmp_path / "disk")
    (folder / "masks").symlink_to(tmp_path / "disk")
    report = check(folder)
    assert report.problems == []
    (note,) = report.notes
    assert "masks is a linked folder" in note and str(tmp_path / "disk") in note
    shutil.rmtree(tmp_path / "disk")
    with pytest.raises(FileNotFoundError, match="masks"):
        check(folder)


def test_two_photos_with_one_stem(folder):
    Image.open(folder / "images/p01.png").save(folder / "images/p01.jpg")
    report = check(folder)
    assert kinds(report) == ["doubled-photo"] and "p01.png (p01.jpg is used)" in report.problems[0]
    shutil.copy(folder / "masks/p02.png", folder / "masks/p02.tif")
    assert "doubled-mask" in kinds(check(folder))


def test_exif_rotation(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "images/p01.png").save(folder / "images/p01.png", exif=exif)
    report = check(folder)
    assert kinds(report) == ["size"] and "EXIF rotation is applied" in report.problems[0]
    assert any("1 photos have an EXIF rotation" in note for note in report.notes)
    put(folder, 1, np.rot90(label(folder, 1), -1).copy())
    assert check(folder).problems == []


def test_what_is_worth_knowing(folder):
    shutil.copy(folder / "images/p00.png", folder / "images/copy.png")
    shutil.copy(folder / "masks/p00.png", folder / "masks/copy.png")
    put(folder, 5, np.full((96, 128), 255, np.uint8))
    report = check(folder)
    assert report.problems == []
    assert {f.kind for f in report.findings} == {"same-photo", "same-mask", "empty"}


# -------------------------------------------------------------------------------------------------------- fingerprint
def test_the_fingerprint_covers_files_order_and_settings(folder, tmp_path):
    report = check(folder)
    config = folder_dataset(folder / "images", folder / "masks", NAMES)
    config.pop("type")
    assert dataset_fingerprint(SegmentationDataset(**config)) == report.fingerprint
    assert dataset_fingerprint(SegmentationDataset(**config), workers=1) == report.fingerprint
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder / "images", moved / "images")
    shutil.copytree(folder / "masks", moved / "masks")
    assert check(moved).fingerprint == report.fingerprint
    (moved / "split.txt").write_text("".join(f"p{i:02}\n" for i in reversed(range(16))))
    assert check(moved, split=moved / "split.txt").fingerprint != report.fingerprint
    labels = label(moved, 3)
    labels[0, 0] = 2
    put(moved, 3, labels)
    assert check(moved).fingerprint != report.fingerprint
    assert check(folder, classes=[*NAMES[:-1], "bus"]).fingerprint != report.fingerprint


# ---------------------------------------------------------------------------------------------------------- endings
@pytest.mark.parametrize(
    ("photos", "maps", "expected"),
    [
        (["a.jpg", "b.JPG"], ["a.png", "b.PNG"], ([".jpg"], [".png"])),
        (["x_1.jpg", "x_2.jpeg"], ["x_1_gt.png", "x_2_gt.png"], ([".jpg", ".jpeg"], ["_gt.png"])),
        (
            ["f/f_0_leftImg8bit.png", "l/l_1_leftImg8bit.png"],
            ["f/f_0_gtFine_labelIds.png", "l/l_1_gtFine_labelIds.png"],
            (["_leftImg8bit.png"], ["_gtFine_labelIds.png"]),
        ),
    ],
)
def test_endings_are_seen(tmp_path, photos, maps, expected):
    for part, names in (("images", photos), ("masks", maps)):
        for name in names:
            (tmp_path / part / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / part / name).write_bytes(b"")
    assert see_endings(tmp_path / "images", tmp_path / "masks") == expected


def test_photos_and_masks_in_one_folder(tmp_path):
    for name in ("a.jpg", "b.jpg", "a_mask.png", "b_mask.png"):
        (tmp_path / name).write_bytes(b"")
    assert see_endings(tmp_path, tmp_path) == ([".jpg"], ["_mask.png"])


def test_names_without_anything_in_common(tmp_path):
    for name in ("images/a.jpg", "masks/q.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="--mask-suffix"):
        see_endings(tmp_path / "images", tmp_path / "masks")


# ----------------------------------------------------------------------------------------------- command and picture
def test_the_command(folder, capsys):
    given = ["--images", str(folder / "images"), "--masks", str(folder / "masks"), "--classes"]
    given.append(str(folder / "names.txt"))
    assert main(["data", "check", *given, "--picture", str(folder / "all.png"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and found["images"] == 16 and len(found["fingerprint"]) == 64
    assert [c["name"] for c in found["classes"]] == NAMES
    assert Image.open(folder / "all.png").width > 1600
    put(folder, 5, np.full((96, 128), 77, np.uint8))
    assert main(["data", "check", *given]) == 1
    out = capsys.readouterr().out
    assert "WRONG label-range" in out and "p05.png" in out and "1 things are wrong" in out
    assert main(["data", "check", *given, "--allow", "label-range"]) == 0
    assert main(["data", "check", *given[:2]]) == 2
    assert "--masks is missing" in capsys.readouterr().err
    assert main(["data", "check", "voc22"]) == 2
    assert main(["data", "check", "voc21", "--data-root", str(folder), "--json"]) == 1
    line = json.loads(capsys.readouterr().out)
    assert line["kind"] == "error" and "VOC21 not found" in line["error"]


def test_the_picture_shows_what_is_wrong(folder):
    (folder / "masks/p03.png").write_bytes(b"")
    config = folder_dataset(folder / "images", folder / "masks", NAMES)
    config.pop("type")
    dataset = SegmentationDataset(**config)
    plain = draw_samples(dataset, count=4)
    flagged = draw_samples(dataset, [3], count=4)
    red = (200, 0, 0)
    assert (flagged.reshape(-1, 3) == red).all(1).sum() > 100 > (plain.reshape(-1, 3) == red).all(1).sum()


# -------------------------------------------------------------------------------------------------------- real photos
def test_real_photos_are_not_blamed(shared_data):
    base = shared_data / "real_mini/voc2012"
    assert check(base, classes="voc21").problems == []


@pytest.mark.slow
def test_real_photos_and_their_defects(shared_data, tmp_path):
    base = shared_data / "real_mini/coco100"
    report = check_dataset(real(base, "masks_object81", "coco_object"))
    assert report.problems == []
    report = check_dataset(real(shared_data / "real_mini/ade20k", "masks", "ade20k", reduce_zero_label=True))
    assert report.problems == []


def real(base: Path, masks: str, classes: str, **options) -> SegmentationDataset:
    config = folder_dataset(base / "images", base / masks, classes, **options)
    config.pop("type")
    return SegmentationDataset(**config)
