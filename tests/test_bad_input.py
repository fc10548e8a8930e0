"""What users feed by accident: each case is handled, or ends in one error that names it and says what to do."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg import Segmenter, Vocabulary
from ovseg.datasets.errors import ImageReadError
from ovseg.weights import CheckpointError

ROOT = Path(__file__).parent.parent
RGB = np.kron(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))


@pytest.fixture(scope="module")
def model():
    model = Segmenter("nano", "clearclip", short_side=112)
    model.set_vocabulary(["cat", "dog", "grass"])
    return model


def save(path, array, **kwargs):
    Image.fromarray(array).save(path, **kwargs)
    return path


READABLE = {
    "grey.png": lambda p: save(p, RGB[..., 0]),
    "cmyk.jpg": lambda p: Image.fromarray(RGB).convert("CMYK").save(p),
    "sixteen_bit.png": lambda p: save(p, (RGB[..., 0].astype(np.uint16) << 8)),
    "alpha.png": lambda p: save(p, np.dstack([RGB, RGB[..., :1]])),
    "palette.gif": lambda p: Image.fromarray(RGB).convert("P").save(p),
    "one_pixel.png": lambda p: save(p, RGB[:1, :1]),
    "one_row.png": lambda p: save(p, RGB[:1]),
    "thin_20000.png": lambda p: save(p, np.repeat(RGB[:4, :1], 20_000, axis=1)),
}


@pytest.mark.parametrize("name", READABLE)
def test_unusual_photos_are_segmented_at_their_own_size(name, model, tmp_path):
    READABLE[name](tmp_path / name)
    result = model.segment(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert result.labels.shape == (image.height, image.width)


def test_exif_rotated_photo_is_turned_upright(model, tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turn 90 degrees clockwise to view
    save(tmp_path / "rotated.jpg", RGB, exif=exif)
    assert model.segment(tmp_path / "rotated.jpg").labels.shape == RGB.shape[1::-1]


def oversized_png() -> bytes:
    """A PNG whose header claims 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


UNREADABLE = {
    "empty.jpg": b"",
    "text.jpg": b"this is not a photo",
    "page.png": b"<!DOCTYPE html><html><body>404</body></html>",
    "oversized.png": oversized_png(),
}


@pytest.mark.parametrize("name", [*UNREADABLE, "truncated.jpg", "missing.jpg", "folder"])
def test_unreadable_photos_are_one_error_that_names_the_file(name, model, tmp_path):
    path = tmp_path / name
    if name in UNREADABLE:
        path.write_bytes(UNREADABLE[name])
    elif name == "truncated.jpg":
        save(path, RGB)
        path.write_bytes(path.read_bytes()[:400])
    elif name == "folder":
        path.mkdir()
    with pytest.raises(ImageReadError, match=name):
        model.segment(path)


@pytest.mark.parametrize(
    "classes, message",
    [
        ([], "empty|no class"),
        (["cat", ""], "empty"),
        (["cat", "  "], "empty"),
        (["cat", "dog", "cat"], "cat.*twice|duplicate|more than once|both"),
        (["sofa; couch", "couch"], "couch"),
    ],
)
def test_empty_and_duplicate_names(classes, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_list(classes)


def test_every_entry_takes_words_by_one_rule():
    """Segmenter and segmentor alike; a text is never taken letter by letter."""
    model = Segmenter("nano", "clearclip", short_side=112)
    for take in (model.set_vocabulary, model.model.set_vocabulary):
        take("voc20")
        assert len(model.vocabulary) == 20 and model.vocabulary.names[11] == "dog"
        take({"cat": "kitten", "sofa": ["couch", "settee"]})
        assert model.vocabulary.classes == (("cat", "kitten"), ("sofa", "couch", "settee"))
        take((("cat", "kitten"), "grass"))
        assert model.vocabulary.classes == (("cat", "kitten"), ("grass",))
        for wrong in ("cat", "cat, grass", "cat . grass .", 5, None, b"cat", [], ["cat", 5], {"cat", "grass"}):
            with pytest.raises(ValueError):
                take(wrong)
        assert model.vocabulary.classes == (("cat", "kitten"), ("grass",)), "refused words change nothing"
    model.set_vocabulary(["background := sky; wall", "cat"], background="background")
    assert set(model.segment(RGB).areas()) <= {"background", "cat"}
    assert model.vocabulary.background == 0


def test_checkpoints_that_do_not_fit(tmp_path):
    weights = ROOT / "ovseg" / "assets" / "nano" / "clip.safetensors"
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="truncated.safetensors"):
        Segmenter("nano", "clip", checkpoint=truncated)
    with pytest.raises(CheckpointError, match="clip.safetensors"):
        Segmenter("openai/ViT-B-16", "clip", checkpoint=weights)


def demo(*args, cwd):
    command = [sys.executable, str(ROOT / "demo" / "image_demo.py"), *map(str, args)]
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def test_demo_on_a_folder_skips_what_it_cannot_read_and_goes_on(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    save(photos / "a.png", RGB)
    (photos / "b.jpg").write_bytes(b"not a photo")
    save(photos / "c.png", RGB)
    done = demo(photos, "--classes", "cat, grass; lawn", "--out", tmp_path / "out", "--labels", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "b.jpg" in done.stderr and "1 of 3 images skipped" in done.stderr and "Traceback" not in done.stderr
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["a.png", "a_labels.png", "c.png", "c_labels.png"]


def test_demo_never_writes_two_photos_into_one_file(tmp_path):
    photos = tmp_path / "photos"
    (photos / "day").mkdir(parents=True)
    for name in ("a.png", "a.bmp", "a_labels.png", "day/a.png"):
        save(photos / name, RGB)
    (photos / "words.txt").write_bytes("cat\ngrass".encode("utf-8-sig"))
    done = demo(photos / "**/*.*p*g", "--classes", photos / "words.txt", "--out", "out", "--labels", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\ufeff" not in done.stdout
    written = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png")}
    assert len(written) == 6 and {"a.png", "a_labels.png", "day/a.png", "day/a_labels.png"} <= written
    done = demo(photos / "a.b*", "--classes", "cat, grass", "--out", "single/", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "single" / "a.png").is_file(), done.stderr


def test_demo_errors_are_one_line_each(tmp_path):
    save(tmp_path / "a.png", RGB)
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder is wanted")
    done = demo(tmp_path / "a.png", "--classes", "cat, cat", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "cat" in done.stderr
    for words, message in (
        ("cat . dog .", "write 'cat, dog'"),
        ("words.yaml", "neither a file"),
        (blocked, "empty name"),
    ):
        blocked.write_text("cat\n\ngrass\n")
        done = demo(tmp_path / "a.png", "--classes", words, cwd=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr and message in done.stderr
    done = demo(tmp_path / "a.png", "--classes", "cat", "--out", blocked / "x.png", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr and str(blocked) in done.stderr
