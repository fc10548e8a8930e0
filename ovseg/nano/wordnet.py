"""Names of ImageNet's 1,000 classes at every level of WordNet: ``python -m ovseg.nano.wordnet DATA.NOUN CLASSES.TSV``.

Writes ``imagenet_names.tsv``, which is all of WordNet that ovseg ships. The database is Debian's ``wordnet-base``.
"""

import argparse
import collections
import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAMES_FILE = Path(__file__).with_name("imagenet_names.tsv")
ORDINARY_FILE = Path(__file__).with_name("ordinary_words.tsv")
#: Hypernyms of more classes than this are too general to tell anything ("artifact", "animal").
MOST_CLASSES = 130

_NOTICE = """\
# Names of the 1,000 ImageNet classes: index, wnid, lemmas of the synset, lemmas of its hypernyms (nearest first).
# Derived by ovseg/nano/wordnet.py from WordNet 3.0 (changed: a selection, as a table). WordNet's licence:
# This software and database is being provided to you, the LICENSEE, by Princeton University under the following
# license. By obtaining, using and/or copying this software and database, you agree that you have read, understood, and
# will comply with these terms and conditions.: Permission to use, copy, modify and distribute this software and
# database and its documentation for any purpose and without fee or royalty is hereby granted, provided that you agree
# to comply with the following copyright notice and statements, including the disclaimer, and that the same appear on
# ALL copies of the software, database and documentation, including modifications that you make for internal use or for
# distribution. WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. THIS SOFTWARE AND DATABASE IS
# PROVIDED "AS IS" AND PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES, EXPRESS OR IMPLIED. BY WAY OF
# EXAMPLE, BUT NOT LIMITATION, PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES OF MERCHANT-ABILITY OR
# FITNESS FOR ANY PARTICULAR PURPOSE OR THAT THE USE OF THE LICENSED SOFTWARE, DATABASE OR DOCUMENTATION WILL NOT
# INFRINGE ANY THIRD PARTY PATENTS, COPYRIGHTS, TRADEMARKS OR OTHER RIGHTS. The name of Princeton University or
# Princeton may not be used in advertising or publicity pertaining to distribution of the software and/or database.
# Title to copyright in this software, database and any associated documentation shall at all times remain with
# Princeton University and LICENSEE agrees to preserve same.
"""


@dataclass(frozen=True)
class ClassNames:
    """What a photo of an ImageNet class may be called.

    Attributes:
        wnid: the synset, e.g. ``n02690373``.
        own: its lemmas, "airliner".
        wider: lemmas of its hypernyms, "airplane", "craft", "vehicle".
        ordinary: words of ``ordinary_words.tsv``.
    """

    wnid: str
    own: tuple[str, ...]
    wider: tuple[str, ...]
    ordinary: tuple[str, ...]


def read_nouns(path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """WordNet's ``data.noun``: offset of a synset -> (lemmas, offsets of its hypernyms)."""
    synsets = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("  "):  # the licence
                continue
            fields = line.split(" | ")[0].split()
            count = int(fields[3], 16)
            lemmas = [word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
            pointers = fields[5 + 2 * count :]
            above = [pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] in ("@", "@i")]
            synsets[fields[0]] = (lemmas, above)
    return synsets


def ancestors(synsets: Mapping[str, tuple[list[str], list[str]]], offset: str) -> list[str]:
    """All hypernyms of a synset, nearest first."""
    seen: list[str] = []
    todo = [offset]
    while todo:
        for above in synsets[todo.pop(0)][1]:
            if above not in seen:
                seen.append(above)
                todo.append(above)
    return seen


def write_names(nouns: Path, classes: Path, out: Path = NAMES_FILE) -> int:
    """Write the table; returns the number of different names.

    Args:
        nouns: WordNet's ``data.noun``.
        classes: rows of ``index, wnid, names``, tab-separated.
        out: the file to write.
    """
    synsets = read_nouns(nouns)
    with classes.open(encoding="utf-8", newline="") as file:
        wnids = [row[1] for row in csv.reader(file, delimiter="\t")]
    above = [ancestors(synsets, wnid[1:]) for wnid in wnids]
    share = collections.Counter(offset for each in above for offset in each)
    rows = []
    for index, (wnid, chain) in enumerate(zip(wnids, above, strict=True)):
        wider = [name for offset in chain if share[offset] <= MOST_CLASSES for name in synsets[offset][0]]
        rows.append(f"{index}\t{wnid}\t{'|'.join(synsets[wnid[1:]][0])}\t{'|'.join(dict.fromkeys(wider))}\n")
    out.write_text(_NOTICE + "".join(rows), encoding="utf-8")
    return len({name for row in rows for part in row.rstrip("\n").split("\t")[2:] for name in part.split("|")} - {""})


def _rows(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def _indices(text: str) -> list[int]:
    """``"3,5-7"`` -> 3, 5, 6, 7."""
    spans = [[int(end) for end in span.split("-")] for span in text.split(",")]
    return [i for span in spans for i in range(span[0], span[-1] + 1)]


def read_names(names: Path = NAMES_FILE, ordinary: Path = ORDINARY_FILE) -> list[ClassNames]:
    """The names of all 1,000 classes, in the order of the classes."""
    by_hand: dict[int, list[str]] = collections.defaultdict(list)
    for words, indices in _rows(ordinary):
        for index in _indices(indices):
            by_hand[index] += words.split("|")
    table = []
    for index, wnid, own, wider in _rows(names):
        first, further = own.split("|"), wider.split("|") if wider else []
        table.append(ClassNames(wnid, tuple(first), tuple(further), tuple(dict.fromkeys(by_hand[int(index)]))))
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nouns", type=Path, help="data.noun of WordNet 3.0 (Debian: /usr/share/wordnet/data.noun)")
    parser.add_argument("classes", type=Path, help="tab-separated index, wnid, names")
    args = parser.parse_args()
    print(f"{write_names(args.nouns, args.classes)} names in {NAMES_FILE}")


if __name__ == "__main__":
    main()
