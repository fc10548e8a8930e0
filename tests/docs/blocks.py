"""Code of Markdown pages, as a reader would run it from top to bottom."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from ovseg.cli import main

_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: of the fence.
        file: the file it is, from ``title="..."``; empty: code to run.
        text: without the fence.
        line: of its first line in the page.
    """

    language: str
    file: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks with a language, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(m.group(1), m.group(2) or "", m.group(3), text.count("\n", 0, m.start()) + 2)
        for m in _BLOCK.finditer(text)
    ]


def run_page(page: Path, folder: Path) -> int:
    """Run a page in ``folder``, the current directory.

    Files are written, Python shares one namespace, lines of bash are ovseg's commands and must end with status 0.

    Returns:
        the number of blocks that were run or written.
    """
    names: dict = {}
    done = 0
    for block in blocks_of(page):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            # line numbers of the page in tracebacks
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
        elif block.language == "bash":
            for line in block.text.splitlines():
                run_command(line, page, block.line)
        else:
            continue
        done += 1
    return done


def run_command(line: str, page: Path, number: int) -> None:
    """One line of bash, in this process: ``ovseg ...``, with ``PYTHONPATH=.`` before it or not."""
    words = [word for word in shlex.split(line, comments=True) if word != "PYTHONPATH=."]
    assert words and words[0] == "ovseg", f"{page.name}, line {number}: the reader runs ovseg's commands only: {line}"
    assert main(words[1:]) == 0, f"{page.name}, line {number}: {line}"
