"""The table of a suite as Markdown, CSV, JSON and a page with pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import cv2

from ovseg import pages
from ovseg.datasets.files import atomic_path, write_json
from ovseg.evaluation.confusion import MIOU_RULE
from ovseg.suite.cells import Cell
from ovseg.suite.definition import Suite

_DIGITS = 12  # of a fingerprint, shown


def write_tables(suite: Suite, cells: Sequence[Cell], folder: Path) -> dict[str, Path]:
    """Write ``suite.json``, ``.csv``, ``.md`` and ``.html``; the files by their kind."""
    files = {kind: folder / f"suite.{kind}" for kind in ("json", "csv", "md", "html")}
    published = {"published": {k: dict(v) for k, v in suite.published.items()}, "source": suite.source}
    value = {"suite": suite.name, "miou_rule": MIOU_RULE, "limit": suite.limit, **published}
    means = {m.name: dict(zip(suite.groups, _means(suite, cells, m.name), strict=True)) for m in suite.methods}
    write_json(files["json"], {**value, "groups": means, "cells": [asdict(cell) for cell in cells]})
    with atomic_path(files["csv"]) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([f.name for f in fields(Cell)])
        for cell in cells:
            values = asdict(cell)
            values["notes"] = "; ".join(cell.notes)
            writer.writerow(["" if value is None else value for value in values.values()])
    for kind, make in (("md", markdown), ("html", html_page)):
        with atomic_path(files[kind]) as temporary:
            temporary.write_text(make(suite, cells), encoding="utf-8")
    return files


def markdown(suite: Suite, cells: Sequence[Cell]) -> str:
    """The table in Markdown: measured mIoU, what was expected, the verdict, the data's fingerprint."""
    names = [data.name for data in suite.datasets]
    lines = [f"# {_plain(suite.name)}", "", _about(suite), ""]
    columns = [*names, *suite.groups]
    lines += ["| method | " + " | ".join(map(_plain, columns)) + " |", "|---|" + "---:|" * len(columns)]
    for method in suite.methods:
        row = [_cell_line(found) for found in _row(cells, method.name, names)]
        row += [_mean(value) for value in _means(suite, cells, method.name)]
        lines.append(f"| {method.name} | " + " | ".join(row) + " |")
    for name, row in suite.published.items():
        lines.append(f"| *{_plain(name)}* | " + " | ".join(_published(row.get(n)) for n in columns) + " |")
    if suite.published:
        lines += ["", f"In italics: published numbers ({_plain(suite.source or 'source not stated')})."]
    lines += ["", "| data set | images | fingerprint |", "|---|---:|---|"]
    for name, images, fingerprint in _data(suite, cells):
        lines.append(f"| {name} | {images} | `{fingerprint}` |")
    told = _told(cells)
    if told:
        lines += ["", *(f"- {_plain(line)}" for line in told)]
    return "\n".join(lines) + "\n"


def html_page(suite: Suite, cells: Sequence[Cell]) -> str:
    """The table as one page, with the pictures of every cell."""
    names = [data.name for data in suite.datasets]
    rows = [
        [
            pages.text(method.name),
            *(_cell_markup(found) for found in _row(cells, method.name, names)),
            *(f'<span class="big">{_mean(value)}</span>' for value in _means(suite, cells, method.name)),
        ]
        for method in suite.methods
    ]
    rows += [
        [f"<i>{pages.text(name)}</i>", *(f"<i>{_published(row.get(n))}</i>" for n in (*names, *suite.groups))]
        for name, row in suite.published.items()
    ]
    judged = [cell for cell in cells if cell.ok is not None]
    expected = [("as expected", f"{sum(bool(c.ok) for c in judged)} of {len(judged)}")] if suite.expected else []
    body = [
        f"<h1>{pages.text(suite.name)}</h1>",
        f'<p class="soft">{pages.text(_about(suite))}</p>',
        pages.cards(
            [
                ("cells", f"{sum(c.mIoU is not None for c in cells)} of {len(cells)}"),
                *expected,
                ("seconds", f"{sum(c.seconds for c in cells):.0f}"),
            ]
        ),
        pages.table(["method", *map(pages.text, (*names, *suite.groups))], rows),
    ]
    if suite.published:
        body.append(f'<p class="soft small">In italics: published numbers ({pages.text(suite.source)}).</p>')
    facts = ([pages.text(n), str(images), f"<code>{f}</code>"] for n, images, f in _data(suite, cells))
    body += ["<h2>Data</h2>", pages.table(["data set", "images", "fingerprint"], facts)]
    told = _told(cells)
    if told:
        body += ["<h2>Notes</h2><ul>", *(f"<li>{pages.text(line)}</li>" for line in told), "</ul>"]
    for data in suite.datasets:
        figures = list(_figures(cells, data.name))
        if figures:
            body += [f"<h2>{pages.text(data.name)}: first photos</h2>", '<div class="tiles">', *figures, "</div>"]
    return pages.page(suite.name, body)


def _about(suite: Suite) -> str:
    part = f" First {suite.limit} samples of each data set." if suite.limit else ""
    return f"mIoU in percent.{part} {MIOU_RULE}."


def _row(cells: Sequence[Cell], method: str, names: Sequence[str]) -> Iterator[Cell | None]:
    found = {cell.dataset: cell for cell in cells if cell.method == method}
    yield from (found.get(name) for name in names)


def _means(suite: Suite, cells: Sequence[Cell], method: str) -> Iterator[float | None]:
    """A method's mean over each group."""
    values = {cell.dataset: cell.mIoU for cell in cells if cell.method == method}
    yield from (suite.group_mean(name, values) for name in suite.groups)


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _cell_line(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    if cell.mIoU is None:
        return _plain(cell.verdict)
    expected = "" if cell.expected is None else f", expected {cell.expected:.2f} ± {cell.tolerance:g}"
    verdict = "" if cell.ok is None and cell.verdict == "nothing expected" else f": {_plain(cell.verdict)}"
    return f"{cell.mIoU:.2f}{expected}{verdict} (`{str(cell.fingerprint)[:_DIGITS]}`)"


def _cell_markup(cell: Cell | None) -> str:
    if cell is None:
        return '<span class="soft">-</span>'
    kind = {True: "good", False: "bad", None: "soft"}[cell.ok]
    verdict = f'<span class="{kind} small">{pages.text(cell.verdict)}</span>'
    if cell.mIoU is None:
        return verdict
    expected = "" if cell.expected is None else f", expected {cell.expected:.2f} ± {cell.tolerance:g}"
    facts = f"{cell.images} images, {cell.seconds:.1f} s{expected}"
    fingerprint = f"<code>{pages.text(str(cell.fingerprint)[:_DIGITS])}</code>"
    return (
        f'<span class="big">{cell.mIoU:.2f}</span><br>{verdict}<br>'
        f'<span class="soft small">{facts}</span><br>{fingerprint}'
    )


def _published(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _data(suite: Suite, cells: Sequence[Cell]) -> Iterator[tuple[str, str, str]]:
    for data in suite.datasets:
        found = [cell for cell in cells if cell.dataset == data.name and cell.mIoU is not None]
        kinds = {(cell.images, cell.fingerprint) for cell in found}
        for images, fingerprint in sorted(kinds, key=str):
            yield data.name, str(images), str(fingerprint)


def _told(cells: Sequence[Cell]) -> list[str]:
    """What the table alone does not say."""
    told = [f"{cell.method} on {cell.dataset}: {note}" for cell in cells for note in cell.notes]
    for name in dict.fromkeys(cell.dataset for cell in cells):
        prints = {cell.fingerprint for cell in cells if cell.dataset == name and cell.mIoU is not None}
        if len(prints) > 1:
            told.append(f"{name}: the methods were evaluated on {len(prints)} different states of the data")
    commits = {cell.git_commit for cell in cells if cell.mIoU is not None}
    if len(commits) > 1:
        told.append(f"cells come from different versions of ovseg: {', '.join(sorted(map(str, commits)))}")
    return told


def _figures(cells: Sequence[Cell], dataset: str) -> Iterator[str]:
    for cell in cells:
        folder = Path(cell.work_dir) / "pictures"
        if cell.dataset != dataset or cell.mIoU is None or not folder.is_dir():
            continue
        for path in sorted(folder.rglob("*.png")):
            pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
            if pixels is not None:
                yield pages.picture(pixels, f"{cell.method}: {path.relative_to(folder).with_suffix('').as_posix()}")


def _plain(value: str) -> str:
    """Text that does not end a cell of a Markdown table."""
    return " ".join(value.replace("|", "/").split())
