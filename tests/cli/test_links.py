"""Photos behind links: taken, or named as broken; globs end where links lead in a circle."""

from pathlib import Path

from mmengine.config import Config

from ovseg.cli.masks import photos
from ovseg.cli.segment import find_images


def test_photos_behind_links_are_found_once_and_broken_links_are_not_dropped(tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("disk/a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to(tmp_path / "disk")
    for i in range(3):
        (tmp_path / f"disk/up{i}").symlink_to(tmp_path)
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")

    def relative(paths):
        return [Path(p).relative_to(tmp_path).as_posix() for p in paths]

    everything = ["b.jpg", "disk/a.jpg", "gone.jpg", "linked/a.jpg"]
    assert relative(find_images([f"{tmp_path}/**/*.jpg"])[0]) == everything
    assert relative(photos(Config(), f"{tmp_path}/**/*.jpg")) == everything
    files, told = find_images([str(tmp_path)])
    assert relative(files) == ["b.jpg", "gone.jpg"] and "2 x folder" in told
    assert relative(find_images([str(tmp_path / "gone.jpg"), str(tmp_path / "linked")])[0]) == [
        "gone.jpg",
        "linked/a.jpg",
    ]
