"""docs/tutorials: every page runs, from top to bottom."""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from mmengine.registry import DefaultScope

from ovseg.registry import ATTENTIONS
from ovseg.weights.catalogue import catalogue
from tests.docs.blocks import blocks_of, run_page

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
PHOTO = ROOT / "data" / "photos" / "images" / "000000012062.jpg"
NOTEBOOK = TUTORIALS / "quickstart.ipynb"


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder as the pages ask for it, and everything a page may leave in the process taken back."""
    shutil.copy(PHOTO, tmp_path / "photo.jpg")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVSEG_DATA", str(ROOT / "data"))
    path, modules, cards, scopes = (
        list(sys.path),
        set(sys.modules),
        dict(catalogue()),
        dict(DefaultScope._instance_dict),
    )
    ATTENTIONS.import_from_location()
    parts = set(ATTENTIONS.module_dict)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    catalogue().clear()
    catalogue().update(cards)
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)
    for name in set(ATTENTIONS.module_dict) - parts:
        del ATTENTIONS.module_dict[name]


def pages() -> list[Path]:
    """The tutorials; ``walk.md`` is the record of one walk through a fresh machine, with its waits."""
    return sorted(p for p in TUTORIALS.glob("*.md") if p.name not in ("index.md", "walk.md"))


def test_there_is_a_page_for_each_thing_of_ones_own():
    assert {"own-attention", "own-data", "own-weights", "own-words"} <= {page.stem for page in pages()}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore:.*has not learned")
def test_page_runs(page, reader, monkeypatch):
    monkeypatch.syspath_prepend(str(reader))
    assert (
        run_page(page, reader) == len([b for b in blocks_of(page) if b.file or b.language in ("python", "bash")]) >= 4
    )


def test_notebook_is_small_and_without_stored_outputs():
    assert NOTEBOOK.stat().st_size < 300_000
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)


def test_notebook_runs(reader):
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(reader)}}
    ).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    assert any("image/png" in out.get("data", {}) for out in shown), "the notebook shows no picture"
    assert (reader / "farm.geojson").is_file() and (reader / "overlay.png").is_file()
