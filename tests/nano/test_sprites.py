import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ovseg.nano import sprites as sprite_files
from tests.nano.conftest import FIXTURES


def test_concepts_name_every_sprite_once():
    concepts = sprite_files.concepts()
    words = [c.word for c in concepts]
    files = [name for c in concepts for name in c.sprites]
    assert len(set(words)) == len(words)
    assert len(set(files)) == len(files) > 800
    assert sum(c.benchmark for c in concepts) >= 150


def test_packed_sprites_fill_the_square_and_are_premultiplied(sprites):
    assert len(sprites) == 12
    for name, sprite in sprites.items():
        assert sprite.shape == (128, 128, 4) and sprite.dtype == np.uint8, name
        assert (sprite[..., :3] <= sprite[..., 3:]).all(), f"{name}: a colour exceeds alpha"
        rows, columns = (sprite[..., 3] > 8).any(axis=1), (sprite[..., 3] > 8).any(axis=0)
        assert max(rows.sum(), columns.sum()) >= 126, name


def test_pack_survives_the_disk(sprites, tmp_path):
    path = tmp_path / "deep" / "pack.npz"
    sprite_files.save(sprites, path)
    loaded = sprite_files.load(path)
    assert loaded.keys() == sprites.keys()
    assert all((loaded[name] == sprites[name]).all() for name in sprites)


def test_missing_pack_says_how_to_get_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m ovseg.nano.sprites fetch"):
        sprite_files.load(tmp_path / "none.npz")


def _npm_that_packs(files: dict[str, bytes]):
    def run(command, check):
        assert command[:2] == ["npm", "pack"]
        with tarfile.open(Path(command[-1]) / "package.tgz", "w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))

    return run


def test_fetch_takes_only_the_sprites_it_wants(monkeypatch, tmp_path):
    content = (FIXTURES / "1f436.webp").read_bytes()
    concept = sprite_files.Concept("dog", True, ("1f436.webp",))
    monkeypatch.setattr(sprite_files, "concepts", lambda: (concept,))
    files = {"package/assets/1f436.webp": content, "../../evil.webp": content, "package/assets/other.webp": content}
    monkeypatch.setattr(subprocess, "run", _npm_that_packs(files))
    assert sprite_files.fetch(tmp_path / "pack.npz") == 1
    assert list(sprite_files.load(tmp_path / "pack.npz")) == ["1f436.webp"]
    assert [p.name for p in tmp_path.iterdir()] == ["pack.npz"]


def test_fetch_names_what_the_package_lacks(monkeypatch, tmp_path):
    monkeypatch.setattr(sprite_files, "concepts", lambda: (sprite_files.Concept("dog", True, ("1f436.webp",)),))
    monkeypatch.setattr(subprocess, "run", _npm_that_packs({}))
    with pytest.raises(FileNotFoundError, match="1f436.webp"):
        sprite_files.fetch(tmp_path / "pack.npz")


@pytest.mark.skipif(not sprite_files.NOTO_FONT.exists(), reason="the Debian package fonts-noto-color-emoji is absent")
def test_noto_draws_the_same_concept_in_another_way(sprites):
    glyph = sprite_files.noto("1f436.webp")
    assert glyph.shape == (128, 128, 4)
    assert not np.array_equal(glyph, sprites["1f436.webp"])
