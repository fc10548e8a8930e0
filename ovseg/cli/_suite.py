"""``ovseg eval --suite FILE``: methods x data sets, one table."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ovseg.cli._output import console, emit, say
from ovseg.cli._status import DONE, PART
from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg.suite import Cell, Suite, SuiteData, SuiteMethod

_ALONE = ("config", "checkpoint", "out", "show_dir", "vocabulary", "images", "masks", "classes", "cfg_options")


def run_suite(args: argparse.Namespace) -> int:
    """Evaluate all cells that are not finished, write the tables; returns the exit status.

    Raises:
        SetupError: for a suite file that is none, or options that belong to a single evaluation.
    """
    from ovseg.engine import hold_work_dir
    from ovseg.suite import read_suite, write_tables

    given = [name for name in _ALONE if getattr(args, name)]
    if given:
        told = given[0] if given[0] in ("config", "checkpoint") else f"--{given[0].replace('_', '-')}"
        raise SetupError(f"{told} belongs to a single evaluation; write it into the suite file {args.suite}")
    if args.launcher != "none":
        raise SetupError("--suite runs in one process; start without --launcher")
    suite = read_suite(args.suite)
    if args.limit is not None:
        suite = replace(suite, limit=args.limit)
    folder = Path(args.work_dir or Path("work_dirs") / Path(args.suite).stem)
    cells: list[Cell] = []
    fingerprints: dict[str, str] = {}
    with hold_work_dir(folder):
        for data in suite.datasets:
            for method in suite.methods:
                say(f"{data.name} · {method.name}", "bold")
                cells.append(_cell(suite, method, data, folder, fingerprints, args.resume, args.report is not None))
                emit("cell", **asdict(cells[-1]))
                files = write_tables(suite, cells, folder)  # nothing finished is lost
    if args.report is not None:
        files["report"] = args.report
        _write_report(suite, cells, args.report)
    _print(suite, cells)
    wrong = [cell for cell in cells if cell.ok is False or cell.mIoU is None]
    emit("suite", suite=suite.name, cells=len(cells), wrong=len(wrong), files=files)
    say(f"written: {', '.join(map(str, files.values()))}", stderr=False)
    return PART if wrong else DONE


def _cell(
    suite: Suite,
    method: SuiteMethod,
    data: SuiteData,
    folder: Path,
    fingerprints: dict[str, str],
    resume: bool,
    report: bool,
) -> Cell:
    """One cell, evaluated or found finished; what keeps it from running is its verdict."""
    from ovseg.datasets.errors import DatasetNotFound
    from ovseg.suite import Cell, cell_config, evaluate_cell, finished_cell
    from ovseg.weights.errors import WeightsError

    work_dir = folder / "cells" / data.name / method.name
    try:
        cfg, notes = cell_config(method, data, suite.limit)
        cell = finished_cell(work_dir, cfg, fingerprints) if resume else None
        if cell is not None:
            say("finished before", "dim")
        else:
            begun = resume and not (work_dir / "cell.json").is_file()
            cell = evaluate_cell(
                (method.name, data.name),
                cfg,
                work_dir,
                fingerprints,
                notes=notes,
                pictures=suite.pictures,
                resume=begun,
                report=report,
            )
    except (DatasetNotFound, WeightsError, OSError, ValueError) as error:
        say(f"not run: {error}", "red")
        cell = Cell(method.name, data.name, verdict=f"not run: {' '.join(str(error).split())}")
    return cell.judged(suite)


def _write_report(suite: Suite, cells: list[Cell], path: Path) -> None:
    """The error reports of all cells as one page."""
    from ovseg.datasets.files import atomic_path
    from ovseg.report import suite_page

    folders = [(cell.method, cell.dataset, Path(cell.work_dir) / "report") for cell in cells]
    with atomic_path(path) as temporary:
        temporary.write_text(suite_page(suite.name, folders), encoding="utf-8")


def _print(suite: Suite, cells: list[Cell]) -> None:
    table = Table(title=Text(suite.name))
    table.add_column("method")
    for data in suite.datasets:
        table.add_column(data.name, justify="right")
    found = {(cell.method, cell.dataset): cell for cell in cells}
    for method in suite.methods:
        row = []
        for data in suite.datasets:
            cell = found[method.name, data.name]
            colour = {True: "green", False: "red", None: ""}[cell.ok]
            number = "-" if cell.mIoU is None else f"{cell.mIoU:.2f}"
            row.append(Text(f"{number}\n{cell.verdict.partition(':')[0]}", colour))
        table.add_row(Text(method.name), *row)
    console().print(table)
    for cell in cells:  # a column is too narrow for reasons
        if ":" in cell.verdict:
            say(f"{cell.method} on {cell.dataset}: {cell.verdict}", "red", stderr=False)
