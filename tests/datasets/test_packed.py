"""Tars and tables as data sets: the same numbers as the folder they were packed from, and every damage by name."""

from __future__ import annotations

import io
import json
import multiprocessing
import tarfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.cli import main
from ovseg.datasets import DatasetNotFound, PackedDataset
from ovseg.datasets.check import check_dataset
from ovseg.datasets.fingerprint import dataset_fingerprint
from ovseg.datasets.packed import list_pairs, packed_dataset
from tests.cli.json_lines import run
from tests.datasets.test_check import NAMES, check, folder, kinds, label, put  # noqa: F401

pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
PIPELINE = [dict(type="LoadImage"), dict(type="LoadMask"), dict(type="PackInputs")]


def rows(folder: Path) -> list[tuple[str, bytes, bytes]]:  # noqa: F811
    names = sorted(path.stem for path in (folder / "images").iterdir())
    return [(n, (folder / f"images/{n}.png").read_bytes(), (folder / f"masks/{n}.png").read_bytes()) for n in names]


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def pack(folder: Path, kind: str) -> str:  # noqa: F811
    """The samples of the folder in two files of a kind; what ``--packed`` is given."""
    out, samples = folder / "packed", rows(folder)
    out.mkdir(exist_ok=True)
    for number, part in enumerate((samples[:9], samples[9:])):
        if kind == "tar":
            with tarfile.open(out / f"part-{number}.tar", "w") as tar:
                for name, photo, labels in part:
                    add(tar, f"{name}.png", photo)
                    add(tar, f"{name}.seg.png", labels)
                    add(tar, f"{name}.json", b"{}")
            continue
        columns = {
            "id": [name for name, *_ in part],
            "image": [dict(bytes=photo, path=f"{name}.png") for name, photo, _ in part],
            "annotation": [dict(bytes=labels, path=None) for *_, labels in part],
        }
        table = pyarrow.table(columns)
        if kind == "parquet":
            parquet.write_table(table, out / f"part-{number}.parquet", row_group_size=4)
        else:
            with pyarrow.ipc.new_stream(str(out / f"part-{number}.arrow"), table.schema) as writer:
                writer.write_table(table, max_chunksize=4)
            (out / f"cache-{number}.arrow").write_bytes(b"what datasets has kept")
    return str(out / f"part-*.{kind}") if kind == "tar" else str(out)


def dataset(source: str, classes: object = NAMES, **options: object) -> PackedDataset:
    config = packed_dataset(source, classes, **options)
    assert config.pop("type") == "PackedDataset"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return PackedDataset(**config, pipeline=PIPELINE)


@pytest.mark.parametrize("kind", ["tar", "parquet", "arrow"])
def test_packed_data_are_those_of_the_folder(folder, kind):  # noqa: F811
    source = pack(folder, kind)
    packed = dataset(source, key=None if kind == "tar" else "id")
    plain, found = check(folder), check_dataset(packed, workers=3)
    assert found.fingerprint == plain.fingerprint == dataset_fingerprint(packed)
    assert found.findings == [] and found.images == 16 and found.title.startswith(str(folder / "packed"))
    np.testing.assert_array_equal(found.pixels, plain.pixels)
    sample = packed[12]["data_samples"]
    np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), label(folder, 12))
    (folder / "split.txt").write_text("p12\np03\n")
    part = dataset(source, key=None if kind == "tar" else "id", split=folder / "split.txt")
    assert [part.get_data_info(i)["name"] for i in range(len(part))] == ["p12", "p03"]


def test_without_a_key_rows_are_named_by_file_and_number(folder):  # noqa: F811
    names = [pair.name for pair in list_pairs(pack(folder, "parquet"))[0]]
    assert names[:2] == ["part-0/00000000", "part-0/00000001"] and names[-1] == "part-1/00000006"


def test_label_maps_and_ignored_labels(folder):  # noqa: F811
    for i in range(16):
        put(folder, i, np.where(label(folder, i) == 4, 200, label(folder, i) + 1).astype(np.uint8))
    source = pack(folder, "tar")
    options = dict(reduce_zero_label=True, label_map={200: 255})
    expected = check(folder, **options)
    found = check_dataset(dataset(source, **options))
    assert found.fingerprint == expected.fingerprint and found.problems == [] and found.ignored == expected.ignored > 0
    assert kinds(check_dataset(dataset(source)))[0] == "label-range"


def test_sixteen_bits_are_asked_for_here_too(folder):  # noqa: F811
    names = [f"thing {i}" for i in range(300)]
    report = check_dataset(dataset(pack(folder, "parquet"), names))
    assert (
        "bits" in kinds(report) and "row 0, annotation" in next(f for f in report.findings if f.kind == "bits").message
    )
    assert packed_dataset("a.tar", names)["ignore_index"] == 65535


def test_colours(folder):  # noqa: F811
    names, colours = ["background", "cat", "dog"], np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], np.uint8)
    lines = [f"{name}:{red},{green},{blue}::\n" for name, (red, green, blue) in zip(names, colours, strict=True)]
    (folder / "labelmap.txt").write_text("".join(lines))
    truth = [label(folder, i) % 3 for i in range(16)]
    for i in range(16):
        put(folder, i, colours[truth[i]])
    packed = dataset(pack(folder, "parquet"), None, colours=folder / "labelmap.txt")
    assert packed.metainfo["classes"] == tuple(names)
    np.testing.assert_array_equal(packed[7]["data_samples"].gt_sem_seg.data[0].numpy(), truth[7])
    put(folder, 3, np.full((96, 128, 3), 77, np.uint8))
    report = check_dataset(dataset(pack(folder, "parquet"), None, colours=folder / "labelmap.txt"))
    assert kinds(report) == ["mask-unreadable"]
    assert "part-0.parquet, row 3, annotation: its colour (77, 77, 77)" in report.problems[0]
    with pytest.raises(ValueError, match="only ColourMasks"):
        PackedDataset("a.tar", ["a"], annotations=dict(type="LabelMeFiles"))


def test_damaged_and_missing_cells_are_named(folder):  # noqa: F811
    path = folder / "a.parquet"
    photos, labels = ([row[i] for row in rows(folder)] for i in (1, 2))
    photos[2], labels[5] = None, labels[5][:-20]
    labels[6] = dict(bytes=None, path="there.png")
    columns = {
        "image": pyarrow.array(photos, pyarrow.binary()),
        "mask": [cell if isinstance(cell, dict) else dict(bytes=cell, path=None) for cell in labels],
    }
    parquet.write_table(pyarrow.table(columns), path, row_group_size=4, compression="zstd")
    group = parquet.ParquetFile(path).metadata.row_group(3)
    start, data = group.column(0).data_page_offset, bytearray(path.read_bytes())
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    report = check_dataset(dataset(str(path)))
    assert len(report.failures) == 7 and report.images == 16
    reasons = report.failures
    assert "column 'image' is empty" in reasons["a.parquet, row 2, image"]
    assert "a.parquet, row 5, mask" in reasons["a.parquet, row 5, image"]
    assert "only names 'there.png'" in reasons["a.parquet, row 6, image"]
    assert all("row group is damaged" in reasons[f"a.parquet, row {row}, image"] for row in range(12, 16))
    packed = dataset(str(path))
    failed = packed[2]
    assert failed["inputs"] is None and "row 2, image" in failed["data_samples"].metainfo["error"]
    path.write_bytes(data[:-9])
    with pytest.raises(DatasetNotFound, match="no parquet file"):
        dataset(str(path))


def test_halves_of_samples_in_tars(folder):  # noqa: F811
    (name, photo, labels), *_ = rows(folder)
    path = folder / "a.tar"
    with tarfile.open(path, "w") as tar:
        for member, data in (
            ("./a.png", photo),
            ("./a.mask.png", labels),
            ("b.jpg", photo),
            ("b.png", labels),
            ("c.png", photo),
            ("d.mask.png", labels),
            ("e.json", b"{}"),
        ):
            add(tar, member, data)
    packed = dataset(str(path))
    assert [packed.get_data_info(i)["name"] for i in range(len(packed))] == ["a", "b", "c"]
    report = check_dataset(packed)
    assert kinds(report) == ["mask-without-photo", "mask-missing"]
    assert "a.tar/d.mask.png" in report.problems[0] and "a.tar/c.png" in report.problems[1]
    assert any("1 samples have neither" in note for note in packed.notes)
    assert dataset(str(path), mask=".mask.png").get_data_info(1)["seg_map_path"] is None
    with tarfile.open(path, "w") as tar:
        for member, data in (("images/a.png", photo), ("masks/a.png", labels)):
            add(tar, member, data)
    with pytest.raises(DatasetNotFound, match="first dot"):
        dataset(str(path))


def test_names_that_occur_twice(folder):  # noqa: F811
    (_, photo, labels), *_ = rows(folder)
    for number in range(2):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            add(tar, "a.jpg", photo)
            add(tar, "a.seg.png", labels)
    pairs, notes = list_pairs(str(folder / "{0..1}.tar"))
    assert [pair.name for pair in pairs] == ["0/a", "1/a"] and "with their tar's name" in notes[0]
    path = folder / "a.parquet"
    for keys, fault in ((["x", "x"], "'x' names several"), (["x", "../x"], "no file's name below a folder")):
        parquet.write_table(pyarrow.table({"image": [photo] * 2, "mask": [labels] * 2, "k": keys}), path)
        with pytest.raises(DatasetNotFound, match=fault):
            dataset(str(path), key="k")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (dict(image="left"), "column 'left' of .* holds no bytes; such are image, other"),
        (dict(), "which column of .* holds the label maps"),
        (dict(mask="other", key="k"), "no column 'k'"),
    ],
)
def test_unclear_columns(folder, options, fault):  # noqa: F811
    (_, photo, labels), *_ = rows(folder)
    table = pyarrow.table({"image": [photo], "other": [labels], "third": [labels], "left": [3]})
    parquet.write_table(table if not options else table.drop(["third"]), folder / "a.parquet")
    with pytest.raises(DatasetNotFound, match=fault):
        dataset(str(folder / "a.parquet"), **options)


def test_sources_that_hold_no_samples(folder):  # noqa: F811
    for source, fault in ((folder / "images", "--images"), (folder / "none.tar", "there is no")):
        with pytest.raises(DatasetNotFound, match=fault):
            dataset(str(source))
    (folder / "split.txt").write_text("elsewhere\n")
    with pytest.raises(DatasetNotFound, match="none of the names"):
        dataset(pack(folder, "tar"), split=folder / "split.txt")


def read_all(packed: PackedDataset, places: range) -> list[int]:
    return [int(packed[i]["data_samples"].gt_sem_seg.data.sum()) for i in places]


def test_processes_that_were_forked_read_their_own_places(folder):  # noqa: F811
    packed = dataset(pack(folder, "parquet"))
    expected = read_all(packed, range(16))  # this process has the tables open now
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(read_all, [(packed, range(16))] * 8)
    assert found == [expected] * 8


def test_memory_does_not_grow_with_the_source(tmp_path):
    photo = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo, "PNG")
    labels = io.BytesIO()
    Image.fromarray(np.zeros((400, 400), np.uint8)).save(labels, "PNG")
    path, count = tmp_path / "a.tar", 60
    with tarfile.open(path, "w") as tar:
        for i in range(count):
            add(tar, f"{i:03}.png", photo.getvalue())
            add(tar, f"{i:03}.seg.png", labels.getvalue())
    packed = dataset(str(path), ["wall", "door"])
    tracemalloc.start()
    try:
        dataset_fingerprint(packed, workers=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(photo.getvalue()) < path.stat().st_size / 4


def test_the_commands(folder, capsys):  # noqa: F811
    source, classes = pack(folder, "tar"), str(folder / "names.txt")
    (line,) = run(capsys, "data", "check", "--packed", source, "--classes", classes, command="data check")
    assert line["ok"] and line["fingerprint"] == check(folder, classes=classes).fingerprint
    out = folder / "out"
    (line,) = run(
        capsys, "data", "convert", "--packed", source, "--classes", classes, "--out", out, command="data convert"
    )
    assert line["samples"] == 16 and not line["failures"]
    np.testing.assert_array_equal(np.array(Image.open(out / "masks/p05.png")), label(folder, 5))
    for options, fault in (
        (["--images", folder / "images"], "--images is for folders"),
        (["--pairs", "pairs.txt"], "--pairs is for folders"),
        (["--annotations", "coco"], "for folders"),
        (["--annotations", "colours"], "--colours"),
    ):
        assert main(["data", "check", "--packed", source, "--classes", classes, *map(str, options)]) == 2
        assert fault in capsys.readouterr().err


def test_an_evaluation_gives_what_the_folder_gives(tmp_path, monkeypatch):
    photos = Path(__file__).parents[2] / "data/photos"
    names = sorted(path.stem for path in (photos / "images").iterdir())
    with tarfile.open(tmp_path / "part-000.tar", "w") as tar:
        for name in names:
            add(tar, f"{name}.jpg", (photos / f"images/{name}.jpg").read_bytes())
            add(tar, f"{name}.seg.png", (photos / f"masks/{name}.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    asked = ["--classes", "voc21", "--limit", "3"]
    packed = ["--packed", "part-{000..000}.tar"]
    plain = ["--images", str(photos / "images"), "--masks", str(photos / "masks")]
    for out, data in (("packed", packed), ("plain", plain)):
        assert (
            main(["eval", "nano/clip_photo_photos.py", *data, *asked, "--work-dir", out, "--show-dir", f"{out}/s"]) == 0
        )
    results = [json.loads(Path(out, "result.json").read_text()) for out in ("packed", "plain")]
    assert results[0]["data"]["fingerprint"] == results[1]["data"]["fingerprint"]
    assert results[0]["per_class"] == results[1]["per_class"] and results[0]["mIoU"] == results[1]["mIoU"] > 0
    shown = [{path.name: path.read_bytes() for path in Path(out, "s").iterdir()} for out in ("packed", "plain")]
    assert shown[0] == shown[1] and len(shown[0]) == 3
