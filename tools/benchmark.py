"""Where the time goes, and how much of it there was before.

    python tools/benchmark.py                                    # all methods on VOC21's settings: time per stage
    python tools/benchmark.py --methods sclip --precision bf16 --benchmark cityscapes --csv out.csv --picture out.png
    python tools/benchmark.py --methods configs/nano/sclip_nano_scenes.py
    python tools/benchmark.py --methods sclip --compare ../older    # another checkout, or a config: --compare CONFIG
    python tools/benchmark.py --ops argmax21 correlation --full  # operators against the official structure
    python tools/benchmark.py --bars --json bars.json            # the figures the project promised; --only NAME ...
    python tools/benchmark.py --speed --csv docs/benchmark/speed.csv   # methods x precisions beside the naive form
    python tools/benchmark.py --accuracy 60 --csv docs/benchmark/accuracy.csv   # what precisions cost nano
    python tools/benchmark.py --curves --csv curves.csv --picture curves.png
    python tools/benchmark.py --costs --csv docs/benchmark/trained.csv   # trained methods: parameters, GMACs, memory

Weights are random stand-ins in the official architectures unless ``--weights real``: times and memory are those of the
real ones, labels mean nothing. Text is embedded once and not measured. ``docs/benchmark.md`` explains the columns.

Exit codes: 0; 1 a bar does not hold; 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this folder is not installed

from ovseg.backbones.precision import DTYPES, PRECISIONS, settle
from ovseg.engine.memory import keep_freed_memory
from ovseg.structures import resolve_device
from ovseg.weights import WeightsError
from tools.benchmarking.bars import GROUPS, Bar, Plan, measure_bars
from tools.benchmarking.clock import CLOCKS, Clock, machine, matmul_roofline
from tools.benchmarking.compare import Setting, Side, SideError, compare, compare_rows, compare_table
from tools.benchmarking.costs import PHOTO, cost_row, costed
from tools.benchmarking.curves import ALONG_CLASSES, ALONG_PIXELS, WEIGHTS, curve, describe
from tools.benchmarking.methods import PAPER_METHODS, SIZES, build_job, config_of, scene_photo
from tools.benchmarking.naive import CASES
from tools.benchmarking.operators import Comparison, compare_case
from tools.benchmarking.report import draw_curves, draw_stages, stage_rows, stage_table, write_csv
from tools.benchmarking.speed import Rates, accuracy_rows, precisions_here, speed_rows
from tools.benchmarking.stages import measure_stages

ROOT = Path(__file__).resolve().parent.parent


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--compare", metavar="REF", help="another checkout of ovseg, or another config file")
    mode.add_argument("--bars", action="store_true", help="the promised figures")
    mode.add_argument("--speed", action="store_true", help="methods in all precisions, beside the naive form")
    mode.add_argument(
        "--accuracy", type=int, metavar="N", help="labels and mIoU of nano in all precisions on N scenes (0: all)"
    )
    mode.add_argument("--curves", action="store_true", help="time and memory over pixels and classes")
    mode.add_argument("--costs", action="store_true", help="parameters, GMACs, time and memory of trained methods")
    mode.add_argument("--ops", nargs="*", metavar="CASE", help=f"operators: {', '.join(CASES)} (none given: all)")
    parser.add_argument("--methods", nargs="+", help="method names or config files")
    parser.add_argument("--benchmark", choices=tuple(SIZES), default="voc21", help="settings of the methods (voc21)")
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, help="default: fp32 bf16; --speed, --accuracy: also auto and int8"
    )
    parser.add_argument("--weights", choices=("standin", "real"), default="standin")
    parser.add_argument("--photo", type=Path, help="a photo (default: put together from the embedded scenes)")
    parser.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="size of the default photo")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time, on a busy machine")
    parser.add_argument("--device", default="cpu", help="for stages and --speed: cpu, cuda, cuda:1 ...")
    parser.add_argument("--csv", type=Path, help="write the figures to this file")
    parser.add_argument("--picture", type=Path, help="draw the figures into this PNG")
    parser.add_argument("--json", type=Path, help="--bars: write [{name, value, target, holds}] to this file")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help=f"--bars: {', '.join(GROUPS)}")
    parser.add_argument(
        "--series", nargs="+", choices=tuple(WEIGHTS), default=list(WEIGHTS), help="--curves: which CLIP"
    )
    parser.add_argument("--sides", nargs="+", type=int, default=ALONG_PIXELS, help="--curves: sides of the photos")
    parser.add_argument("--full", action="store_true", help="--ops: the sizes of the real methods")
    args = parser.parse_args(argv)
    if args.repeats < 1 or args.threads < 1:
        parser.error("--repeats and --threads: at least 1")
    if unknown := set(args.ops or ()) - set(CASES):
        parser.error(f"--ops: unknown {', '.join(sorted(unknown))}; choose from {', '.join(CASES)}")
    if unknown := set(args.only) - set(GROUPS):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; choose from {', '.join(GROUPS)}")
    every = ["fp32", "bf16", "auto", "int8"]
    args.methods = args.methods or (None if args.costs else list(PAPER_METHODS))
    args.precision = args.precision or (every if args.speed or args.accuracy is not None else every[:2])
    if args.photo is not None and not args.photo.is_file():
        parser.error(f"--photo: no file {args.photo}")
    return args


def photo_of(args: argparse.Namespace) -> Path:
    """The photo that is measured on."""
    size = tuple(args.size) if args.size else SIZES[args.benchmark]
    return args.photo or scene_photo(size, photo_folder())


def photo_folder() -> Path:
    """Where photos that are put together lie."""
    return Path(tempfile.gettempdir()) / f"ovseg-benchmark-photos-{os.getuid()}"


def config_file(method: str, benchmark: str) -> Path:
    """A config file given as such, or a method's on a benchmark."""
    return Path(method).resolve() if method.endswith(".py") else config_of(method, benchmark)


def run_stages(args: argparse.Namespace, console: Console) -> int:
    """Time, memory and FLOPs per stage."""
    args.device = str(resolve_device(args.device))
    clock, photo, figures = Clock(args.clock, args.device), photo_of(args), []
    for precision in args.precision:
        base = settle(precision, torch.device(args.device)).base
        roofline = matmul_roofline(DTYPES[base], clock, args.device)
        console.print(f"roofline {base}: {roofline / 1e9:.0f} GFLOP/s in a large matrix product")
        for method in args.methods:
            job = build_job(config_file(method, args.benchmark), photo, precision, args.weights, args.device)
            figures.append(measure_stages(job, precision, args.weights, args.repeats, clock, roofline, args.device))
            console.print(f"{job.name} {precision}: {figures[-1].total * 1e3:.0f} ms")
    console.print(stage_table(figures))
    if args.csv:
        write_csv(args.csv, stage_rows(figures, machine()))
    if args.picture and not draw_stages(args.picture, figures, title(args)):
        console.print("no picture: matplotlib is not installed (it comes with mmsegmentation)")
    return 0


def run_speed(args: argparse.Namespace, console: Console) -> int:
    """All methods in all precisions; each row is printed as soon as it is measured."""
    args.device = str(resolve_device(args.device))
    clock = Clock(args.clock, args.device)
    rates, precisions, rows = Rates.measured(clock, args.device), precisions_here(args.precision, args.device), []
    console.print(f"large products: fp32 {rates.fp32 / 1e9:.0f}, bf16 {rates.bf16 / 1e9:.0f} GFLOP/s", highlight=False)
    for method in args.methods:
        config = config_file(method, args.benchmark)
        for row in speed_rows(config, photo_of(args), precisions, args.repeats, clock, rates, args.device):
            rows.append(row)
            _say_row(console, row)
        if args.csv:
            write_csv(args.csv, [row | machine() for row in rows])
    console.print(figures_table(rows, SPEED_COLUMNS, title(args)))
    return 0


SPEED_COLUMNS = dict(
    method="method",
    computed_in="computed in",
    ms="ms",
    share_of_best_rate="share of best rate",
    target_share="aim",
    fp32_over_this="fp32 / this",
    naive_fp32_over_this="naive fp32 / this",
    naive_best_over_this="naive best / this",
    peak_mib="peak MiB",
    naive_fp32_peak_mib="naive fp32 peak MiB",
    agreement_with_fp32="labels as fp32",
    agreement_with_naive="labels as naive",
)


def figures_table(rows: Sequence[dict[str, object]], columns: Mapping[str, str], caption: str) -> Table:
    """Methods as a table: a column per figure that bars are about.

    Args:
        columns: keys of a row to headings.
    """
    table = Table(title=caption)
    for name, heading in columns.items():
        table.add_column(heading, justify="left" if name in ("method", "computed_in") else "right")
    for row in rows:
        table.add_row(*(Text(str(row[name])) for name in columns))
    return table


def run_accuracy(args: argparse.Namespace, console: Console) -> int:
    """What precisions cost, on nano's scenes."""
    rows, precisions = [], precisions_here(args.precision)
    for method in args.methods:
        for row in accuracy_rows(method, precisions, args.accuracy or None):
            rows.append(row)
            _say_row(console, row)
        if args.csv:
            write_csv(args.csv, [row | machine() for row in rows])
    return 0


def _say_row(console: Console, row: dict[str, object]) -> None:
    console.print("  ".join(f"{name} {value}" for name, value in row.items()), highlight=False, markup=False)


def run_costs(args: argparse.Namespace, console: Console) -> int:
    """Trained methods, a row each, in fp32; each row is printed as soon as it is measured."""
    clock, rows = Clock(args.clock), []
    photo = args.photo or scene_photo(tuple(args.size) if args.size else PHOTO, photo_folder())
    for config, recipe in costed(args.methods).items():
        rows.append(cost_row(config, recipe, photo, args.repeats, clock))
        _say_row(console, rows[-1])
        if args.csv:
            write_csv(args.csv, [row | machine() for row in rows])
    console.print(figures_table(rows, COST_COLUMNS, title(args)))
    return 0


COST_COLUMNS = dict(
    method="method",
    image_parameters_m="parameters, M",
    text_parameters_m="of words, M",
    gmac="GMAC",
    seconds="s",
    whole_maps_over_this="whole maps / this",
    mib="MiB",
    whole_maps_mib="whole maps, MiB",
    trained_m="trains, M",
    training_s="s a step",
    training_mib="MiB a step",
)


def run_compare(args: argparse.Namespace, console: Console) -> int:
    """This checkout beside another one, or a config beside another one."""
    other, rows = Path(args.compare).resolve(), []
    for method in args.methods:
        for precision in args.precision:
            setting = Setting(photo_of(args).resolve(), precision, args.weights, args.threads, args.clock)
            config = config_file(method, args.benchmark)
            if other.is_dir():
                second = (other, str(config.relative_to(ROOT / "configs")), setting)
            else:
                second = (ROOT, str(other), setting)
            with closing(Side(ROOT, str(config), setting)) as here, closing(Side(*second)) as there:
                runs = compare(dict(here=here, there=there), args.repeats)
            rows += [dict(row, precision=precision) for row in compare_rows(f"{config.stem} {precision}", runs)]
    names = (str(ROOT), str(other))
    console.print(compare_table([{k: v for k, v in row.items() if k != "precision"} for row in rows], names))
    if args.csv:
        write_csv(args.csv, [dict(row, here=names[0], there=names[1], **machine()) for row in rows])
    return 0


def run_ops(args: argparse.Namespace, console: Console) -> int:
    """Operators: time ratio and memory of the official structure and of ovseg."""
    clock = Clock(args.clock)
    found: list[Comparison] = []
    for name in args.ops or CASES:
        found.append(compare_case(name, args.full, args.repeats, clock))
        _say_row(console, ops_row(found[-1]))  # minutes apart at full size: what is measured is not lost
        if args.csv:
            write_csv(args.csv, [ops_row(f) | machine() for f in found])
    console.print(ops_table(found, f"{args.threads} thread(s), {args.clock} time, median of {args.repeats}"))
    return 0


def ops_row(figures: Comparison) -> dict[str, object]:
    """A case as a row of figures."""
    return dict(
        case=figures.name,
        title=figures.title,
        naive_ms=round(figures.median("naive") * 1e3, 2),
        ovseg_ms=round(figures.median("fused") * 1e3, 2),
        faster=round(figures.speed, 2),
        naive_mib=round(figures.memory["naive"] / 2**20, 1),
        ovseg_mib=round(figures.memory["fused"] / 2**20, 1),
        less_memory=round(figures.memory_ratio, 2),
        difference=figures.difference_text,
    )


def ops_table(found: Sequence[Comparison], caption: str) -> Table:
    """Cases as a table."""
    rows = [ops_row(figures) for figures in found]
    table = Table(title=caption)
    for column in (c for c in rows[0] if c != "case"):
        table.add_column(column, justify="left" if column in ("title", "difference") else "right")
    for row in rows:
        table.add_row(*(Text(str(value)) for key, value in row.items() if key != "case"))
    return table


def run_bars(args: argparse.Namespace, console: Console) -> int:
    """The promised figures; each is printed and written as soon as it is measured."""
    plan = Plan(args.repeats, Clock(args.clock))
    bars: list[Bar] = []
    for bar in measure_bars(args.only, plan, args.json):
        bars.append(bar)
        mark = "[green]holds[/]" if bar.holds else "[red]does not hold[/]"
        console.print(f"{bar.name}: {bar.value:g} (target {bar.target:g}) {mark}  {escape(bar.note)}", highlight=False)
    if args.csv:
        write_csv(args.csv, [vars(bar) | machine() for bar in bars])
    return 0 if all(bar.holds for bar in bars) else 1


def run_curves(args: argparse.Namespace, console: Console) -> int:
    """Cost against work."""
    points = curve(args.sides, ALONG_CLASSES, Clock(args.clock), args.repeats, args.series)
    table = Table(*points[0], title=title(args))
    for point in points:
        table.add_row(*(Text(str(value)) for value in point.values()))
    console.print(table)
    if args.csv:
        write_csv(args.csv, [point | machine() for point in points])
    if args.picture and not draw_curves(args.picture, points, f"{describe(points)}\n{title(args)}"):
        console.print("no picture: matplotlib is not installed (it comes with mmsegmentation)")
    return 0


def title(args: argparse.Namespace) -> str:
    """The machine in one line."""
    facts = machine()
    weights = "random stand-in weights" if args.weights == "standin" else "real weights"
    if args.curves and "nano" in args.series:
        weights = "nano's own weights" + (f", others {weights}" if len(args.series) > 1 else "")
    where = f"{facts.get('gpu', facts['cpu'])}, {facts['threads']} thread(s), torch {facts['torch']}"
    return f"{where}, {args.clock} time, {weights}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code (see the module's docstring)."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as the command line and the evaluation do
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(f"{title(args)}; {machine()['cores']} core(s) available", highlight=False)
    modes = (
        (args.compare, run_compare),
        (args.bars, run_bars),
        (args.curves, run_curves),
        (args.speed, run_speed),
        (args.costs, run_costs),
        (args.accuracy is not None, run_accuracy),
        (args.ops is not None, run_ops),
    )
    run = next((run for wanted, run in modes if wanted), run_stages)
    try:
        with torch.no_grad():
            return run(args, console)
    except (FileNotFoundError, ValueError, SideError, WeightsError) as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())
