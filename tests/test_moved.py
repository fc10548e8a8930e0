"""Names at the places where the documentation of release 0.1 had them."""

import subprocess
import sys
from importlib import import_module

import pytest

DOCUMENTED = [
    ("ovseg.stitch", "SlidingWindows", "ovseg.windows"),  # docstring of OpenVocabSegmentor
    ("ovseg.stitch", "ScoreMap", "ovseg.scores"),  # docs/architecture.md
    ("ovseg.stitch", "ScoreStitch", "ovseg.stitches"),
    ("ovseg.head", "MaxQueryHead", "ovseg.heads"),  # docs/architecture.md
    ("ovseg.regions.maps", "paint_masks", "ovseg.region_maps"),  # docstring of RegionSource
]


@pytest.mark.parametrize(("old", "name", "new"), DOCUMENTED)
def test_old_places_work_and_name_the_new_one(old, name, new):
    with pytest.warns(DeprecationWarning, match=f"{old}.{name} is {new}.{name} now"):
        found = getattr(import_module(old), name)
    assert found is getattr(import_module(new), name)


def test_what_never_was_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'ovseg.stitch' has no attribute 'Nothing'"):
        import_module("ovseg.stitch").Nothing  # noqa: B018


def test_the_warning_points_at_the_line_that_imports(tmp_path):
    (tmp_path / "theirs.py").write_text("\nfrom ovseg.stitch import SlidingWindows\n")
    command = [sys.executable, "-W", "always::DeprecationWarning", "theirs.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "theirs.py:2: DeprecationWarning: ovseg.stitch.SlidingWindows is ovseg.windows.SlidingWindows" in done.stderr
