"""Generated pages are current, and say what configs and figures say."""

import csv
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from tools import docs_pages
from tools.docs import methods, zoo

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generated():
    return docs_pages.pages()


def test_pages_are_current(generated):
    """All but the reference of components, which the site makes anew: there only what pages link to must be there."""
    stale = [
        path.relative_to(ROOT).as_posix()
        for path, text in generated.items()
        if path.name != "components.md" and (not path.is_file() or path.read_text(encoding="utf-8") != text)
    ]
    assert not stale, f"run: python tools/docs_pages.py ({', '.join(stale)})"


def test_the_index_names_every_method_with_a_base_config(generated):
    rows = generated[methods.INDEX].partition(methods.MARK)[2]
    covered = {b.stem for n in methods.page_names() for b in methods.base_configs(n, methods.head_of(page_text(n)))}
    for path in (ROOT / "configs/_base_/models").glob("*.py"):
        assert path.stem in covered or f"`{path.stem}`" in rows.partition("Without a page: ")[2], path.stem
    assert all(f"]({name}.md)" in rows for name in methods.page_names())


def page_text(name: str) -> str:
    return (methods.PAGES / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", methods.page_names())
def test_a_page_has_all_its_parts(name):
    text = page_text(name)
    head = methods.head_of(text)
    assert head.startswith("# ") and "https://arxiv.org/abs/" in head and "$$" in head
    for part in ("Components", "Config", "Parity with the official code", "Published numbers", "Deviations"):
        assert f"\n## {part}\n" in text, part
    for row in (row for row in methods.read_rows(methods.OVERLAYS) if row["method"] == name):
        picture = methods.PICTURES / row["picture"]
        assert 5_000 < picture.stat().st_size < 60_000 and (ROOT / row["photo"]).is_file()
        assert f"](../pictures/methods/{row['picture']})" in text
    for base in methods.base_configs(name, head):
        parts = [t for _, t in methods.types_in(Config.fromfile(base).model) if methods.component(t)]
        assert parts and all(f"[`{part}`]" in text for part in parts)


def test_zoo_lists_every_config_of_a_benchmark_once():
    text = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(\.\./(configs/[^)]+\.py)\)", text)
    configs = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "configs").glob("*/*.py")
        if p.parent.name not in ("nano", "_base_") and methods.split_name(p.stem)[1]
    }
    assert sorted(p for p in linked if "/nano/" not in p) == sorted(configs)


def test_published_numbers_stand_beside_configs_that_exist():
    variants = {
        v: configs for folder in (ROOT / "configs").iterdir() for v, configs in methods.families(folder.name).items()
    }
    known = [(v, b, miou) for (v, b), miou in zoo.published().items() if v]
    assert len(known) > 80
    for variant, benchmark, _ in known:
        assert benchmark in variants[variant], f"{variant} has no config for {benchmark}"


def test_nano_figures_are_those_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = {float(n) for row in re.findall(r"^\| scenes.*$", readme, re.M) for n in re.findall(r"\d+\.\d", row)}
    with zoo.NANO.open() as file:
        assert {float(row["scenes"]) for row in csv.DictReader(file)} == shown


def test_a_page_of_a_method_without_config_is_refused():
    with pytest.raises(ValueError, match="no nowhere.py in configs/_base_"):
        methods.base_configs("nowhere", "# Nowhere")
