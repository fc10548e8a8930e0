"""Films: frames in, a film of overlays out, nothing lost, and one clear line for a broken one."""

import csv
import json

import cv2
import numpy as np
import pytest

from ovseg.cli import main
from ovseg.cli._film import FilmReader, FilmWriter
from ovseg.visualization import palette_for
from tests.cli.json_lines import run

COUNT, HEIGHT, WIDTH = 7, 48, 66


def frames():
    """Grey steps with a square that moves."""
    for i in range(COUNT):
        frame = np.full((HEIGHT, WIDTH, 3), 40 + 20 * i, np.uint8)
        frame[10:30, 5 * i : 5 * i + 20] = (30, 180, 60)
        yield frame


@pytest.fixture(params=["film.avi", "film.mp4"])
def film(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = cv2.VideoWriter.fourcc(*("MJPG" if request.param.endswith("avi") else "mp4v"))
    out = cv2.VideoWriter(str(tmp_path / request.param), code, 10.0, (WIDTH, HEIGHT))
    assert out.isOpened()
    for frame in frames():
        out.write(frame)
    out.release()
    return tmp_path / request.param


def segment(*arguments):
    return ["segment", *map(str, arguments), "--classes", "grass, sky, cat", "--method", "clip", "--short-side", "48"]


def read(path):
    reader = FilmReader(path)
    found = list(reader)
    reader.check()
    return reader, found


def test_reader_gives_every_frame(film):
    reader, found = read(film)
    assert (len(found), reader.frames, reader.fps) == (COUNT, COUNT, 10.0)
    assert [round(float(frame[40, 50].mean()), -1) for frame in found] == [40 + 20 * i for i in range(COUNT)]


def test_a_film_becomes_a_film_and_files_per_frame(film, capsys):
    one, last = run(capsys, *segment(film, "--out", "seen" + film.suffix, "--format", "overlay,labels,coco,csv"))
    assert (one["kind"], one["frames"], one["fps"], one["height"], one["width"]) == ("film", COUNT, 10.0, HEIGHT, WIDTH)
    assert sum(row["share"] for row in one["classes"]) == pytest.approx(1)
    reader, shown = read(film.parent / f"seen{film.suffix}")
    assert reader.fps == 10.0 and len(shown) == COUNT and shown[0].shape[1] > WIDTH
    labels = sorted((film.parent / "seen").iterdir())
    assert [p.name for p in labels] == [f"{i:06d}_labels.png" for i in range(COUNT)]
    coco = json.loads((film.parent / last["files"]["coco"]).read_text())
    assert [image["file_name"] for image in coco["images"]] == [f"{film.name}/{i:06d}.png" for i in range(COUNT)]
    with open(last["files"]["csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["frame"] for row in rows} == {str(i) for i in range(COUNT)}
    assert {row["seconds"] for row in rows if row["frame"] == "3"} == {"0.300"}
    for i in range(COUNT):
        assert sum(int(row["pixels"]) for row in rows if row["frame"] == str(i)) == HEIGHT * WIDTH


def test_labels_of_a_frame_are_those_of_the_photo(film, capsys):
    assert main(segment(film, "--out", "seen.mp4", "--format", "labels")) == 0
    assert not (film.parent / "seen.mp4").exists()
    _, found = read(film)
    cv2.imwrite("frame.png", found[4])
    assert main(segment("frame.png", "--format", "labels", "--out", "alone.png")) == 0
    assert (cv2.imread("alone.png", -1) == cv2.imread("seen/000004_labels.png", -1)).all()


def test_colours_and_size_stay(tmp_path):
    names, palette = ("a", "b", "c"), palette_for(("a", "b", "c"))
    out = FilmWriter(tmp_path / "f.avi", 5.0, names, alpha=1.0)
    for present in (0, 1, 2):
        out.write(np.zeros((64, 96, 3), np.uint8), np.full((64, 96), present))
    out.close()
    _, shown = read(tmp_path / "f.avi")
    for present, frame in enumerate(shown):
        assert frame.shape == shown[0].shape and frame.shape[0] % 2 == frame.shape[1] % 2 == 0
        assert np.abs(frame[32, 48, ::-1].astype(int) - palette[present]).max() < 12
        assert np.abs(frame[:, 96:].astype(int) - shown[0][:, 96:]).max() < 12, "the legend is the same in all frames"


def test_memory_does_not_grow_with_the_film(tmp_path, monkeypatch):
    """While a frame is segmented at most 3 batches of 4 have been read and not been given out."""
    from ovseg.cli import segment as command

    read_frames, given = [], []
    most = []

    class Reader:
        path, fps, frames = tmp_path / "f.avi", 10.0, 40

        def __init__(self, path):
            pass

        def __iter__(self):
            for i in range(40):
                read_frames.append(i)
                most.append(len(read_frames) - len(given))
                yield np.full((HEIGHT, WIDTH, 3), i, np.uint8)

        def check(self):
            pass

    class Keep:
        def write(self, source, result):
            given.append(source.frame)

        def close(self):
            pass

    import ovseg

    monkeypatch.setattr("ovseg.cli._film.FilmReader", Reader)
    model = ovseg.load("clip", short_side=48)
    model.set_vocabulary(["grass", "sky"])
    command.segment_film(model, tmp_path / "f.avi", "f.avi", tmp_path / "f.mp4", {"keep": Keep()}, 0.5)
    assert given == list(range(40)) and max(most) <= 13


@pytest.mark.parametrize("content", [b"", b"no film at all" * 50])
def test_what_is_no_film(tmp_path, monkeypatch, capsys, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.mp4").write_bytes(content)
    assert main(segment("x.mp4", "--out", "y.mp4")) == 1
    error = capsys.readouterr().err
    assert "x.mp4: OpenCV finds no film" in error and "Traceback" not in error
    assert main(segment("nowhere.mp4")) == 2
    assert "no image found at 'nowhere.mp4'" in capsys.readouterr().err


def test_a_film_that_breaks_off(tmp_path, monkeypatch, capsys):
    """An AVI whose index promises more frames than there are: what can be read is written, and it is said."""
    monkeypatch.chdir(tmp_path)
    out = cv2.VideoWriter("whole.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (WIDTH, HEIGHT))
    for _ in range(4):
        for frame in frames():
            out.write(frame)
    out.release()
    data = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "broken.avi").write_bytes(data[: len(data) // 2])
    film, failed, last = run(capsys, *segment("broken.avi", "--out", "seen.avi", "--format", "overlay,csv"), status=1)
    assert 0 < film["frames"] < 4 * COUNT and "can be read: the file is damaged" in failed["error"]
    assert f"only {film['frames']} of 28" in failed["error"] and last["failed"] == 1
    assert len(read(tmp_path / "seen.avi")[1]) == film["frames"]
    rows = (tmp_path / "seen_areas.csv").read_text().splitlines()
    assert {row.split(",")[1] for row in rows[1:]} == {str(i) for i in range(film["frames"])}


def test_a_film_beside_photos(film, capsys):
    cv2.imwrite("a.png", next(frames()))
    assert main(segment("a.png", film, "--out", "results")) == 0
    assert {p.name for p in (film.parent / "results").iterdir()} == {"a.png", "film.mp4"}
    assert "film" in capsys.readouterr().out
