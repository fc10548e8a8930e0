"""``ovseg data list``: the benchmarks, where they come from, and which are here."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ovseg.cli._output import console, emit
from ovseg.cli._status import DONE


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser("list", help="benchmarks, and which are here", description=__doc__)
    parser.add_argument("--data-root", type=Path, help="data folder (default: $OVSEG_DATA, else data)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the list; returns the exit status."""
    from rich.table import Table

    from ovseg.cli._data_check import benchmark_dataset
    from ovseg.datasets import BENCHMARKS, DatasetNotFound

    root = args.data_root or Path(os.environ.get("OVSEG_DATA", "data"))
    rows: list[dict[str, Any]] = []
    for name, benchmark in BENCHMARKS.items():
        try:
            with redirect_stdout(sys.stderr):  # MMEngine tells of environment variables on stdout
                state = f"{len(benchmark_dataset(name, root))} images"
            there = True
        except (DatasetNotFound, ValueError):
            state, there = "not here", False
        files = [d.file for d in benchmark.downloads]
        row: dict[str, Any] = dict(
            name=name, title=benchmark.title, images=list(benchmark.images), files=files, here=there, state=state
        )
        row |= dict(group=benchmark.group, licence=benchmark.licence)
        emit("benchmark", **row)
        rows.append(row)
    table = Table(box=None)
    for column in ("name", "images", "here", "official files"):
        table.add_column(column, overflow="fold")
    for row in rows:
        expected = " or ".join(f"{n:,}" for n in row["images"]) or "-"
        table.add_row(row["name"], expected, row["state"], ", ".join(row["files"]) or "part of the repository")
    console().print(table)
    return DONE
