"""Compile every CUDA kernel for sm_80, sm_90 and sm_100 (no GPU needed) and tabulate what it occupies.

    python tools/kernel_table.py                 # the kernel table and the roofline arithmetic, on the screen
    python tools/kernel_table.py --write         # also docs/cuda_kernels.csv and docs/cuda_roofline.csv
    python tools/kernel_table.py --arch sm_90 --source pamr.cu --write      # compile only these, keep the other rows

Exits with 1 if a kernel spills registers or does not fit, with 2 if kernels cannot be compiled here.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

import ovseg.ops  # noqa: F401  (registers the kernels)
from ovseg.ops.cuda.compile import ARCHITECTURES, nvrtc_reasons
from ovseg.ops.cuda.kernels import kernels
from ovseg.ops.cuda.roofline import works
from ovseg.ops.cuda.table import faults, rows

DOCS = Path(__file__).resolve().parents[1] / "docs"


def print_table(title: str, lines: Sequence[dict], left: Sequence[str]) -> None:
    """Columns in ``left`` are text, the others numbers."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column in lines[0]:
        table.add_column(column.replace("_", " "), justify="left" if column in left else "right", overflow="fold")
    for line in lines:
        table.add_row(*(Text(str(value)) for value in line.values()))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def read(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file in ``docs/``; none if it is not there."""
    if not (DOCS / name).exists():
        return []
    with (DOCS / name).open() as file:
        return list(csv.DictReader(file))


def write(name: str, lines: Sequence[dict]) -> None:
    """A CSV file in ``docs/``."""
    with (DOCS / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=ARCHITECTURES, help="default: all")
    parser.add_argument("--source", choices=sorted({spec.source for spec in kernels()}), help="default: all")
    parser.add_argument("--write", action="store_true", help="write the CSV files in docs/")
    options = parser.parse_args(arguments)
    if reasons := nvrtc_reasons():
        print("kernels cannot be compiled here: " + "; ".join(reasons))
        return 2
    table = rows(options.source, options.arch)
    lines = [row.cells() for row in table]
    floors = [work.cells() for work in works()]
    short = [{name: cell for name, cell in line.items() if name not in ("source", "note")} for line in lines]
    print_table("kernels", short, ("kernel", "arch"))
    print_table("least time on an H100 SXM", floors, ("operator", "case", "bound_by"))
    if options.write:
        done = {(line["source"], line["arch"]) for line in lines}
        kept = [line for line in read("cuda_kernels.csv") if (line["source"], line["arch"]) not in done]
        order = {(spec.source, e): i for i, (spec, e) in enumerate((s, e) for s in kernels() for e in s.expressions())}
        kept = [line for line in kept if (line["source"], line["kernel"]) in order]
        lines = sorted(
            lines + kept, key=lambda line: (order[line["source"], line["kernel"]], ARCHITECTURES.index(line["arch"]))
        )
        write("cuda_kernels.csv", lines)
        write("cuda_roofline.csv", floors)
    broken = [f"{row.expression} on {row.arch}: {fault}" for row in table for fault in faults(row)]
    print("\n".join(broken) or f"{len(table)} kernels, no spills, all fit")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
