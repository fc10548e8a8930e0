"""The error report as markup."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ovseg import pages
from ovseg.evaluation.confusion import MIOU_RULE, SegSummary
from ovseg.evaluation.error_statistics import BINS, NEAR, ZONES, ErrorStatistics
from ovseg.report.store import Collected

_NONE = '<span class="soft">-</span>'


def error_sections(
    found: Collected, names: Sequence[str], summary: SegSummary, notes: Sequence[str] = (), most: int = 20
) -> list[str]:
    """The sections of a page.

    Args:
        found: what the processes left.
        names: of the classes.
        summary: of the whole evaluation.
        notes: sentences that are told first.
        most: pairs of confused classes.
    """
    statistics = found.statistics
    ece = statistics.ece()
    zones = {row["zone"]: row for row in statistics.zones()}
    cards = [(name, f"{value:.2f}") for name, value in summary.means().items()]
    cards += [("photos", str(statistics.photos))]
    cards += [(f"accuracy, {zone}", _number(zones[zone]["accuracy"], 1)) for zone in ZONES]
    cards += [] if ece is None else [("calibration error (ECE)", f"{ece:.2f}")]
    told = [f"<li>{pages.text(note)}</li>" for note in notes]
    return [
        f'<p class="soft">Percent. {pages.text(MIOU_RULE)}.</p>',
        *(["<ul>", *told, "</ul>"] if told else []),
        pages.cards(cards),
        *_zones(statistics),
        *_pairs(statistics, names, most),
        *_sizes(statistics),
        *_calibration(statistics),
        *_worst(found),
        *_classes(found, names, summary),
    ]


def _zones(statistics: ErrorStatistics) -> Iterator[str]:
    yield "<h2>Where the errors are</h2>"
    yield (
        '<p class="soft">Three kinds of pixels, by the ground truth: of a small object (a connected region of one '
        f"class of at most 1/300 of its photo, COCO's small); else within {NEAR} pixels of a boundary, where drawing "
        "is hard; else the interior, where a wrong class is one that was confused.</p>"
    )
    head = ["pixels", "share", "accuracy", "mIoU", "errors", "of all errors", ""]
    rows = []
    for row in statistics.zones():
        share, of_errors = row["share"], row["of_errors"]
        numbers = [f"{share:.1%}", _number(row["accuracy"], 1), _number(row["mIoU"], 1)]
        rows.append([row["zone"], *numbers, f"{row['errors']:,}", f"{of_errors:.1%}", _bar(of_errors)])
    yield pages.table(head, rows)


def _pairs(statistics: ErrorStatistics, names: Sequence[str], most: int) -> Iterator[str]:
    yield "<h2>Confusions</h2>"
    pairs = statistics.confused(most)
    if not pairs:
        yield "<p>No wrong pixel.</p>"
        return
    told = sum(pair.of_errors for pair in pairs)
    yield f'<p class="soft">The {len(pairs)} largest pairs hold {told:.1%} of all errors.</p>'
    head = ["class", "taken for", "pixels", "of the class", "of all errors", *ZONES, ""]
    top = pairs[0].of_errors
    rows = [
        [
            pages.text(names[pair.truth]),
            f'<span class="text">{pages.text(names[pair.predicted])}</span>',
            f"{pair.pixels:,}",
            f"{pair.of_class:.1%}",
            f"{pair.of_errors:.1%}",
            *(f"{share:.0%}" for share in pair.zones),
            _bar(pair.of_errors / top),
        ]
        for pair in pairs
    ]
    yield pages.table(head, rows)


def _sizes(statistics: ErrorStatistics) -> Iterator[str]:
    yield "<h2>Size of objects</h2>"
    yield (
        '<p class="soft">An object is a connected region of one class of the ground truth. Its IoU is taken with all '
        "predicted regions of its class that touch it. Found: those with an IoU of at least 50 %.</p>"
    )
    head, rows, below = ["share of the photo", "objects", "mean IoU", "found", "accuracy of pixels", ""], [], "0"
    for row in statistics.by_size():
        bound = f"{100 * row['up_to']:.2f} %" if row["up_to"] < 0.01 else f"{100 * row['up_to']:.0f} %"
        share = None if row["found"] is None else 100 * row["found"]
        numbers = [_number(row["IoU"], 1), _number(share, 1), _number(row["accuracy"], 1)]
        rows.append([f"{below} to {bound}", f"{row['objects']:,}", *numbers, _bar((row["IoU"] or 0) / 100)])
        below = bound
    yield pages.table(head, rows)


def _calibration(statistics: ErrorStatistics) -> Iterator[str]:
    yield "<h2>Calibration</h2>"
    ece = statistics.ece()
    if ece is None:
        yield "<p>This model gives no confidences.</p>"
        return
    share = statistics.unsure / (statistics.unsure + statistics.calibration[:, 0].sum())
    left = f" {share:.1%} of the pixels, to which a threshold or refiner gave another class, are left out."
    yield (
        f'<p class="soft">Expected calibration error {ece:.2f} %: the mean distance of confidence (the largest class '
        f"probability of a pixel) and accuracy over {BINS} bins, each weighed by its pixels (Guo et al., ICML 2017)."
        f"{left if statistics.unsure else ''}</p>"
    )
    yield _diagram(statistics)
    rows = [
        [f"{low:.2f} to {low + 1 / BINS:.2f}", f"{share:.2%}", _number(sure, 3), _number(right, 3)]
        for low, share, sure, right in statistics.reliability()
    ]
    yield "<details><summary>bins</summary>"
    yield pages.table(["confidence", "pixels", "mean confidence", "accuracy"], rows)
    yield "</details>"


def _diagram(statistics: ErrorStatistics, side: int = 260) -> str:
    """Accuracy by confidence; the diagonal is a calibrated model, the thin line at the foot the pixels of a bin."""
    left, step = 44, side / BINS
    parts = [f'<svg width="{side + left + 12}" height="{side + 44}" role="img" aria-label="reliability diagram">']
    most = max(share for _, share, _, _ in statistics.reliability()) or 1.0
    for i, (_, share, _, right) in enumerate(statistics.reliability()):
        x = left + i * step
        if right is not None:
            height = right * side
            place = f'x="{x + 1:.1f}" y="{side - height + 6:.1f}" width="{step - 2:.1f}" height="{height:.1f}"'
            parts.append(f'<rect {place} fill="var(--bar)"/>')
        foot = share / most * 24
        place = f'x="{x + 1:.1f}" y="{side + 6 - foot:.1f}" width="{step - 2:.1f}" height="{foot:.1f}"'
        parts.append(f'<rect {place} fill="var(--bar2)" opacity="0.8"/>')
    parts.append(f'<path d="M{left} {side + 6}L{left + side} 6" stroke="var(--soft)" stroke-dasharray="4 3"/>')
    parts.append(f'<path d="M{left} 6V{side + 6}H{left + side}" stroke="var(--soft)" fill="none"/>')
    for value in (0, 0.5, 1):
        parts.append(f'<text x="{left + value * side}" y="{side + 22}" text-anchor="middle">{value:g}</text>')
        parts.append(f'<text x="{left - 6}" y="{side + 10 - value * side}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="{left + side / 2}" y="{side + 38}" text-anchor="middle">confidence</text>')
    middle = side / 2 + 6
    parts.append(f'<text x="12" y="{middle}" transform="rotate(-90 12 {middle})" text-anchor="middle">accuracy</text>')
    return "".join([*parts, "</svg>", '<p class="soft small">Light: share of the pixels.</p>'])


def _classes(found: Collected, names: Sequence[str], summary: SegSummary) -> Iterator[str]:
    yield "<h2>Classes</h2>"
    matrix = found.statistics.matrix
    per_class = summary.per_class(names)
    seen = [i for i, row in enumerate(per_class) if row["iou"] is not None]
    absent = len(names) - len(seen)
    rest = f" {absent} more occur neither in the ground truth nor in the predictions." if absent else ""
    pictures = " In the pictures: green found, red missed, orange wrongly given to the class." if found.examples else ""
    yield f'<p class="soft">Lowest IoU first.{pictures}{rest}</p>'
    rows = []
    for i in sorted(seen, key=lambda i: (per_class[i]["iou"], i)):
        row = per_class[i]
        missed, false = matrix[i].copy(), matrix[:, i].copy()
        missed[i] = false[i] = 0
        example = found.examples.get(i)
        shown = _NONE
        if example is not None:
            photo, path = example
            shown = pages.jpeg(path.read_bytes(), photo.name)
        rows.append(
            [
                pages.text(row["name"]),
                _number(row["iou"], 1),
                _number(row["acc"], 1),
                f"{row['pixels']:,}",
                f"{row['predicted']:,}",
                _most(missed, names),
                _most(false, names),
                *([shown] if found.examples else []),
            ]
        )
    head = ["class", "IoU", "accuracy", "pixels", "predicted", "most taken for", "most given in place of"]
    yield pages.table([*head, *(["most wrong pixels"] if found.examples else [])], rows)


def _most(counts, names: Sequence[str]) -> str:
    best, total = int(counts.argmax()), int(counts.sum())
    return f"{pages.text(names[best])} ({counts[best] / total:.0%})" if total else _NONE


def _worst(found: Collected) -> Iterator[str]:
    if not found.worst:
        return
    yield "<h2>Worst photos</h2>"
    yield '<p class="soft">By the mIoU of each photo alone. White: boundaries of the ground truth.</p>'
    for photo, path in found.worst:
        caption = f"{photo.name}: mIoU {photo.miou:.1f}, accuracy {photo.accuracy:.1f} %"
        yield pages.jpeg(path.read_bytes(), caption)


def suite_page(title: str, cells: Sequence[tuple[str, str, Path]]) -> str:
    """One page of the reports of many evaluations.

    Args:
        title: of the page.
        cells: method, data set and folder of the report (``report`` in the work directory) of each.
    """
    body, rows, missing = [f"<h1>{pages.text(title)}</h1>"], [], []
    for method, dataset, folder in cells:
        try:
            facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            sections = (folder / "sections.html").read_text(encoding="utf-8")
        except OSError:
            missing.append(f"<li>{pages.text(f'{method} on {dataset}')}: evaluated without --report, or not run</li>")
            continue
        zones = [_number(zone["accuracy"], 1) for zone in facts["zones"]]
        sizes = [_number(facts["sizes"][i]["IoU"], 1) for i in (0, -1)]
        first = facts["confused"][0] if facts["confused"] else None
        worst = _NONE if first is None else pages.text(f"{first['truth']} for {first['predicted']}")
        miou = _number(facts["mIoU"], 2)
        rows.append([pages.text(method), pages.text(dataset), miou, *zones, *sizes, _number(facts["ece"], 2), worst])
        name = pages.text(f"{dataset} · {method}")
        body.append(f"<details><summary><b>{name}</b></summary>{sections}</details>")
    head = [
        "method",
        "data set",
        "mIoU",
        *(f"accuracy, {zone}" for zone in ZONES),
        "IoU, smallest",
        "IoU, largest",
        "ECE",
    ]
    body.insert(1, pages.table([*head, "most confused"], rows))
    if missing:
        body += ["<h2>Without a report</h2><ul>", *missing, "</ul>"]
    return pages.page(title, body)


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _bar(share: float, width: int = 120) -> str:
    return (
        f'<svg width="{width}" height="12"><rect width="{width}" height="12" fill="var(--tint)"/>'
        f'<rect width="{share * width:.1f}" height="12" fill="var(--bar)"/></svg>'
    )
