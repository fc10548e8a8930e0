"""``ovseg data``, ``tools/prepare_data.py``: bring a benchmark from its official files into its config's layout.

    ovseg data voc21 --archive VOCtrainval_11-May-2012.tar    # unpack, then check
    ovseg data cityscapes                                    # convert what is already unpacked
    ovseg data cityscapes --check                            # only look

What exists already is kept, so an interrupted run goes on where it stopped. Files that cannot be converted are listed
in ``prepare_errors_NAME.json`` under the data root and do not stop the others. Sources: docs/datasets.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ovseg.arguments import suggestion
from ovseg.cli._output import say
from ovseg.cli._status import DONE, PART
from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg.datasets import Benchmark


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "data",
        help="prepare and check a benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="benchmark, e.g. voc21, ade20k, cityscapes (any other word lists all)")
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


def check(name: str, root: Path, console: Console) -> bool:
    """Check a benchmark and say what was found; returns whether it is complete.

    Raises:
        DatasetNotFound: if it is not there.
    """
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from ovseg.datasets import BENCHMARKS
    from ovseg.datasets.check import check_dataset
    from ovseg.engine import config_root
    from ovseg.registry import DATASETS

    os.environ["OVSEG_DATA"] = str(root)
    init_default_scope("ovseg")
    file = config_root() / "_base_" / "datasets" / f"{name}.py"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the data set's notes are printed below
        dataset = DATASETS.build(Config.fromfile(file).test_dataloader.dataset)
    report = check_dataset(dataset, BENCHMARKS[name], console)
    assert report.pixels is not None  # counted by check_dataset
    labelled = int(report.pixels.sum())
    ignored = 100 * report.ignored / max(1, labelled + report.ignored)
    present = len(report.names) - len(report.absent)
    say(
        f"{BENCHMARKS[name].title}: {report.images} images, {present} of {len(report.names)} classes occur, "
        f"{ignored:.1f} % of the pixels are ignored",
        stderr=False,
    )
    for note in report.notes:
        say(f"{BENCHMARKS[name].title}: {note}", "yellow", stderr=False)
    for problem in report.problems:
        say(f"{BENCHMARKS[name].title}: {problem}", "red", stderr=False)
    return not report.problems


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
        complete = check(args.name, root, console)
    except (ConversionError, UnsafeArchive, DatasetNotFound, OSError) as error:
        say(f"error: {error}", "red", stderr=False)
        return PART
    return DONE if complete and not failed else PART
