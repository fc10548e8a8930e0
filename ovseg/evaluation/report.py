"""The tables that end an evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ovseg.evaluation.confusion import MIOU_RULE
from ovseg.evaluation.result import ResultRow


def summary_table(row: ResultRow) -> Table:
    """One line with the means of a run; the rule of the means stands below it."""
    caption = MIOU_RULE.replace("; ", "\n")
    if not row.complete:
        caption += "\nNot the whole benchmark: not comparable to published numbers."
    table = Table(title=Text(f"{row.method} on {row.dataset}"), caption=Text(caption))
    for name in ("mIoU", "mIoU_present", "aAcc", "mAcc", "images", "skipped", "short side", "img/s", "peak MiB"):
        table.add_column(name, justify="right")
    table.add_row(
        *(_number(v) for v in (row.mIoU, row.mIoU_present, row.aAcc, row.mAcc)),
        str(row.images),
        str(row.skipped),
        str(row.short_side or "-"),
        f"{row.images / row.seconds:.2f}" if row.seconds else "-",
        _number(row.peak_cuda_mb if row.peak_cuda_mb is not None else row.peak_rss_mb, 0),
    )
    return table


def class_table(records: Sequence[dict[str, object]], everything: bool = False, ends: int = 5) -> Table:
    """IoU and accuracy per class, best first.

    Args:
        records: of :meth:`ovseg.evaluation.SegSummary.per_class`.
        everything: all classes; else the ``ends`` best and worst of those with ground truth, where there are many.
        ends: how many.
    """
    defined = [r for r in records if everything or r["pixels"]]
    order = sorted(defined, key=lambda r: -1.0 if r["iou"] is None else r["iou"], reverse=True)
    table = Table(title="per class")
    table.add_column("class")
    for name in ("IoU", "Acc", "pixels", "predicted"):
        table.add_column(name, justify="right")
    shortened = not everything and len(order) > 4 * ends
    for i, record in enumerate(order):
        if shortened and ends <= i < len(order) - ends:
            if i == ends:
                table.add_row(f"... {len(order) - 2 * ends} more (--per-class)", "", "", "", "")
            continue
        numbers = (_number(record["iou"]), _number(record["acc"]))
        table.add_row(Text(str(record["name"])), *numbers, f"{record['pixels']:,}", f"{record['predicted']:,}")
    return table


def failure_table(failures: Sequence[dict[str, object]], most: int = 20) -> Table:
    """The samples that were skipped, with the reason; the rest is in ``failures.json``."""
    table = Table(title=f"{len(failures)} samples skipped")
    table.add_column("sample")
    table.add_column("reason")
    for failure in failures[:most]:
        table.add_row(Text(str(failure["name"])), Text(str(failure["error"])))
    if len(failures) > most:
        table.add_row(f"... {len(failures) - most} more", "see failures.json")
    return table


def _number(value: object, digits: int = 2) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
