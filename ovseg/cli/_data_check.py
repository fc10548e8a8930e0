"""``ovseg data check``: is a data set complete, readable, and what its settings say?

    ovseg data check voc21
    ovseg data check my_config.py --picture samples.jpg --json
    ovseg data check --images photos --masks masks --classes names.txt
    ovseg data check --packed 'val-*.parquet' --classes names.txt

Where 12 photos or more can be used, nano-photo looks at 48 of them (``--look``): class names that fit only when all
labels are moved by one are told.

Exit status 0 only when nothing is wrong. What is found by mistake, or meant, is passed over with ``--allow KIND``.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ovseg.arguments import suggestion
from ovseg.cli._arguments import count, number
from ovseg.cli._folder import add_folder_arguments, folder_config, is_folder
from ovseg.cli._output import emit, say
from ovseg.cli._status import DONE, PART
from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg.datasets import SegmentationDataset
    from ovseg.datasets.check import CheckReport


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "check",
        help="check a benchmark, the data of a config, or a folder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", nargs="?", help="a benchmark (voc21, ...) or a config file")
    parser.add_argument("--data-root", type=Path, help="data folder of benchmarks (default: $OVSEG_DATA, else data)")
    parser.add_argument("--picture", type=Path, help="write 16 samples with their label maps as one picture")
    parser.add_argument("--per-class", action="store_true", help="print pixels of all classes")
    parser.add_argument("--allow", nargs="+", default=[], metavar="KIND", help="findings that are meant")
    parser.add_argument("--workers", type=count, default=min(4, os.cpu_count() or 1), help="threads that read")
    parser.add_argument(
        "--look",
        type=number,
        default=48,
        metavar="N",
        help="photos that nano-photo looks at, whether the class names fit them (default 48; 0: none)",
    )
    add_folder_arguments(parser)
    parser.set_defaults(run=run)


def benchmark_dataset(name: str, root: Path) -> SegmentationDataset:
    """The data set of a benchmark's config with its data below ``root``.

    Raises:
        DatasetNotFound: if it is not there.
    """
    from mmengine.config import Config

    from ovseg.engine import config_root

    before = os.environ.get("OVSEG_DATA")
    os.environ["OVSEG_DATA"] = str(root)  # read with the config
    try:
        config = Config.fromfile(config_root() / "_base_" / "datasets" / f"{name}.py")
    finally:
        if before is None:
            del os.environ["OVSEG_DATA"]
        else:
            os.environ["OVSEG_DATA"] = before
    return _build(config.test_dataloader.dataset)


def _build(config: Mapping[str, object]) -> SegmentationDataset:
    from mmengine.registry import init_default_scope

    from ovseg.registry import DATASETS

    init_default_scope("ovseg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the data set's findings are part of the report
        return DATASETS.build(config)


def check_benchmark(
    name: str, root: Path, console: Console | None, allowed: Sequence[str] = (), workers: int = 1
) -> tuple[CheckReport, SegmentationDataset]:
    """Check a benchmark; the report and the data set.

    Raises:
        DatasetNotFound: if it is not there.
    """
    from ovseg.datasets import BENCHMARKS
    from ovseg.datasets.check import check_dataset

    dataset = benchmark_dataset(name, root)
    return check_dataset(dataset, BENCHMARKS[name], console, allowed, workers), dataset


def look_at(report: CheckReport, dataset: SegmentationDataset, photos: int, console: Console | None) -> None:
    """Add to a report what nano-photo says of the class names.

    Args:
        photos: how many it looks at.
    """
    from ovseg.datasets.check.naming import naming
    from ovseg.datasets.findings import Finding
    from ovseg.nano.looking import look
    from ovseg.text.vocabulary import VocabularyError

    try:
        looked = look(dataset, photos, console)
    except VocabularyError as error:
        told = f"nano-photo cannot look for the class names: {error}"
        report.findings.append(Finding("names", told, wrong=False))
        return
    report.looked = looked.to_dict()
    report.findings += naming(looked, report.names)


def print_report(report: CheckReport, per_class: bool = False) -> None:
    """The report as text on stdout: numbers, notes, what is wrong, the verdict."""
    labelled = int(report.pixels.sum())
    ignored = 100 * report.ignored / max(1, labelled + report.ignored)
    present = len(report.names) - len(report.absent)
    say(
        f"{report.title}: {report.images} images, {present} of {len(report.names)} classes occur, "
        f"{ignored:.1f} % of the pixels are ignored",
        stderr=False,
    )
    if report.smallest and report.largest:
        sizes = [f"{w} x {h}" for h, w in (report.smallest, report.largest)]
        say(f"photos from {sizes[0]} to {sizes[1]} pixels; fingerprint {report.fingerprint[:16]}", stderr=False)
    order = sorted(range(len(report.names)), key=lambda i: -report.pixels[i])
    for i in order if per_class else order[:5]:
        share = 100 * report.pixels[i] / max(1, labelled)
        say(f"  {share:5.1f} %  in {report.maps[i]:5d} label maps  {report.names[i]}", stderr=False)
    if report.absent:
        more = f" and {len(report.absent) - 10} more" if len(report.absent) > 10 else ""
        say(f"classes that never occur: {', '.join(report.absent[:10])}{more}", stderr=False)
    if report.looked and "agreement" in report.looked:
        agreement = report.looked["agreement"]
        assert isinstance(agreement, dict)
        say(
            f"nano-photo looked at {report.looked['photos']} photos: a class beats {100 * agreement[0]:.0f} of 100 "
            f"other names where it lies (moved by -1: {100 * agreement[-1]:.0f}, by +1: {100 * agreement[1]:.0f}; "
            "50 is chance)",
            stderr=False,
        )
    for finding in report.findings:
        is_wrong = finding.wrong and finding.kind not in report.allowed
        say(f"{'WRONG' if is_wrong else 'note'} {finding.kind}: {finding.message}", "red" if is_wrong else None, False)
    verdict = f"{len(report.problems)} things are wrong" if report.problems else "nothing is wrong"
    say(f"{report.title}: {verdict}", "red" if report.problems else "green", stderr=False)


def run(args: argparse.Namespace) -> int:
    """Check; returns the exit status."""
    from ovseg.datasets import BENCHMARKS
    from ovseg.datasets.check import check_dataset, draw_samples
    from ovseg.datasets.check.naming import FEWEST_PHOTOS
    from ovseg.datasets.errors import DatasetNotFound

    console = Console(stderr=True)
    root = args.data_root or Path(os.environ.get("OVSEG_DATA", "data"))
    folder = is_folder(args)
    if folder == (args.target is not None):
        raise SetupError(
            "check a benchmark or config, a folder by --images, --masks and --classes, or --packed: one of them"
        )
    try:
        with redirect_stdout(sys.stderr):  # MMEngine tells of environment variables on stdout
            if folder:
                dataset, benchmark = _build(folder_config(args)), None
            elif args.target in BENCHMARKS:
                dataset, benchmark = benchmark_dataset(args.target, root), BENCHMARKS[args.target]
            else:
                dataset = _of_config(args.target)
                benchmark = BENCHMARKS.get(dataset.benchmark or "")
            report = check_dataset(dataset, benchmark, console, args.allow, args.workers)
    except DatasetNotFound as error:
        say(f"error: {error}", "red", stderr=False)
        emit("error", error=str(error), exit_status=PART)
        return PART
    if min(args.look, report.images - len(report.failures)) >= FEWEST_PHOTOS:
        look_at(report, dataset, args.look, console)
    if args.picture is not None:
        from ovseg.results.images import write_image

        write_image(args.picture, draw_samples(dataset, report.flagged))
    emit("report", **report.to_dict())
    print_report(report, args.per_class)
    return PART if report.problems else DONE


def _of_config(name: str) -> SegmentationDataset:
    from ovseg.datasets import BENCHMARKS
    from ovseg.engine import load_config

    if not name.endswith((".py", ".json", ".yaml", ".yml")) and "/" not in name:
        raise SetupError(
            f"there is no benchmark {name!r}{suggestion(name, BENCHMARKS)}, and it is no config file (there are "
            f"{', '.join(sorted(BENCHMARKS))})"
        )
    cfg = load_config(name)
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader")
    if not loader:
        raise SetupError(f"config {name} has no test_dataloader: it names no data set")
    return _build(loader["dataset"])
