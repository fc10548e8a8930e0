"""Write docs/fidelity.md: per method how near ovseg is to the official code, published and measured mIoU, deviations.

    python tools/fidelity_page.py                             # the page from the figures in docs/fidelity.csv
    python tools/fidelity_page.py --measure                   # measure every golden in fp32 and bf16 first (minutes)
    python tools/fidelity_page.py --measure sclip naclip --precision fp32

Figures come from the parity suite's own code (tests/parity/measure.py), so page and tests cannot disagree.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # the suite lies in tests/, which is not installed

CSV = REPOSITORY / "docs" / "fidelity.csv"
PAGE = REPOSITORY / "docs" / "fidelity.md"
PUBLISHED = REPOSITORY / "docs" / "published_miou.csv"
MEASURED = REPOSITORY / "docs" / "measured_miou.csv"
NOTES = REPOSITORY / "docs" / "fidelity_notes.txt"
"""One line per method: ``name: deviations and quirks``."""
COLUMNS = ("golden", "image", "precision", "key", "kind", "value", "bar", "passed", "note")
BENCHMARKS = (
    ("voc21", "VOC21"),
    ("voc20", "VOC20"),
    ("context60", "PC60"),
    ("context59", "PC59"),
    ("coco_object", "Object"),
    ("coco_stuff", "Stuff"),
    ("ade20k", "ADE"),
    ("cityscapes", "City"),
    ("ade847", "A847"),
    ("pc459", "P459"),
    ("coco_stuff10k", "Stuff10k"),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs="*", metavar="GOLDEN", help="measure these goldens (none named: all) first")
    parser.add_argument("--precision", choices=("fp32", "bf16"), action="append", help="default: both")
    return parser.parse_args()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measure_goldens(names: list[str], precisions: list[str]) -> None:
    """Measure and write docs/fidelity.csv after every golden; rows of other goldens stay."""
    from tests.parity.cases import CASES, goldens
    from tests.parity.measure import measure

    for precision in precisions:
        for golden in goldens():
            case = CASES.get(golden.name)
            if (names and golden.name not in names) or case is None or not case.config_path.is_file():
                continue
            figures = measure(golden, precision=precision)
            measure.cache_clear()
            key = (golden.name, golden.image, precision)
            rows = [r for r in read_rows(CSV) if (r["golden"], r["image"], r["precision"]) != key]
            rows += [
                dict(zip(COLUMNS, (*key, f.key, f.kind, f"{f.value:.6g}", f"{f.bar:g}", f.passed, f.note), strict=True))
                for f in figures.values()
            ]
            rows.sort(key=lambda r: (r["golden"], r["image"], r["precision"] != "fp32", r["key"]))
            with CSV.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            print(golden, precision, "; ".join(map(str, figures.values())), flush=True)


def figure_text(row: dict[str, str] | None) -> str:
    """One figure for a table cell; bold where it misses its bar."""
    if row is None:
        return ""
    value = float(row["value"])
    text = f"{value:.4%}" if row["kind"] == "agreement" else f"{value:.1e}"
    return text if row["passed"] == "True" or row["precision"] != "fp32" else f"**{text}**"


def parity_table(rows: list[dict[str, str]], precision: str) -> list[str]:
    """Golden x arrays."""
    table = defaultdict(dict)
    for row in rows:
        if row["precision"] == precision:
            table[row["golden"], row["image"]][row["key"]] = row
    groups = (
        ("text", ("query",)),
        ("first window", ("win0", "grid_logits", "grid")),
        ("logits", ("logits", "score", "cluster_attn")),
        ("probabilities", ("probs",)),
        ("labels before threshold", ("argmax_nothresh",)),
        ("labels", ("argmax",)),
    )
    lines = [
        "| golden | image | " + " | ".join(title for title, _ in groups) + " |",
        "|---|---|" + "---|" * len(groups),
    ]
    for (golden, image), found in sorted(table.items()):
        cells = []
        for _, keys in groups:
            row = next((found[k] for k in keys if k in found), None)
            cells.append(figure_text(row) + (" (1)" if row and row["note"] else ""))
        lines.append(f"| {golden} | {image} | " + " | ".join(cells) + " |")
    return lines


def miou_table(method: str | None = None) -> list[str]:
    """Method x benchmark, published and measured; of one method only, if one is given. Empty without any row."""
    table = defaultdict(dict)
    for kind, path in (("published", PUBLISHED), ("measured", MEASURED)):
        for row in read_rows(path):
            if method in (None, row["method"]):
                table[row["method"], row["variant"], kind, row["source"]][row["benchmark"]] = row["miou"]
    if not table:
        return []
    used = [(name, title) for name, title in BENCHMARKS if any(name in found for found in table.values())]
    titles = " | ".join(title for _, title in used)
    lines = [f"| method | | {titles} | source |", "|---|---|" + "---|" * (len(used) + 1)]
    for (method, variant, kind, source), found in sorted(table.items()):
        cells = " | ".join(found.get(name, "") for name, _ in used)
        name = f"{method} ({variant})" if variant else method
        lines.append(f"| {name} | {kind} | {cells} | {source} |")
    return lines


def remarks(rows: list[dict[str, str]]) -> list[str]:
    """What the figures marked (1) need said."""
    found = sorted({f"{r['golden']}, {r['key']}: {r['note']}" for r in rows if r["note"] and r["precision"] == "fp32"})
    return ["(1)", "", *[f"- {text}" for text in found], ""] if found else []


def notes() -> list[tuple[str, str]]:
    """Method and note, from docs/fidelity_notes.txt."""
    lines = NOTES.read_text(encoding="utf-8").splitlines()
    return [(name, note.strip()) for name, _, note in (line.partition(":") for line in lines if line.strip())]


def page() -> str:
    """The page's text."""
    from tests.parity.cases import CASES, methods

    rows = read_rows(CSV)
    cases = [CASES[r["golden"]] for r in rows if r["precision"] == "fp32"]
    proven = {c.method for c in cases} | {c.config_path.stem.rsplit("_", 2)[0] for c in cases}  # naclip, naclip_pamr
    unproven = [m for m in methods() if m not in proven]
    failed = [r for r in rows if r["precision"] == "fp32" and r["passed"] != "True"]
    lines = [
        "# Fidelity",
        "",
        "Does ovseg compute what the official code computes? Real weights cannot be shipped, so deterministic stand-in",
        "weights in the official checkpoint formats went through the official code, and the same files go through",
        "ovseg's own VOC21 configs (`tests/parity`). Written by `python tools/fidelity_page.py`; every figure is a row",
        "of [fidelity.csv](fidelity.csv). Parity with stand-in weights shows the same function, not a mIoU. Goldens of",
        "other photos are compared by naming their folder: `OVSEG_PARITY_DIR` ([layout](../CONTRIBUTING.md#parity)).",
        "",
        "## Parity in fp32",
        "",
        "Text: largest difference of an embedding entry (bar 1e-4). First window and logits: largest difference as a",
        "share of the golden's range (bar 1e-3). Probabilities: share within 5e-3. Labels: share of equal pixels. Bar",
        "of shares: 99.9 %. Empty: the golden does not hold it, or it is an input. Bold: misses its bar.",
        "",
        *parity_table(rows, "fp32"),
        "",
        f"{len(failed)} figures miss their bar." if failed else "Every figure is within its bar.",
        "",
        *remarks(rows),
        f"Without a golden, hence unproven here: {', '.join(unproven)}." if unproven else "",
        "",
    ]
    if any(r["precision"] == "bf16" for r in rows):
        lines += [
            "## bf16",
            "",
            "All blocks but the last under bf16 autocast; the same figures, without bars. With stand-in weights many",
            "pixels lie near a decision, so the shares of equal labels are lower than real weights would give.",
            "",
            *parity_table(rows, "bf16"),
            "",
        ]
    measured = "come from runs whose log is kept" if MEASURED.is_file() else "do not exist yet: no real weights at hand"
    lines += [
        "## mIoU",
        "",
        f"Measured rows {measured} (`docs/measured_miou.csv`).",
        "",
        *miou_table(),
        "",
        "## Deviations and quirks, by method",
        "",
        *[f"- **{name}**: {note}" for name, note in notes()],
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    args = parse_args()
    if args.measure is not None:
        measure_goldens(args.measure, args.precision or ["fp32", "bf16"])
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
