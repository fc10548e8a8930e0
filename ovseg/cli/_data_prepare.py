"""``ovseg data prepare``: from official files to the layout that a benchmark's config reads, then the check."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console

from ovseg.arguments import suggestion
from ovseg.cli._arguments import count
from ovseg.cli._data_check import check_benchmark, print_report
from ovseg.cli._output import emit, say
from ovseg.cli._status import DONE, PART
from ovseg.errors import SetupError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser("prepare", help="unpack and convert official files, then check", description=__doc__)
    parser.add_argument("name", help="benchmark, e.g. voc21, ade20k, cityscapes: see `ovseg data list`")
    parser.add_argument(
        "--archive", nargs="+", type=Path, default=[], help="official files, packed in any way, or folders of them"
    )
    parser.add_argument("--download", action="store_true", help="fetch official files that have a direct address")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--workers", type=count, default=min(4, os.cpu_count() or 1), help="threads that convert")
    parser.add_argument("--data-root", type=Path, help="data folder (default: $OVSEG_DATA, else data)")
    parser.add_argument("--check", action="store_true", help="convert nothing, only check")
    parser.add_argument("--force", action="store_true", help="convert again what exists")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare and check; returns the exit status."""
    from ovseg.datasets import BENCHMARKS, DatasetNotFound
    from ovseg.datasets.convert import ConversionError, UnsafeArchive
    from ovseg.datasets.prepare import prepare
    from ovseg.weights.errors import WeightsError

    if args.name not in BENCHMARKS:
        raise SetupError(
            f"there is no benchmark {args.name!r}{suggestion(args.name, BENCHMARKS)} "
            f"(there are {', '.join(sorted(BENCHMARKS))})"
        )
    console = Console()
    root = args.data_root or Path(os.environ.get("OVSEG_DATA", "data"))
    failed = False
    try:
        if not args.check:
            done = prepare(
                args.name,
                root,
                args.archive,
                fetch=args.download,
                force=args.force,
                dry_run=args.dry_run,
                workers=args.workers,
                console=console,
                say=lambda text: say(text, stderr=False),
            )
            failed = bool(done.failures)
            emit("prepared", name=args.name, dry_run=args.dry_run, **vars(done))
            for text in done.missing:
                say(text, "yellow", stderr=False)
            if args.dry_run:
                return PART if done.missing else DONE
        report, _ = check_benchmark(args.name, root, console, workers=args.workers)
    except (ConversionError, UnsafeArchive, DatasetNotFound, WeightsError, OSError) as error:
        say(f"error: {error}", "red", stderr=False)
        emit("error", error=str(error), exit_status=PART)
        return PART
    emit("report", **report.to_dict())
    print_report(report)
    return DONE if not report.problems and not failed else PART
