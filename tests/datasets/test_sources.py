"""Sources: every kind gives the same photos in the same order, and says what it cannot use."""

import io
import os
import tarfile
import zipfile

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from ovseg.bulk import list_source
from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.places import Place, StoreError, read_bytes
from ovseg.datasets.sources import braces
from ovseg.errors import SetupError
from tests.bulk.jobs import content, make_job, write_photos


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", 6)


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def names(source: object, **options: str) -> list[str]:
    return [photo.name for photo in list_source(str(source), **options).photos]


def data_of(source: object, **options: str) -> list[bytes]:
    return [read_bytes(photo.place) for photo in list_source(str(source), **options).photos]


def test_a_folder_and_a_glob(photos):
    (photos / "b").mkdir()
    (photos / "0001.png").rename(photos / "b/x.png")
    (photos / ".hidden.png").write_bytes(b"")
    (photos / "notes").write_text("")
    listing = list_source(str(photos))
    assert [p.name for p in listing.photos] == ["0000.png", "0002.png", "0003.png", "0004.png", "0005.png", "b/x.png"]
    assert listing.notes == ("left out, no photos by their names: 1 x without suffix",)
    assert names(f"{photos}/**/*.png") == names(photos) and names(photos / "000[02].png") == ["0000.png", "0002.png"]
    assert data_of(photos)[5] == (photos / "b/x.png").read_bytes()


def test_a_link_that_leads_nowhere_is_a_failed_photo(photos, tmp_path):
    (photos / "0000.png").unlink()
    (photos / "0000.png").symlink_to("gone.png")
    with pytest.raises(ImageReadError, match="No such file"):
        data_of(photos)
    assert make_job(photos, tmp_path / "out").run().failed == 1


def test_a_list(photos, tmp_path):
    lines = ["# of today", "photos/0002.png", "", str(photos / "0000.png"), "photos/0002.png", "photos/gone.png"]
    (tmp_path / "today.txt").write_text("\n".join(lines))
    listing = list_source(str(tmp_path / "today.txt"))
    assert [p.name for p in listing.photos] == [lines[1], lines[3], lines[5]]
    assert listing.notes == ("named twice and taken once: 1 (photos/0002.png, ...)",)
    assert read_bytes(listing.photos[0].place) == (photos / "0002.png").read_bytes()
    assert make_job(tmp_path / "today.txt", tmp_path / "out").run().failed == 1


def test_tar_shards_in_webdatasets_layout(photos, tmp_path):
    files = sorted(photos.iterdir())
    for number in range(2):
        with tarfile.open(tmp_path / f"{number:03d}.tar", "w") as tar:
            for file in files[3 * number : 3 * number + 3]:
                add(tar, f"a/{file.stem}.cls", b"3")
                add(tar, f"a/{file.stem}.png", file.read_bytes())
                add(tar, f"a/{file.stem}.seg.png", b"a label map")
    pattern = str(tmp_path / "{000..001}.tar")
    assert names(pattern) == [f"{n // 3:03d}.tar/a/{n:04d}.png" for n in range(6)]
    assert data_of(pattern) == data_of(photos) == data_of(tmp_path / "*.tar")
    assert data_of(pattern, image="seg.png") == [b"a label map"] * 6
    with pytest.raises(SetupError, match="no photos"):
        list_source(pattern, image="exr")


def test_of_a_samples_pictures_the_jpeg_is_the_photo(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("1.png", "1.jpg", "2.webp", "2.png", "3.png"):
            add(tar, name, name.encode())
    assert names(tmp_path / "a.tar") == ["a.tar/1.jpg", "a.tar/2.webp", "a.tar/3.png"]


@pytest.mark.parametrize("cut", [1, 700, 1024, 1500, 2000])
def test_a_cut_tar_is_named(photos, tmp_path, cut):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "1.png", (photos / "0000.png").read_bytes())
        add(tar, "2.png", bytes(3000))
    data = (tmp_path / "a.tar").read_bytes().rstrip(b"\0") if cut == 1 else (tmp_path / "a.tar").read_bytes()[:cut]
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(SetupError, match=r"tar file .*a\.tar is damaged"):
        list_source(str(tmp_path / "a.tar"))


def test_a_tar_that_shrinks_stops_the_run(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(100))
    with pytest.raises(StoreError, match="shorter than it was"):
        read_bytes(Place(str(tmp_path / "a.tar"), start=50, length=60))


def test_packed_tars_and_mixed_folders_are_refused(photos, tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(SetupError, match="compressed"):
        list_source(str(tmp_path / "a.tar.gz"))
    with tarfile.open(photos / "a.tar", "w") as tar:
        add(tar, "1.png", b"x")
    with pytest.raises(SetupError, match="6 photos and 1 tar"):
        list_source(str(photos))
    assert names(photos / "*.tar") == ["a.tar/1.png"]


@pytest.mark.parametrize("layout", ["bytes", "struct"])
def test_parquet(photos, tmp_path, layout):
    files = sorted(photos.iterdir())
    values = [file.read_bytes() for file in files]
    column = values if layout == "bytes" else [{"bytes": v, "path": f.name} for v, f in zip(values, files, strict=True)]
    table = pyarrow.table({"id": [file.stem for file in files], "thumb": [b"t"] * 6, "image": column})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    source = tmp_path / "a.parquet"
    assert names(source) == [f"a.parquet/{n}" for n in range(6)]
    assert names(source, key="id") == [f"{n:04d}" for n in range(6)]
    assert data_of(source) == values and data_of(source, image="thumb") == [b"t"] * 6
    for options, said in (({"image": "id"}, "holds no bytes; such are thumb, image"), ({"key": "x"}, "no column 'x'")):
        with pytest.raises(SetupError, match=said):
            list_source(str(source), **options)
    read_bytes(list_source(str(source)).photos[5].place)
    with pytest.raises(StoreError, match="fewer rows"):
        read_bytes(Place(str(source), row=6, column="image"))


def test_parquet_that_is_not_clear_or_not_whole(photos, tmp_path):
    data = (photos / "0000.png").read_bytes()
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"a": [data], "b": [data]}), path)
    with pytest.raises(SetupError, match="Name it with --image: a, b"):
        list_source(str(path))
    parquet.write_table(pyarrow.table({"image": [data, None, data], "k": ["x", "y", "x"]}), tmp_path / "b.parquet")
    with pytest.raises(ImageReadError, match="empty"):
        data_of(tmp_path / "b.parquet")
    with pytest.raises(SetupError, match="'x' names several photos"):
        list_source(str(tmp_path / "b.parquet"), key="k")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(SetupError, match="no parquet file"):
        list_source(str(path))


def test_a_damaged_row_group_fails_its_photos_only(photos, tmp_path):
    values = [file.read_bytes() for file in sorted(photos.iterdir())]
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"image": values}), path, row_group_size=2, compression="zstd")
    start = parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    outcome = make_job(path, tmp_path / "out").run()
    assert (outcome.photos, outcome.failed) == (6, 2)


def test_stores_behind_fsspec(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "day.zip", "w") as archive:
        for file in photos.iterdir():
            archive.write(file, f"in/{file.name}")
    memory = fsspec.filesystem("memory")
    for file in photos.iterdir():
        memory.pipe(f"/bucket/in/{file.name}", file.read_bytes())
    for source in (f"zip://in::file://{tmp_path}/day.zip", f"zip://in/*.png::file://{tmp_path}/day.zip"):
        assert names(source) == names(photos) and data_of(source) == data_of(photos)
    for source in ("memory://bucket/in", "memory://bucket/in/*.png", f"file://{photos}"):
        assert names(source) == names(photos) and data_of(source) == data_of(photos)
    lines = ["memory://bucket/in/0003.png", "memory://bucket/in/gone.png"]
    memory.pipe("/bucket/list.txt", "\n".join([*lines, "in/0001.png"]).encode())
    assert names("memory://bucket/list.txt") == [*lines, "in/0001.png"]
    assert make_job("memory://bucket/list.txt", tmp_path / "out").run().failed == 1
    with pytest.raises(SetupError, match="nothing at memory"):
        list_source("memory://bucket/none")
    with pytest.raises(SetupError, match="cannot open nope://"):
        list_source("nope://x/y")


def test_tar_and_parquet_behind_fsspec(photos, tmp_path):
    memory, files = fsspec.filesystem("memory"), sorted(photos.iterdir())
    with memory.open("/packed/a.tar", "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for path in files:
            add(tar, path.name, path.read_bytes())
    with memory.open("/packed/b.parquet", "wb") as file:
        parquet.write_table(pyarrow.table({"image": [path.read_bytes() for path in files]}), file)
    assert data_of("memory://packed/a.tar") == data_of("memory://packed/b.parquet") == data_of(photos)


def test_all_kinds_give_the_same_labels(photos, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for file in sorted(photos.iterdir()):
            add(tar, file.name, file.read_bytes())
    for name, source in (("folder", photos), ("tar", tmp_path / "a.tar")):
        make_job(source, tmp_path / name, formats=("png",)).run()
    found = [list((tmp_path / name).rglob("greys/labels/*.png")) for name in ("folder", "tar")]
    assert [p.read_bytes() for p in sorted(found[0])] == [p.read_bytes() for p in sorted(found[1])]
    assert len(content(tmp_path / "tar")) == len(content(tmp_path / "folder"))


def test_a_store_that_does_not_answer_is_asked_again_and_then_stops_the_run(photos, tmp_path, monkeypatch):
    calls = []

    class Flaky:
        def __init__(self, failures: int) -> None:
            self.failures = failures

        def cat_file(self, path, start=None, end=None):
            calls.append(path)
            if len(calls) <= self.failures:
                raise OSError("connection reset")
            return b"here"

    monkeypatch.setattr("ovseg.datasets.places._PAUSE", 0.001)
    monkeypatch.setattr("ovseg.datasets.places.file_system", lambda root: Flaky(2))
    assert read_bytes(Place("a", "s3://b")) == b"here" and len(calls) == 3
    calls.clear()
    monkeypatch.setattr("ovseg.datasets.places.file_system", lambda root: Flaky(9))
    with pytest.raises(StoreError, match="connection reset"):
        read_bytes(Place("a", "s3://b"))
    assert len(calls) == 3


def test_names_that_no_file_may_have_are_safe(tmp_path):
    """Names lead nowhere outside the folder, and need be neither UTF-8 nor short."""
    data = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(data, "PNG")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("../../up.png", "/abs.png", "b" * 300 + ".png", "new\nline.png", "é ü.png"):
            add(tar, name, data.getvalue())
    make_job(tmp_path / "a.tar", tmp_path / "out/x/y", formats=("png", "rle")).run()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "out"]
    assert len(list((tmp_path / "out/x/y").rglob("greys/labels/*.png"))) == 5
    folder = tmp_path / "bytes"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/\xff.png", "wb") as file:
        file.write(data.getvalue())
    assert names(folder) == ["\\udcff.png"]
    assert make_job(folder, tmp_path / "z", formats=("png", "rle", "coco")).run().failed == 0


def test_braces():
    assert braces("{a,b}/{8..10}.tar") == [f"{x}/{n}.tar" for x in "ab" for n in (8, 9, 10)]
    assert braces("{08..10}") == ["08", "09", "10"] and braces("no{thing}") == ["no{thing}"]


@pytest.mark.parametrize("source", ["nowhere", "nowhere.tar", "nowhere/*.jpg", "{a,b}.tar"])
def test_nothing_there(tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match="there is no|no photos"):
        list_source(source)
