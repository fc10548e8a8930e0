"""The web site of docs/: what Zensical gets to read.

Pages link to files beside docs/ as the repository shows them. In the site a Markdown file outside docs/ becomes a page
of its own (below ``repository/``); any other file is linked at the project's address if that is known
(``OVSEG_HOME_URL``, as in setup.py), else its name stands there without a link. Formulas become MathML. Docstrings lose
Sphinx's roles.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tools.docs import components
from tools.docs.links import LINK, Link, without_code
from tools.docs.mathml import with_mathml

REPOSITORY = Path(__file__).resolve().parents[2]
OUTSIDE = "repository"
_ROLE = re.compile(r":(?:class|meth|func|attr|mod|data|exc|obj):`~?([^`]+)`")


class Stage:
    """A copy of docs/ in ``folder`` that Zensical can build.

    Args:
        folder: an empty folder.
        home: address of the published repository; empty: none.
    """

    def __init__(self, folder: Path, home: str = "") -> None:
        self.docs, self.folder, self.home = folder / "docs", folder, home.rstrip("/")
        self._waiting: list[Path] = []
        self._staged: set[Path] = set()

    def fill(self) -> list[str]:
        """Write everything, the reference of components anew; names of the pages, relative to docs/."""
        shutil.copytree(REPOSITORY / "docs", self.docs)
        config = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))
        pages = sorted((REPOSITORY / "docs").rglob("*.md"))
        pages += [REPOSITORY / p.removeprefix(f"{OUTSIDE}/") for p in leaves(config["nav"]) if p.startswith(OUTSIDE)]
        self._waiting = pages
        while self._waiting:
            self._write(self._waiting.pop(0))
        (self.docs / "reference" / "components.md").write_text(components.page(), encoding="utf-8")
        names = sorted(p.relative_to(self.docs).as_posix() for p in self.docs.rglob("*.md"))
        config["nav"] = with_unlisted(config["nav"], [n for n in names if not n.startswith(OUTSIDE)])
        config["docs_dir"], config["site_dir"] = "docs", "site"
        if self.home:
            config["site_url"] = config["repo_url"] = self.home
        (self.folder / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        self._write_package()
        return names

    def _place(self, source: Path) -> Path:
        """Where a page of the repository stands in the stage."""
        if source.is_relative_to(REPOSITORY / "docs"):
            return self.docs / source.relative_to(REPOSITORY / "docs")
        return self.docs / OUTSIDE / source.relative_to(REPOSITORY)

    def _write(self, source: Path) -> None:
        if source in self._staged or not source.is_file():  # a page that is missing is Zensical's to tell
            return
        self._staged.add(source)
        text = source.read_text(encoding="utf-8")
        bare = without_code(text)
        spans = {m.span(2) for m in LINK.finditer(bare)}
        text = LINK.sub(lambda m: self._link(m, source) if m.span(2) in spans else m.group(), text)
        place = self._place(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(with_mathml(text), encoding="utf-8")

    def _link(self, match: re.Match[str], source: Path) -> str:
        label, link = match.group(1), Link(source, 0, match.group(2))
        if link.external or (not link.target.partition("#")[0]):
            return match.group()
        path, anchor = link.path, f"#{link.anchor}" if link.anchor else ""
        inside = path.is_relative_to(REPOSITORY / "docs")
        if not inside and path.suffix != ".md":
            if not self.home:
                return match.group() if label.startswith("!") else label[1:-1]
            kind = "tree" if path.is_dir() else "blob"
            return f"{label}({self.home}/{kind}/main/{path.relative_to(REPOSITORY).as_posix()}{anchor})"
        if path.suffix == ".md":
            self._waiting.append(path)
        target = os.path.relpath(self._place(path), self._place(source).parent)
        return f"{label}({Path(target).as_posix()}{anchor})"

    def _write_package(self) -> None:
        """The package's sources, for mkdocstrings, which does not know Sphinx's roles."""
        for path in (REPOSITORY / "ovseg").rglob("*.py"):
            place = self.folder / path.relative_to(REPOSITORY)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(_ROLE.sub(r"`\1`", path.read_text(encoding="utf-8")), encoding="utf-8")


def leaves(nav: object) -> list[str]:
    """Pages that a ``nav`` names, in order."""
    if isinstance(nav, str):
        return [nav]
    items = nav.values() if isinstance(nav, dict) else nav
    return [page for item in items for page in leaves(item)]


def with_unlisted(nav: list, pages: list[str]) -> list:
    """A ``nav`` with the pages it does not name: in the section of their folder, else under "More"."""
    listed = set(leaves(nav))
    rest = [page for page in pages if page not in listed]
    for entry in nav:
        section = next(iter(entry.values())) if isinstance(entry, dict) else None
        if isinstance(section, list):
            folders = {str(Path(page).parent) for page in leaves(section)} - {"."}
            own = [page for page in rest if str(Path(page).parent) in folders]
            section.extend(own)
            rest = [page for page in rest if page not in own]
    return [*nav, {"More": rest}] if rest else nav


def build(folder: Path, out: Path, home: str = "") -> list[str]:
    """Build the site into ``out`` (replaced); ``folder`` is an empty folder for what is read.

    Returns:
        warnings, none if the site is as it should be.
    """
    Stage(folder, home).fill()
    zensical = Path(sys.executable).with_name("zensical")
    command = [str(zensical) if zensical.is_file() else "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    said = said.partition("Traceback (most recent call last)")[0]  # strict mode ends with one, after its warnings
    faults = [line for line in said.splitlines() if line.strip() and not _expected(line)]
    if done.returncode and not faults:
        faults = [f"zensical ended with {done.returncode}"]
    if not faults:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(folder / "site", out)
    return faults


def _expected(line: str) -> bool:
    return re.match(r"Build (started|finished)|No issues found", line.strip()) is not None
