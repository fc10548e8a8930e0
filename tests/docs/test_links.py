"""Links of README, docs and the cards: every file and heading they name is there."""

from pathlib import Path

import pytest
import yaml

from tools.docs.links import Link, anchors_of, fault_of, links_of, slug
from tools.docs.site import leaves

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "ovseg").rglob("*.md"),
        *(ROOT / "data").glob("*.md"),
        *(ROOT / "data").glob("*/ATTRIBUTION.md"),
    ]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    faults = [f"line {link.line}: {fault}" for link in links_of(page) if (fault := fault_of(link))]
    assert not faults, f"{page.relative_to(ROOT)}: {'; '.join(faults)}"


def test_navigation_names_pages_that_are_there():
    nav = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    missing = [p for p in nav if not p.startswith("repository/") and not (ROOT / "docs" / p).is_file()]
    assert not missing, f"mkdocs.yml names pages that are not there: {missing}"
    missing = [p for p in nav if p.startswith("repository/") and not (ROOT / p.removeprefix("repository/")).is_file()]
    assert not missing, f"mkdocs.yml names files that are not there: {missing}"


def test_links_are_found_outside_code_only(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](x.md) `[b](y.md)`\n\n```\n[c](z.md)\n```\n![d [e]](p.png#q) [f](https://a.b/c)\n")
    found = list(links_of(page))
    assert [(link.line, link.target) for link in found] == [(1, "x.md"), (6, "p.png#q"), (6, "https://a.b/c")]
    assert [fault_of(link) for link in found] == ["there is no x.md", "there is no p.png", ""]


def test_anchors_are_those_of_github(tmp_path):
    assert slug("What `q-q` *is*, and [why](x.md)?") == "what-q-q-is-and-why"
    page = tmp_path / "page.md"
    page.write_text('# One\n\n## One\n\n```\n# no heading\n```\n<a id="here"></a>\n')
    assert anchors_of(page) == {"one", "one-1", "here"}
    assert not fault_of(Link(page, 1, "#one-1"))
    assert fault_of(Link(page, 1, "#no-heading")) == "page.md has no heading #no-heading"


def test_anchors_of_the_reference_are_objects_that_exist(tmp_path):
    page = tmp_path / "reference.md"
    page.write_text("# Reference\n\n::: ovseg.attention.SelfSelfAttention\n")
    assert not fault_of(Link(page, 1, "#ovseg.attention.SelfSelfAttention"))
    assert not fault_of(Link(page, 1, "#ovseg.attention.SelfSelfAttention.mix"))
    assert fault_of(Link(page, 1, "#ovseg.attention.SelfSelfAttention.nothing"))
    assert fault_of(Link(page, 1, "#ovseg.attention.ProxyAttention"))
