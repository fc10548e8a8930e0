"""What changed between two evaluations of one data set, class by class: before and after a finetuning.

    python tools/compare_results.py BEFORE/result.json AFTER/result.json
    python tools/compare_results.py BEFORE/result.json AFTER/result.json --own my_classes.txt

``--own`` names the classes that were finetuned on (a class file): the means are then given for these and the others
apart, so that it is seen what was gained on the ones and lost on the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ovseg.datasets import load_class_names

SHOWN = 15


def read_result(path: Path) -> dict[str, float]:
    """IoU in percent by class, of those that have one, from a ``result.json``.

    Raises:
        ValueError: if the file holds no values per class.
    """
    rows = json.loads(path.read_text(encoding="utf-8")).get("per_class")
    if not rows:
        raise ValueError(f"{path} holds no values per class; give the result.json of an evaluation")
    return {row["name"]: row["iou"] for row in rows if row["iou"] is not None}


def compared(
    before: Mapping[str, float], after: Mapping[str, float], own: Iterable[str] | None = None
) -> dict[str, tuple[float, float, int]]:
    """Mean IoU before and after, and the number of classes: of all classes that both have, of ``own`` and the others.

    Raises:
        ValueError: if the two have no class in common, or ``own`` names none of them.
    """
    both = [name for name in before if name in after]
    groups = {"all": both}
    if own is not None:
        wanted = set(own)
        groups |= {"own": [n for n in both if n in wanted], "others": [n for n in both if n not in wanted]}
    empty = next((name for name, names in groups.items() if not names and name != "others"), None)
    if empty is not None:
        raise ValueError(f"no class of {'both results' if empty == 'all' else '--own is in both results'}")
    return {
        group: (*(sum(result[n] for n in names) / len(names) for result in (before, after)), len(names))
        for group, names in groups.items()
        if names
    }


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--own", type=Path, help="class file of the classes that were finetuned on")
    args = parser.parse_args(argv)
    before, after = read_result(args.before), read_result(args.after)
    console = Console()
    means = Table("classes", "number", "before", "after", "change", title="mean IoU in percent")
    for group, (old, new, count) in compared(before, after, args.own and load_class_names(args.own)).items():
        means.add_row(group, str(count), f"{old:.1f}", f"{new:.1f}", f"{new - old:+.1f}")
    console.print(means)
    changes = sorted(((after[n] - before[n], n) for n in before if n in after), reverse=True)
    for title, rows in (("gained most", changes[:SHOWN]), ("lost most", changes[::-1][:SHOWN])):
        table = Table("class", "before", "after", "change", title=title)
        for change, name in rows:
            if (change > 0) == (title == "gained most") and change:
                table.add_row(name, f"{before[name]:.1f}", f"{after[name]:.1f}", f"{change:+.1f}")
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
