import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.nano.conftest import FIXTURES

ROOT = Path(__file__).parents[2]
SCENES = ROOT / "data" / "scenes"


def _load():
    spec = importlib.util.spec_from_file_location("make_scenes", ROOT / "tools" / "make_scenes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_scenes = _load()


def test_same_bytes_each_time(tmp_path):
    for name in ("first", "second"):
        make_scenes.main(
            ["--out", str(tmp_path / name), "--sprites", str(FIXTURES), "--splits", "scenes", "--count", "5"]
        )
    first = (tmp_path / "first" / "manifest.sha256").read_text()
    assert first == (tmp_path / "second" / "manifest.sha256").read_text()
    assert len(first.splitlines()) == 11


def test_masks_show_every_sprite_and_every_size(sprites):
    words = make_scenes.class_names()
    seen = set()
    for (image, mask), size in zip(make_scenes.draw_split("scenes", sprites, 10), make_scenes.SIZES * 2, strict=True):
        assert image.shape == (*size, 3) and mask.shape == size
        seen |= {words[i] for i in np.unique(mask)}
        assert any(words[i] in make_scenes.BACKGROUNDS for i in np.unique(mask))
    assert {"dog", "apple", "grass"} <= seen


def test_no_sprite_hides_more_than_allowed(sprites):
    book = make_scenes.SpriteBook(sprites, make_scenes.sprite_files.concepts())
    scene = make_scenes.Scene(np.zeros((224, 224, 3), np.uint8), np.zeros((224, 224), np.uint8))
    placed = make_scenes.draw_scene(np.random.default_rng(0), scene, book, list(range(7)))
    counts = np.bincount(scene.mask.ravel(), minlength=len(placed) + 1)
    assert len(placed) >= 3 and (counts[1 : len(placed) + 1] > 100).all()


def test_unknown_sprites_are_refused():
    with pytest.raises(ValueError, match="none of the benchmark's words has a sprite"):
        next(make_scenes.draw_split("scenes", {"unknown.webp": np.zeros((128, 128, 4), np.uint8)}, 1))


def test_committed_benchmark_is_the_one_in_the_manifest():
    lines = (SCENES / "manifest.sha256").read_text().splitlines()
    assert len(lines) == 2 * (240 + 212) + 1
    for line in lines:
        digest, path = line.split("  ")
        assert hashlib.sha256((SCENES / path).read_bytes()).hexdigest() == digest, path
    assert (SCENES / "classes.txt").read_text().splitlines() == make_scenes.class_names()


@pytest.mark.parametrize("split", ["scenes", "scenes_noto"])
def test_every_class_occurs_in_five_images(split):
    counts = np.zeros(256, int)
    for path in sorted((SCENES / split / "masks").glob("*.png")):
        mask = np.asarray(Image.open(path))
        with Image.open(SCENES / split / "images" / f"{path.stem}.jpg") as image:
            assert image.size == mask.shape[::-1]
        counts[np.unique(mask)] += 1
    classes = len(make_scenes.class_names())
    assert counts[:classes].min() >= 5 and not counts[classes:].any()
