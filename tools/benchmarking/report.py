"""Tables, CSV files and pictures of what was measured."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from tools.benchmarking.stages import STAGES, MethodFigures

COLOURS = dict(
    zip(
        STAGES,
        (
            "#7f7f7f",
            "#c7c7c7",
            "#1f77b4",
            "#2ca02c",
            "#9467bd",
            "#ff7f0e",
            "#17becf",
            "#8c564b",
            "#d62728",
            "#bcbd22",
            "#eeeeee",
        ),
        strict=True,
    )
)


def stage_table(figures: Sequence[MethodFigures]) -> Table:
    """One row per method and precision; milliseconds per stage that any of them has."""
    used = [s for s in STAGES if any(s in f.seconds for f in figures)]
    table = Table(title="milliseconds per image, by stage (stages without work are left out)")
    table.add_column("method")
    table.add_column("precision")
    for name in (*used, "total", "images/s", "peak MiB", "of roofline"):
        table.add_column(name, justify="right")
    for f in figures:
        cells = [f"{f.seconds[s] * 1e3:.0f}" if s in f.seconds else "" for s in used]
        table.add_row(
            f.name,
            f.precision,
            *cells,
            f"{f.total * 1e3:.0f}",
            f"{1 / f.total:.2f}",
            f"{f.peak / 2**20:.0f}",
            f"{f.roofline_share():.0%}",
        )
    return table


def stage_rows(figures: Sequence[MethodFigures], facts: Mapping[str, object]) -> list[dict[str, object]]:
    """One row per method, precision and stage, and one ``total``, with the machine in every row."""
    rows: list[dict[str, object]] = []
    for f in figures:
        for stage in (*(s for s in STAGES if s in f.seconds), "total"):
            whole = stage == "total"
            seconds = f.total if whole else f.seconds[stage]
            rows.append(
                dict(
                    method=f.name,
                    precision=f.precision,
                    weights=f.weights,
                    photo=f"{f.size[0]}x{f.size[1]}",
                    stage=stage,
                    ms=round(seconds * 1e3, 3),
                    share=round(seconds / f.total, 4),
                    images_per_s=round(1 / f.total, 4) if whole else "",
                    peak_mib=round((f.peak if whole else f.memory.get(stage, 0)) / 2**20, 1),
                    gflop=round((sum(f.flops.values()) if whole else f.flops.get(stage, 0)) / 1e9, 2),
                    roofline_share=round(f.roofline_share(None if whole else stage), 4),
                    roofline_gflops=round(f.roofline / 1e9, 1),
                    repeats=f.repeats,
                    clock=f.clock,
                    **facts,
                )
            )
    return rows


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows of equal keys to a CSV file; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _pyplot():
    """matplotlib's pyplot without a window, or ``None`` where it is not installed (it comes with mmsegmentation)."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def draw_stages(path: Path, figures: Sequence[MethodFigures], note: str) -> bool:
    """A stacked bar per method and precision; ``False`` where matplotlib is missing."""
    plt = _pyplot()
    if plt is None:
        return False
    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.45 * len(figures)))
    labels = [f"{f.name} {f.precision}" for f in figures]
    left = [0.0] * len(figures)
    for stage in STAGES:
        widths = [f.seconds.get(stage, 0.0) for f in figures]
        if any(widths):
            axes.barh(labels, widths, left=left, color=COLOURS[stage], edgecolor="white", linewidth=0.4, label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("seconds per image")
    axes.set_title(note, fontsize=8)
    axes.legend(fontsize=7, ncols=5)
    _save(plt, figure, path)
    return True


def draw_curves(path: Path, rows: Sequence[Mapping[str, object]], note: str) -> bool:
    """Time and memory against pixels and classes, log-log; ``False`` where matplotlib is missing."""
    plt = _pyplot()
    if plt is None:
        return False
    figure, grid = plt.subplots(2, 2, figsize=(9, 6), constrained_layout=True)
    for column, along in enumerate(("pixels", "classes")):
        for row, (key, unit) in enumerate((("ms", "milliseconds"), ("peak_mib", "peak memory, MiB"))):
            axes = grid[row][column]
            for series in dict.fromkeys(r["series"] for r in rows if r["along"] == along):
                points = [r for r in rows if r["along"] == along and r["series"] == series]
                axes.plot([p["value"] for p in points], [p[key] for p in points], marker="o", label=series)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(along)
            axes.set_ylabel(unit)
            axes.grid(alpha=0.3, which="both")
            axes.legend(fontsize=7)
    figure.suptitle(note, fontsize=9)
    _save(plt, figure, path)
    return True


def _save(plt, figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
