"""``ovseg segment``: what it finds, what it says it leaves out, and text that is text."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.cli import main
from ovseg.cli.segment import find_images, image_suffixes
from ovseg.datasets import read_mask
from ovseg.errors import SetupError

ROOT = Path(__file__).parents[2]
RGB = np.kron(np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photo(path, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RGB).save(path, kind)
    return path


def segment(*args):
    return main(["segment", "--short-side", "32", "--method", "clip", *map(str, args)])


def test_what_a_folder_gives(here):
    folder = here / "photos"
    for name in ("a.JPG", "b.avif", "c.ppm", "d.jp2", "e.png"):
        photo(folder / name)
    (folder / "f.heic").write_bytes(b"\0\0\0\x18ftypheic")
    photo(folder / ".hidden.png")
    photo(folder / "._a.jpg")
    photo(folder / "inner" / "g.png")
    (folder / "notes.txt").write_text("x")
    (folder / "film.mov").write_bytes(b"x")
    (folder / "README").write_text("x")
    found, left_out = find_images([str(folder)])
    assert [p.name for p in found] == ["a.JPG", "b.avif", "c.ppm", "d.jp2", "e.png", "f.heic"]
    assert left_out == "left out, no photos by their names: 1 x .mov, 1 x .txt, 1 x folder, 1 x without suffix"
    assert find_images([str(folder / "*.p*")]) == ([folder / "c.ppm", folder / "e.png"], "")
    assert find_images([str(folder / ".hidden.png")])[0] == [folder / ".hidden.png"], "asked for by name"


def test_all_kinds_the_reader_opens_are_photos():
    wanted = {
        ".jpg",
        ".jpeg",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".jp2",
        ".avif",
        ".heic",
    }
    assert wanted <= image_suffixes() and not {".txt", ".eps", ".pdf", ".mov"} & image_suffixes()


def test_several_paths_each_once(here):
    paths = [photo(here / name) for name in ("b.png", "a.png", "[v2] c.png")]
    found, _ = find_images([*map(str, paths), "a.png", str(here), "*.png"])
    assert {p.name for p in found} == {"a.png", "b.png", "[v2] c.png"}
    with pytest.raises(SetupError, match="no image found at 'nowhere.png'"):
        find_images(["a.png", "nowhere.png"])
    with pytest.raises(SetupError, match="empty"):
        (here / "empty").mkdir()
        find_images(["empty"])


def test_a_glob_that_the_shell_has_opened(here, capsys):
    for name in ("a.png", "b.png", "c.png"):
        photo(here / name)
    assert segment("a.png", "b.png", "c.png", "--classes", "cat, grass", "--out", "results", "--labels") == 0
    assert len(list((here / "results").iterdir())) == 6
    assert read_mask(here / "results" / "a_labels.png").shape == RGB.shape[:2]
    assert "clip on nano-photo's photographs" in capsys.readouterr().err


def test_text_of_the_user_is_text(here, capsys):
    photo(here / "[v2] photo [/red].png".replace("/", "_"))
    photo(here / "[v2].png")
    classes = "lane [/white], :cat:, a [red]x, b \\[c"
    assert segment(here, "--classes", classes, "--out", "[out]") == 0
    out = capsys.readouterr().out
    assert "[v2].png" in out and "[out]" in out
    assert any(name in out for name in ("lane [/white]", ":cat:", "a [red]x", "b \\[c"))
    assert segment("[/x].png", "--classes", "cat") == 2
    assert "'[/x].png'" in capsys.readouterr().err
    assert segment("[v2].png", "--classes", "cat", "--background", "[/b]") == 2
    assert "[/b]" in capsys.readouterr().err
    assert segment("[v2].png", "--classes", "cat", "--method", "[/b]") == 2
    assert "unknown method '[/b]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--device", "gpu"], "there are: cpu"),
        (["--device", "cuda:7"], "no device 'cuda:7'"),
        (["--method", "naclp"], "did you mean 'naclip'"),
        (["--short-side", "0"], "short_side is 0"),
        (["--short-side", "-3"], "short_side is -3"),
        (["--alpha", "1.5"], "--alpha 1.5"),
        (["--model", "openai/ViTB16"], "openai/ViTB16"),
        (["--config", "nowhere.py"], "nowhere.py does not exist"),
        (["--checkpoint", "nowhere.pt"], "nowhere.pt"),
        (["--background", "sky"], "sky"),
    ],
)
def test_one_line_and_exit_status_2(here, capsys, options, message):
    photo(here / "a.png")
    assert segment("a.png", "--classes", "cat", *options) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and len(error.strip().splitlines()) == 1


def test_short_side_that_is_no_number(here, capsys):
    with pytest.raises(SystemExit) as caught:
        segment("a.png", "--classes", "cat", "--short-side", "abc")
    assert caught.value.code == 2


def test_an_output_file_for_several_photos(here, capsys):
    for name in ("a.png", "b.png"):
        photo(here / name)
    for out in ("all.png", "a.png"):
        assert segment("a.png", "b.png", "--classes", "cat", "--out", out) == 2
        assert "a folder is needed" in capsys.readouterr().err


def test_heic_says_what_to_install(here, capsys):
    pytest.importorskip("PIL")
    (here / "x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    assert segment("x.heic", "--classes", "cat") == 1
    error = capsys.readouterr().err
    assert "x.heic" in error and "1 of 1 images skipped" in error and "Traceback" not in error


@pytest.mark.parametrize("name, told", [("scene.tif", ", or have it read in tiles: --tile 640"), ("large.png", "")])
def test_a_picture_too_large_says_how_it_can_be_read(here, capsys, name, told):
    Image.new("1", (20000, 20000)).save(here / name, **({"compression": "tiff_deflate"} if told else {}))
    assert segment(name, "--classes", "cat, dog", "--model", "nano", "--json") == 1
    failed = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if line["kind"] == "failed"]
    assert failed[0]["error"].endswith(f"the limit is 268,435,456. Make it smaller{told}")


def test_the_door_in_demo(here):
    photo(here / "a.png")
    command = [sys.executable, str(ROOT / "demo/image_demo.py"), "a.png", "--classes", "cat", "--device", "gpu"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"})
    assert done.returncode == 2 and done.stderr.startswith("error: there is no device 'gpu'")
