"""Damage that knows what it damages: values of a JSON document, lines of a text, bytes of anything."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import numpy as np

from tests.datasets.damaged_files import damage

ODD = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    10**30,
    0.5,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "0",
    "\0",
    "\ud800",
    "[/red]",
    "../../x",
    "x" * 5000,
    [],
    [[]],
    {},
    {"": None},
    [None],
    [1, 2],
)
LINES = (
    "",
    "\0",
    "x" * 5000,
    "[/red]",
    "a;a",
    ",",
    ";",
    ":",
    "#",
    "1 2 3",
    "nan",
    "../../../etc/passwd",
    "\ufeff",
    "\u202e",
    '"',
    "- [",
    "&a *a",
)
Damage = Callable[[np.random.Generator, bytes], bytes]


def any_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """Bits, cuts, gaps, doublings: nothing is known of the format."""
    return damage(rng, data, data[::-1])


def json_values(rng: np.random.Generator, data: bytes) -> bytes:
    """One to three values of a JSON document replaced by odd ones, dropped or doubled; sometimes bytes."""
    if rng.random() < 0.2:
        return any_bytes(rng, data)
    document = [json.loads(data)]  # in a list: the whole may be replaced too
    for _ in range(rng.integers(1, 4)):
        places = [(document, 0), *_places(document[0])]
        owner, key = places[rng.integers(len(places))]
        how = rng.integers(4)
        if how == 0 and owner is not document:
            del owner[key]
        elif how == 1 and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[key]))
        elif how == 2 and isinstance(owner[key], int | float) and not isinstance(owner[key], bool):
            owner[key] = owner[key] * int(rng.integers(-3, 4)) + int(rng.integers(-2, 3))
        else:
            owner[key] = copy.deepcopy(ODD[rng.integers(len(ODD))])
    return json.dumps(document[0]).encode()


def _places(node: object) -> list[tuple]:
    found: list[tuple] = []
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        found += [(node, key), *_places(value)]
    return found


def text_lines(rng: np.random.Generator, data: bytes) -> bytes:
    """Lines replaced by odd ones, dropped, doubled or swapped, or words within them; sometimes bytes."""
    if rng.random() < 0.3:
        return any_bytes(rng, data)
    lines = data.decode().split("\n")
    for _ in range(rng.integers(1, 4)):
        at, how = int(rng.integers(len(lines))), rng.integers(5)
        odd = LINES[rng.integers(len(LINES))]
        if how == 0:
            lines[at] = odd
        elif how == 1:
            lines.insert(at, lines[at])
        elif how == 2 and len(lines) > 1:
            del lines[at]
        elif how == 3:
            words = lines[at].split(" ")
            words[rng.integers(len(words))] = odd
            lines[at] = " ".join(words)
        else:
            cut = int(rng.integers(len(lines[at]) + 1))
            lines[at] = lines[at][:cut] + odd + lines[at][cut:]
    encoding = ("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig")[rng.integers(5)]
    return "\n".join(lines).encode(encoding, "surrogatepass")
