"""``ovseg data vocab``: vocabularies, which are files with a hash.

ovseg data vocab list                      # the packaged ones
ovseg data vocab check my_classes.txt      # read it, and say what is odd
ovseg data vocab diff voc21 my_classes.txt # class by class; exit status 1 where they differ
"""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING

from ovseg.cli._output import console, emit, say
from ovseg.cli._status import DONE, PART
from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg.text import Vocabulary


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The commands' arguments."""
    parser = commands.add_parser(
        "vocab",
        help="list, check and compare vocabularies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = parser.add_subparsers(required=True, metavar="COMMAND")
    listed = inner.add_parser("list", help="packaged vocabularies with their hashes")
    checked = inner.add_parser("check", help="what is odd about a vocabulary")
    checked.add_argument("vocabulary", help="a packaged vocabulary or a class file")
    checked.add_argument("--template", default="itap of the {}.", help="sentence whose length is looked at as well")
    compared = inner.add_parser("diff", help="two vocabularies, class by class")
    compared.add_argument("a", help="a packaged vocabulary or a class file")
    compared.add_argument("b", help="another")
    for command, run in ((listed, run_list), (checked, run_check), (compared, run_diff)):
        command.add_argument("--separator", help="between the names of a class in files (default: '; ')")
        command.set_defaults(run=run)


def _read(name: str, separator: str | None) -> Vocabulary:
    from ovseg.class_files import ClassListError
    from ovseg.text import Vocabulary

    try:
        if separator is None:
            return Vocabulary.of(name)
        return Vocabulary.from_file(name, separator=separator)
    except (ClassListError, ValueError) as error:
        raise SetupError(str(error)) from error


def run_list(args: argparse.Namespace) -> int:
    """Print the packaged vocabularies; returns the exit status."""
    from rich.table import Table

    from ovseg.text import packaged_vocabularies

    rows = []
    for name in packaged_vocabularies():
        vocabulary = _read(name, None)
        row = dict(
            name=name,
            classes=len(vocabulary),
            queries=len(vocabulary.queries),
            hash=vocabulary.content_hash[:12],
            words=", ".join(vocabulary.queries[:6]),
        )
        emit("vocabulary", **row)
        rows.append(row)
    table = Table(box=None)
    for column in ("name", "classes", "queries", "hash", "words"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console().print(table)
    return DONE


def run_check(args: argparse.Namespace) -> int:
    """Read a vocabulary and say what is odd; returns the exit status."""
    import open_clip

    from ovseg.text.compare import faults

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vocabulary = _read(args.vocabulary, args.separator)
    tokenizer = open_clip.get_tokenizer("ViT-B-16")

    def tokens(name: str) -> int:
        return len(tokenizer.encode(args.template.format(name))) + 2

    odd = [str(w.message) for w in caught] + faults(vocabulary, tokens)
    hashed = vocabulary.content_hash
    found = dict(ok=not odd, hash=hashed, classes=len(vocabulary), queries=len(vocabulary.queries), findings=odd)
    emit("checked", source=vocabulary.source, **found)
    say(f"{vocabulary.source}: {len(vocabulary)} classes, {len(vocabulary.queries)} words, {hashed[:12]}", stderr=False)
    for fault in odd:
        say(fault, "red", stderr=False)
    say("nothing is odd" if not odd else f"{len(odd)} things are odd", "red" if odd else "green", stderr=False)
    return PART if odd else DONE


def run_diff(args: argparse.Namespace) -> int:
    """Compare two vocabularies; returns the exit status: 0 where no number could differ."""
    from ovseg.text.compare import compare

    found = compare(_read(args.a, args.separator), _read(args.b, args.separator))
    emit("difference", **found.to_dict())
    for sign, source, classes, queries, background, hashed in (
        ("-", found.a, found.classes_a, found.queries_a, found.background_a, found.hash_a),
        ("+", found.b, found.classes_b, found.queries_b, found.background_b, found.hash_b),
    ):
        place = "no background" if background is None else f"background {background}"
        say(f"{sign} {source}: {classes} classes, {queries} words, {place}, {hashed[:12]}", stderr=False)
    for change in found.changed:
        moved = f"  (class {change.moved[0]} of {found.b} has its words)" if change.moved else ""
        say(f"class {change.index} {change.name}{moved}", stderr=False)
        for sign, words in (("-", change.only_a), ("+", change.only_b)):
            if words:
                say(f"  {sign} {'; '.join(words)}", stderr=False)
        if not change.only_a and not change.only_b:
            say("  the same words in another order", stderr=False)
    for sign, names in (("-", found.only_a), ("+", found.only_b)):
        if names:
            say(f"{sign} {len(names)} more classes: {', '.join(names[:10])}", stderr=False)
    same = "no number can differ" if found.same else f"{len(found.changed)} classes differ"
    say(same, "green" if found.same else "yellow", stderr=False)
    return DONE if found.same else PART
