"""How commands print."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """A table of two columns: names and values."""
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in pairs:
        table.add_row(key, escape(str(value)))
    console().print(table)


def console() -> Console:
    """Full lines when the output goes into a file or another program, where 80 columns would cut names and hashes."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)
