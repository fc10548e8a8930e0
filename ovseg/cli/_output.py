"""How commands print: tables and lines for people, JSON lines for programs."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

_lines: list[TextIO] = []  # where JSON lines go; empty: nobody asked for them


@contextlib.contextmanager
def json_lines(wanted: bool) -> Iterator[None]:
    """With ``wanted`` standard output belongs to :func:`emit`, and whatever else is printed goes to standard error."""
    if not wanted:
        yield
        return
    _lines.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _lines.pop()


def emit(kind: str, **fields: object) -> None:
    """One line of JSON, ``{"kind": kind, ...}``, where ``--json`` was given; docs/cli.md lists kinds and fields."""
    if _lines:
        text = json.dumps(_plain({"kind": kind, **fields}), allow_nan=False, ensure_ascii=False)
        print(text, file=_lines[-1], flush=True)


def _plain(value: object) -> object:
    """What JSON knows: NumPy's numbers as numbers, those that are none as null, everything else as text."""
    if hasattr(value, "tolist"):  # NumPy need not be loaded for this
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """A table of two columns: names and values."""
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in pairs:
        table.add_row(key, Text(str(value)))
    console().print(table)


def console() -> Console:
    """Full lines when the output goes into a file or another program, where 80 columns would cut names and hashes."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)


def say(message: object, style: str | None = None, stderr: bool = True) -> None:
    """One line of plain text: brackets in it are brackets, never rich's markup."""
    out = Console(stderr=stderr, soft_wrap=True, highlight=False)
    out.print(str(message), style=style, markup=False, emoji=False)
