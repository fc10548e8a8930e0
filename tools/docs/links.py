"""Links of Markdown pages: where they lead inside the repository, and which of them lead nowhere."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\[\]]*\])*\])\(([^()\s]+)\)")
"""``[text](target)`` and ``![alt](target)``; the text may hold brackets."""
_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[^\S\n]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
_OBJECTS = re.compile(r"^::: (\S+)$", re.MULTILINE)
_HTML_ID = re.compile(r"""<\w+[^>]*\s(?:id|name)=["']([^"']+)["']""")


@dataclass(frozen=True)
class Link:
    """One link of a page.

    Attributes:
        page: file that holds it.
        line: its line there, from 1.
        target: as written.
    """

    page: Path
    line: int
    target: str

    @property
    def external(self) -> bool:
        """Whether it has a scheme (``https:``, ``mailto:``)."""
        return re.match(r"[a-zA-Z][\w+.-]*:", self.target) is not None

    @property
    def path(self) -> Path:
        """The file it names; the page itself for ``#anchor``."""
        name = self.target.partition("#")[0]
        return (self.page.parent / name).resolve() if name else self.page.resolve()

    @property
    def anchor(self) -> str:
        return self.target.partition("#")[2]


def without_code(text: str) -> str:
    """A page with code blocks and code spans blanked; every other character keeps its place."""
    for code in (_FENCE, _CODE):
        text = code.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    return text


def links_of(page: Path) -> Iterator[Link]:
    """All links outside code, in order."""
    text = without_code(page.read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        yield Link(page, text.count("\n", 0, match.start()) + 1, match.group(2))


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading: lower case, blanks to hyphens, without punctuation and markup."""
    text = re.sub(r"!?\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"[^\w\- ]", "", text.replace("`", "").lower())
    return text.strip().replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    """Anchors of a page: its headings (a second one of the same name gets ``-1``), and ids written in HTML."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set(_HTML_ID.findall(text))
    for heading in _HEADING.findall(text):
        name, number = slug(heading), 0
        while (f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(f"{name}-{number}" if number else name)
    return found


def fault_of(link: Link) -> str:
    """Why an internal link leads nowhere; empty if it leads somewhere.

    On pages of the API reference (``::: module``) an anchor is the full name of an object below such a module.
    """
    if link.external:
        return ""
    if not link.path.exists():
        return f"there is no {link.target.partition('#')[0]}"
    if not link.anchor or link.path.suffix != ".md" or link.anchor in anchors_of(link.path):
        return ""
    modules = _OBJECTS.findall(link.path.read_text(encoding="utf-8"))
    if any(link.anchor == m or link.anchor.startswith(f"{m}.") for m in modules) and _importable(link.anchor):
        return ""
    return f"{link.path.name} has no heading #{link.anchor}"


def _importable(name: str) -> bool:
    module, _, rest = name.rpartition(".")
    while module:
        try:
            found: object = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest = f"{last}.{rest}"
            continue
        for part in rest.split("."):
            found = getattr(found, part, None)
        return found is not None
    return False
