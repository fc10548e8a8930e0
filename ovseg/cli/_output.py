"""How commands print."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text


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
