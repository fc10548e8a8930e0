"""``ovseg index``: an approximate index of a memory bank, and how much of the exact search it finds.

    ovseg index my_bank                               # product-quantised inverted lists, 32 bytes a region
    ovseg index my_bank --kind ivfflat --probes 8
    ovseg index my_bank --kind ivfpq --recall 500     # ask for the neighbours of 500 of its own regions

A config asks the index with ``stitch=dict(type="RetrievalStitch", bank=..., index="ivfpq", probes=16)``. A bank that
has grown needs its index again.
"""

from __future__ import annotations

import argparse

from ovseg.cli._arguments import count
from ovseg.cli._output import emit, print_pairs
from ovseg.cli._status import DONE


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "index",
        help="an approximate index of a memory bank",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bank", help="folder that `ovseg bank` wrote")
    parser.add_argument("--kind", choices=("flat", "ivfflat", "ivfpq"), default="ivfpq", help="default: ivfpq")
    parser.add_argument("--lists", type=count, help="of keys (default: 4 times the square root of the regions)")
    parser.add_argument("--code-bytes", type=count, default=32, help="of a quantised key (default: 32)")
    parser.add_argument("--probes", type=count, default=16, help="lists read for a query (default: 16)")
    parser.add_argument(
        "--recall", type=count, default=200, help="regions of the bank that are asked for, 20 neighbours each (200)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build and measure; returns the exit status."""
    from ovseg.retrieval import BankIndex, MemoryBank, build_index, measure_recall

    bank = MemoryBank(args.bank)
    path = build_index(bank, args.kind, args.lists, args.code_bytes)
    found = measure_recall(BankIndex(bank, args.kind, args.probes), args.recall)
    size = path.stat().st_size
    emit("index", file=path, regions=len(bank), bytes=size, probes=args.probes, **found._asdict())
    print_pairs(
        [
            ("index", str(path)),
            ("regions", f"{len(bank):,}"),
            ("size", f"{size / 1e6:.1f} MB, {size / len(bank):.0f} bytes a region"),
            ("recall of 20", f"{found.share:.1%} with {args.probes} probes"),
            ("a query", f"{found.index_ms:.2f} ms, exact search {found.exact_ms:.2f} ms"),
        ]
    )
    return DONE
