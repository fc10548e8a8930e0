"""Bring a benchmark from its official files into the layout that its config reads.

    python tools/prepare_data.py voc21 --archive VOCtrainval_11-May-2012.tar    # unpack, then check
    python tools/prepare_data.py cityscapes                                    # convert what is already unpacked
    python tools/prepare_data.py cityscapes --check                            # only look

What exists already is kept, so an interrupted run goes on where it stopped. Files that cannot be converted are listed
in ``prepare_errors_NAME.json`` under the data root and do not stop the others. Sources: docs/datasets.md.

Exit codes: 0 complete; 1 something is missing or broken (said on the terminal); 2 wrong use.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.markup import escape

from ovseg.datasets import BENCHMARKS, Benchmark, DatasetNotFound
from ovseg.datasets.check import check_dataset
from ovseg.datasets.convert import CONVERTERS, ConversionError, UnsafeArchive, extract, run_jobs
from ovseg.datasets.files import atomic_path, write_json
from ovseg.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "_base_" / "datasets"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(BENCHMARKS), help="benchmark")
    parser.add_argument("--archive", nargs="+", type=Path, default=[], help="official files to unpack or copy first")
    parser.add_argument("--data-root", type=Path, help="data folder (default: $OVSEG_DATA, else data)")
    parser.add_argument("--check", action="store_true", help="convert nothing, only check")
    parser.add_argument("--force", action="store_true", help="convert again what exists")
    return parser.parse_args(argv)


def unpack(benchmark: Benchmark, archives: Sequence[Path], root: Path, console: Console) -> None:
    """Unpack or copy official files to where they belong.

    Raises:
        ConversionError: for a file that is not one of the benchmark's.
        UnsafeArchive: see :func:`ovseg.datasets.convert.extract`.
    """
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
            console.print(f"{archive.name}: copied to {folder}", soft_wrap=True, markup=False)
        else:
            count = extract(archive, folder, console)
            console.print(f"{archive.name}: {count} files to {folder}", soft_wrap=True, markup=False)


def convert(name: str, root: Path, force: bool, console: Console) -> int:
    """Convert a benchmark; returns the number of files that failed.

    Raises:
        ConversionError: if official files are missing.
    """
    jobs = CONVERTERS[BENCHMARKS[name].converter](root)
    failures = run_jobs(jobs, force, console)
    log = root / f"prepare_errors_{name}.json"
    log.unlink(missing_ok=True)
    if failures:
        write_json(log, failures)
        count = f"[red]{len(failures)} of {len(jobs)} files could not be converted[/]"
        console.print(f"{count}, e.g. {escape(_first(failures))}; see {escape(str(log))}", soft_wrap=True)
    return len(failures)


def _first(failures: dict[str, str]) -> str:
    source, reason = next(iter(failures.items()))
    return f"{source}: {reason}"


def check(name: str, root: Path, console: Console) -> bool:
    """Check a benchmark and say what was found; returns whether it is complete.

    Raises:
        DatasetNotFound: if it is not there.
    """
    os.environ["OVSEG_DATA"] = str(root)
    init_default_scope("ovseg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the data set's notes are printed below
        dataset = DATASETS.build(Config.fromfile(CONFIGS / f"{name}.py").test_dataloader.dataset)
    report = check_dataset(dataset, BENCHMARKS[name], console)
    labelled = int(report.pixels.sum())
    ignored = 100 * report.ignored / max(1, labelled + report.ignored)
    present = len(report.names) - len(report.absent)
    console.print(
        f"{BENCHMARKS[name].title}: {report.images} images, {present} of {len(report.names)} classes occur, "
        f"{ignored:.1f} % of the pixels are ignored",
        soft_wrap=True,
    )
    for note in report.notes:
        console.print(f"[yellow]{BENCHMARKS[name].title}:[/] {escape(note)}", soft_wrap=True)
    for problem in report.problems:
        console.print(f"[red]{BENCHMARKS[name].title}:[/] {escape(problem)}", soft_wrap=True)
    return not report.problems


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    args = parse_args(argv)
    console = Console()
    root = args.data_root or Path(os.environ.get("OVSEG_DATA", "data"))
    benchmark = BENCHMARKS[args.name]
    failed = 0
    try:
        unpack(benchmark, args.archive, root, console)
        if benchmark.converter is not None and not args.check:
            failed = convert(args.name, root, args.force, console)
        complete = check(args.name, root, console)
    except (ConversionError, UnsafeArchive, DatasetNotFound, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    return 0 if complete and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
