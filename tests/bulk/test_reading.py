"""Results read back, and the page."""

import numpy as np
import pytest
from PIL import Image

from ovseg.bulk import Words, read, write_page
from ovseg.bulk.manifest import FolderError
from ovseg.datasets.io import read_image
from ovseg.errors import SetupError
from ovseg.text import Vocabulary
from tests.bulk.jobs import WORDS, make_job, write_photos

FORMATS = ("rle", "png", "coco", "panoptic")


@pytest.fixture
def photos(tmp_path):
    folder = write_photos(tmp_path / "photos", 10)
    (folder / "0002.png").write_bytes(b"no photo")
    return folder


@pytest.mark.parametrize("instances", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_labels_back(photos, tmp_path, kind, instances):
    make_job(photos, tmp_path / "out", formats=(kind,), instances=instances).run()
    found = list(read(tmp_path / "out", "greys", source=str(photos), verify=True))
    assert [(f.number, f.name, f.words) for f in found] == [(n, f"{n:04d}.png", "greys") for n in range(10)]
    for one in found:
        if one.number == 2:
            assert one.result is None and "not a picture" in one.error
            continue
        pixels = read_image(photos / one.name)
        assert one.error is None and np.array_equal(one.result.labels, pixels.mean(2) // 86)
        assert np.array_equal(one.result.image, pixels) and one.result.names == ("dark", "middle", "light")


def test_classes_that_are_shown_under_one_name_stay_apart(photos, tmp_path):
    vocabulary = Vocabulary((("dark",), ("middle",), ("light",)), shown=("grey", "grey", "grey"))
    words = (Words("same", vocabulary),)
    job = make_job(photos, tmp_path / "out", words=words, formats=FORMATS)
    job.segmenter.model.decide = lambda photo, wording, top: type(job.segmenter.model).decide(
        job.segmenter.model, photo, DARK, top
    )
    job.run()
    for kind in FORMATS:
        for one in read(tmp_path / "out", format=kind):
            if one.result is not None:
                expected = read_image(photos / one.name).mean(2) // 86
                assert np.array_equal(one.result.labels, expected), kind


DARK = type("Wording", (), {"vocabulary": WORDS[0].vocabulary})


def test_what_is_not_there_is_refused(photos, tmp_path):
    with pytest.raises(FolderError, match="no bulk job"):
        read(tmp_path)
    out = tmp_path / "out"
    make_job(photos, out).run()
    with pytest.raises(FolderError, match="which vocabulary.*greys, halves"):
        read(out)
    with pytest.raises(FolderError, match="'x' is no vocabulary"):
        read(out, "x")
    with pytest.raises(FolderError, match="'png' is no format"):
        read(out, "greys", format="png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SetupError, match="no photos"):
        read(out, "greys", source=str(tmp_path / "empty"))
    (out / "bulk.json").write_text('{"format": 99}')
    with pytest.raises(FolderError, match="another format"):
        read(out, "greys")


def test_a_damaged_shard_is_named(photos, tmp_path):
    out = tmp_path / "out"
    make_job(photos, out).run()
    path = out / "shards/00000001/greys/rle.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    found = read(out, "greys")
    assert [next(found).number for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(FolderError, match="00000001.*changed or damaged"):
        next(found)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(FolderError, match="changed or damaged"):
        list(read(out, "greys", verify=True))


def test_the_page(photos, tmp_path):
    job = make_job(photos, tmp_path / "out")
    job.run()
    page = (tmp_path / "out/index.html").read_text()
    pixels = np.concatenate([(read_image(p).mean(2) // 86).ravel() for p in photos.iterdir() if p.name != "0002.png"])
    for index, name in enumerate(("dark", "middle", "light")):
        assert f"<td>{name}</td><td>{(pixels == index).mean():.2%}</td>" in page
    assert "10 of 10" in page and "0002.png" in page and "not a picture" in page
    assert page.count("<img ") == 12 and "0000.png · greys" in page and "<script" not in page
    Image.new("RGB", (5, 5)).save(photos / "0000.png")
    write_page(tmp_path / "out", lambda number, name: read_image(photos / name))
    assert "its size has changed" in (tmp_path / "out/index.html").read_text()


class Stop(Exception):
    """Ends a run in a test."""


def test_an_unfinished_job_has_a_page_and_results(photos, tmp_path):
    def done(shard, counts):
        raise Stop

    with pytest.raises(Stop):
        make_job(photos, tmp_path / "out").run(done=done)
    assert len(list(read(tmp_path / "out", "greys"))) == 4
    assert "1 of 3" in write_page(tmp_path / "out").read_text()
