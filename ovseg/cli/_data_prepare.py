"""``ovseg data prepare``: from official files to the layout that a benchmark's config reads, then the check."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ovseg.arguments import suggestion
from ovseg.cli._data_check import check_benchmark, print_report
from ovseg.cli._output import say
from ovseg.cli._status import DONE, PART
from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg.datasets import Benchmark


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser("prepare", help="unpack and convert official files, then check", description=__doc__)
    parser.add_argument("name", help="benchmark, e.g. voc21, ade20k, cityscapes: see `ovseg data list`")
    parser.add_argument("--archive", nargs="+", type=Path, default=[], help="official files to unpack or copy first")
    parser.add_argument("--data-root", type=Path, help="data folder (default: $OVSEG_DATA, else data)")
    parser.add_argument("--check", action="store_true", help="convert nothing, only check")
    parser.add_argument("--force", action="store_true", help="convert again what exists")
    parser.set_defaults(run=run)


def unpack(benchmark: Benchmark, archives: Sequence[Path], root: Path, console: Console) -> None:
    """Unpack or copy official files to where they belong.

    Raises:
        ConversionError: for a file that is not one of the benchmark's.
        UnsafeArchive: see :func:`ovseg.datasets.convert.extract`.
    """
    from ovseg.datasets.convert import ConversionError, extract
    from ovseg.datasets.files import atomic_path

    places = {d.file: root / d.into for d in benchmark.downloads}
    for archive in archives:
        if archive.name not in places:
            known = ", ".join(places) or "none"
            raise ConversionError(f"{archive}: not a file of {benchmark.title}; its official files are {known}")
        if not archive.is_file():
            raise ConversionError(f"{archive} does not exist. {benchmark.how_to_get()}")
        folder = places[archive.name]
        if archive.suffix == ".json":
            with atomic_path(folder / archive.name) as temporary:
                shutil.copyfile(archive, temporary)
            say(f"{archive.name}: copied to {folder}", stderr=False)
        else:
            say(f"{archive.name}: {extract(archive, folder, console)} files to {folder}", stderr=False)


def convert(name: str, root: Path, force: bool, console: Console) -> int:
    """Convert a benchmark; returns the number of files that failed.

    Raises:
        ConversionError: if official files are missing.
    """
    from ovseg.datasets import BENCHMARKS
    from ovseg.datasets.convert import CONVERTERS, run_jobs
    from ovseg.datasets.files import write_json

    converter = BENCHMARKS[name].converter
    if converter is None:
        return 0  # the official maps are used as they are
    jobs = CONVERTERS[converter](root)
    failures = run_jobs(jobs, force, console)
    log = root / f"prepare_errors_{name}.json"
    log.unlink(missing_ok=True)
    if failures:
        write_json(log, failures)
        source, reason = next(iter(failures.items()))
        count = f"{len(failures)} of {len(jobs)} files could not be converted"
        say(f"{count}, e.g. {source}: {reason}; see {log}", "red", stderr=False)
    return len(failures)


def run(args: argparse.Namespace) -> int:
    """Prepare and check; returns the exit status."""
    from ovseg.datasets import BENCHMARKS, DatasetNotFound
    from ovseg.datasets.convert import ConversionError, UnsafeArchive

    if args.name not in BENCHMARKS:
        raise SetupError(
            f"there is no benchmark {args.name!r}{suggestion(args.name, BENCHMARKS)} "
            f"(there are {', '.join(sorted(BENCHMARKS))})"
        )
    console = Console()
    root = args.data_root or Path(os.environ.get("OVSEG_DATA", "data"))
    benchmark = BENCHMARKS[args.name]
    failed = 0
    try:
        unpack(benchmark, args.archive, root, console)
        if not args.check:
            failed = convert(args.name, root, args.force, console)
        report, _ = check_benchmark(args.name, root, console)
    except (ConversionError, UnsafeArchive, DatasetNotFound, OSError) as error:
        say(f"error: {error}", "red", stderr=False)
        return PART
    print_report(report)
    return DONE if not report.problems and not failed else PART
