"""Lists of class names as people keep them: text files of many kinds, JSON, YAML, and the same as Python objects.

What is read right: one name per line; CVAT's ``labelmap.txt``; numbers before or after the names; colours; tables with
a header; darknet's ``.names``; TensorFlow's ``.pbtxt``; JSON and YAML lists and mappings. What is not clear is refused
with the number of the line: a list read wrongly shifts every class index after it.
"""

from __future__ import annotations

import ast
import codecs
import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import yaml

MAX_BYTES = 2**24
SUFFIXES = (".txt", ".names", ".lst", ".csv", ".tsv", ".json", ".yaml", ".yml", ".pbtxt", ".list", ".labels")
"""Endings under which class files are commonly kept; a file may have any other, or none."""

_CVAT = re.compile(r"([^:]+):(\d{1,3},\d{1,3},\d{1,3})?:[^:]*:[^:]*")
_HEX = re.compile(r"#[0-9a-fA-F]{6}(?=$|[\s,;:])")
_EDGES = " \t,;:=|"
_LEADING = re.compile(r"(?:[\[(]?-?\d+(?![\w.]\w)[\])]?(?:\s*[,;:.)\]=|]\s*|\s+-\s+|\s+|(?=#)))+")
_TRAILING = re.compile(r"(?:(?:\s*[,;:=|]\s*|\s+)[\[(]?-?\d+[\])]?)+$")
_INTEGERS = re.compile(r"-?\d+")
_EXPLICIT = re.compile(r"[\[(]?-?\d+[\])]?\s*[,;:.)\]=|\t]")
_NAME_HEADERS = ("name", "names", "class", "classes", "class name", "label", "labels", "label name", "category")
_NAME_HEADERS += ("categories", "readable name", "class names")
_NUMBER_HEADERS = ("id", "idx", "index", "no", "number", "class id", "label id", "train id", "trainid", "value", "key")
_NUMBER_HEADERS += ("pixel value",)  # Roboflow's _classes.csv
_SYNONYM_HEADERS = ("synonyms", "synonym", "aliases", "alias")
_WRAPPERS = ("names", "classes", "categories", "id2label", "labels")

Entry = str | tuple[str, ...]


class ClassListError(ValueError):
    """A list of classes cannot be read; the message names the file and line and says what to do."""


@dataclass(frozen=True)
class ClassList:
    """What a list of classes holds, in the order of the class indices.

    Attributes:
        source: where it came from, for messages.
        entries: a text for each class, in which a separator may still stand between synonyms, or a tuple of its names.
        places: number of the line or entry of each class.
        unit: ``'line'`` (counted from 1) or ``'entry'`` (counted from 0).
        first: the list's own number of class 0 where the list is numbered (0 or 1), else ``None``.
    """

    source: str
    entries: tuple[Entry, ...]
    places: tuple[int, ...]
    unit: str = "line"
    first: int | None = None


def read_text(path: str | Path) -> str:
    """A text file in UTF-8 (with or without byte order mark) or UTF-16 with a byte order mark.

    Raises:
        FileNotFoundError: if it does not exist.
        ClassListError: if it is no file, larger than :data:`MAX_BYTES`, or no such text; names the line.
    """
    path = Path(path)
    if not path.exists():
        link = f"; it is a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
        raise FileNotFoundError(f"{path} does not exist{link}")
    if not path.is_file():
        raise ClassListError(f"{path} is {'a folder' if path.is_dir() else 'not a regular file'}; give a text file")
    if path.stat().st_size > MAX_BYTES:
        raise ClassListError(f"{path} has {path.stat().st_size:,} bytes: too many for a list of names; is it the file?")
    data = path.read_bytes()
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ClassListError(
            f"{path}, line {line}: not UTF-8 text (byte 0x{data[error.start]:02x}); save it as UTF-8, for example "
            f"`iconv -f latin1 -t utf-8 {path.name}`"
        ) from None
    if "\0" in text:
        raise ClassListError(f"{path} is not a text file: it holds zero bytes")
    return text


def read_class_file(path: str | Path) -> ClassList:
    """Read a class file of any of the known kinds.

    Raises:
        FileNotFoundError: if it does not exist.
        ClassListError: if it is not clear which names it holds in which order.
    """
    path = Path(path)
    text = read_text(path)
    start, suffix, source = text.lstrip()[:200], path.suffix.lower(), str(path)
    if start.startswith("<"):
        raise ClassListError(f"{source}: a web page or XML file, not a list of class names; was it downloaded right?")
    if suffix in (".yaml", ".yml"):
        return class_list(_yaml(text, source), source, in_file=True)
    if suffix in (".json", ".jsonc") or start.startswith(("[", "{")):
        return class_list(_json(text, source), source, in_file=True)
    if suffix == ".pbtxt" or re.match(r"item\s*\{", start):
        return _pbtxt(text, source)
    return parse_lines(text, source)


# ------------------------------------------------------------------------------------------------- Python objects
def class_list(value: object, source: str = "list", in_file: bool = False) -> ClassList:
    """Classes of a list or mapping.

    - a sequence of names; an inner sequence holds the names of one class, an inner mapping has them under ``name`` and
      ``synonyms`` (COCO's categories);
    - a mapping of a name to one or several synonyms (``None``, ``""`` or ``[]``: none);
    - a mapping of the class index to its name (or names), or of the name to its index;
    - in a file also one of these under ``names``, ``classes``, ``categories``, ``labels`` or ``id2label``.

    Raises:
        ClassListError: for anything else, with the number of the entry.
    """
    if in_file and isinstance(value, Mapping):
        inner = next((value[k] for k in _WRAPPERS if isinstance(value.get(k), list | Mapping)), None)
        value = value if inner is None else inner
    if isinstance(value, Mapping):
        return _from_mapping(value, source)
    ordered = isinstance(value, Iterable) and not (isinstance(value, Set) and not isinstance(value, type({}.keys())))
    if isinstance(value, str | bytes | bytearray) or not ordered:
        kind = type(value).__name__
        why = "has no order, which is the class index" if isinstance(value, Set) else "is no list of class names"
        raise ClassListError(f"{source}: {_shown(value)} ({kind}) {why}; give a list such as ['cat', 'dog']")
    items = list(value)
    entries: list[Entry] = []
    numbers: list[int] = []
    for i, item in enumerate(items):
        if isinstance(item, Mapping) and isinstance(item.get("name"), str):
            entries.append(_with_synonyms(item["name"], item.get("synonyms"), source, i))
            numbers += [item["id"]] if _is_int(item.get("id")) else []
        else:
            entries.append(_entry(item, source, i))
    if numbers and len(numbers) != len(items):
        raise ClassListError(f"{source}: {len(numbers)} of {len(items)} entries have an id; give one to all or to none")
    if numbers:
        return _numbered(list(range(len(items))), entries, numbers, source, "entry")
    return ClassList(source, tuple(entries), tuple(range(len(items))), "entry")


def _from_mapping(value: Mapping, source: str) -> ClassList:
    keys, values = list(value), list(value.values())
    places = list(range(len(keys)))
    if keys and all(_is_int(k) or isinstance(k, str) and _INTEGERS.fullmatch(k.strip()) for k in keys):
        entries = [_entry(v, source, i) for i, v in enumerate(values)]
        return _numbered(places, entries, [int(k) for k in keys], source, "entry")
    if values and all(_is_int(v) for v in values):
        return _numbered(places, [_entry(k, source, i) for i, k in enumerate(keys)], values, source, "entry")
    entries = [_with_synonyms(k, v, source, i) for i, (k, v) in enumerate(value.items())]
    return ClassList(source, tuple(entries), tuple(places), "entry")


def _with_synonyms(name: object, more: object, source: str, i: int) -> Entry:
    """The names of a class whose synonyms stand apart; one text where they may still hold separators."""
    first = _entry(name, source, i)
    if more is None or (isinstance(more, str | list | tuple) and len(more) == 0):
        return first
    rest = _entry(more, source, i)
    if isinstance(first, tuple):
        raise ClassListError(f"{source}, entry {i}: the name {name!r} is no text")
    if isinstance(rest, str):
        # one text with a separator in it stays splittable: see Vocabulary
        return first if rest.strip().casefold() == first.strip().casefold() else f"{first}; {rest}"
    return (first, *(n for n in rest if n.strip().casefold() != first.strip().casefold()))


def _entry(item: object, source: str, i: int) -> Entry:
    if isinstance(item, str):
        return str(item)
    if isinstance(item, Sequence) and not isinstance(item, bytes | bytearray):
        wrong = next((n for n in item if not isinstance(n, str)), None)
        if len(item) == 0:
            raise ClassListError(f"{source}, entry {i}: empty name in []; a class needs at least one name")
        if wrong is None:
            return tuple(str(n) for n in item)
        item = wrong
    kind = type(item).__name__
    hint = " (in YAML, put quotes around words such as no, yes and numbers)" if isinstance(item, bool | int) else ""
    raise ClassListError(f"{source}, entry {i}: {_shown(item)} ({kind}) is no name; names are texts{hint}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _json(text: str, source: str) -> object:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        try:
            return ast.literal_eval(text.strip())  # a Python list: single quotes, a comma after the last name
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            line = getattr(error, "lineno", 1)
            problem = getattr(error, "msg", "nested too deeply")
            raise ClassListError(f"{source}, line {line}: not readable as JSON ({problem})") from None


def _yaml(text: str, source: str) -> object:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise ClassListError(
            f"{source}, line {line}: not readable as YAML ({' '.join(str(getattr(error, 'problem', error)).split())})"
        ) from None


def _pbtxt(text: str, source: str) -> ClassList:
    items = []
    for found in re.finditer(r"item\s*\{([^{}]*)\}", text):
        line = text[: found.start()].count("\n") + 1
        fields = dict(re.findall(r"(\w+)\s*:\s*(\"[^\"]*\"|'[^']*'|-?\d+)", found[1]))
        name = fields.get("display_name") or fields.get("name")
        if name is None or not _INTEGERS.fullmatch(fields.get("id", "")):
            raise ClassListError(f"{source}, line {line}: an item without id or name")
        items.append((line, name.strip("\"'"), int(fields["id"])))
    if not items:
        raise ClassListError(f"{source}: no items `item {{ id: 1 name: 'cat' }}`")
    lines, names, ids = zip(*items, strict=True)
    return _numbered(list(lines), list(names), list(ids), source, "line")


# ------------------------------------------------------------------------------------------------------ text lines
def parse_lines(text: str, source: str) -> ClassList:
    """Classes of a text with one class per line, in the forms of the module's docstring.

    Raises:
        ClassListError: naming the line that does not fit the others, or is empty.
    """
    numbered = [(n, line.strip()) for n, line in enumerate(re.split(r"\r\n|\n|\r", text), 1)]
    while numbered and not numbered[-1][1]:
        numbered.pop()
    blanks = [n for n, line in numbered if not line]
    rows = [(n, line) for n, line in numbered if line and not _is_comment(line)]
    rows = [(n, re.sub(r"\s+(#(?![0-9a-fA-F]{6}\b)|//).*$", "", line)) for n, line in rows]
    if not rows:
        raise ClassListError(f"{source}: no classes; write one name per line")
    if all(_INTEGERS.fullmatch(line) for _, line in rows):
        raise ClassListError(
            f"{source}, line {rows[0][0]}: {rows[0][1]!r} is a number, no name; the file holds no words"
        )
    for read in (_cvat, _table, _numbers_and_colours):
        found = read(_undressed(rows), source)
        if found is not None:
            return found
    if blanks:
        raise ClassListError(
            f"{source}, line {blanks[0]}: empty name; every line is one class and the order is the class index, so "
            "remove the blank line (or give the class that belongs there a name)"
        )
    rows = _undressed(rows)
    if len(rows) > 1 and rows[0][1].lower().rstrip(":").replace("_", " ") in _NAME_HEADERS:
        rows = rows[1:]
    return ClassList(source, tuple(line for _, line in rows), tuple(n for n, _ in rows))


def _is_comment(line: str) -> bool:
    return line.startswith("//") or (line.startswith("#") and not _HEX.match(line))


def _undressed(rows: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Without what lists copied from code or notes carry on *every* line: bullets, commas at the end, quotes."""
    lines = [line for _, line in rows]
    if all(re.match(r"[-*]\s+\S", line) for line in lines):
        lines = [line[1:].strip() for line in lines]
    if len(lines) > 1 and all(line.endswith(",") for line in lines[:-1]):
        lines = [line.removesuffix(",").strip() for line in lines]
    if all(len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" and line[0] not in line[1:-1] for line in lines):
        lines = [line[1:-1].strip() for line in lines]
    return [(n, line) for (n, _), line in zip(rows, lines, strict=True)]


def _cvat(rows: list[tuple[int, str]], source: str) -> ClassList | None:
    matches = [(n, _CVAT.fullmatch(line)) for n, line in rows]
    if not any(match for _, match in matches):
        return None
    wrong = next((n for n, match in matches if match is None), None)
    if wrong is not None:
        raise ClassListError(
            f"{source}, line {wrong}: other lines are those of a CVAT label map (name:colour:parts:actions), this one "
            "is not; export the file again or write one name per line"
        )
    return ClassList(source, tuple(match[1].strip() for _, match in matches), tuple(n for n, _ in matches))


def _table(rows: list[tuple[int, str]], source: str) -> ClassList | None:
    """A table whose first line names its columns."""
    for delimiter in ("\t", ",", ";"):
        header = [c.strip().lower().replace("_", " ") for c in next(csv.reader([rows[0][1]], delimiter=delimiter))]
        column = next((header.index(h) for h in _NAME_HEADERS if h in header), None)
        if len(header) > 1 and column is not None and len(rows) > 1:
            break
    else:
        return None
    number = next((header.index(h) for h in _NUMBER_HEADERS if h in header), None)
    more = next((header.index(h) for h in _SYNONYM_HEADERS if h in header), None)
    places, names, numbers = [], [], []
    for n, line in rows[1:]:
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
        if len(cells) != len(header) or not cells[column]:
            raise ClassListError(
                f"{source}, line {n}: {len(cells)} columns, the header on line {rows[0][0]} has {len(header)}"
                if len(cells) != len(header)
                else f"{source}, line {n}: empty name"
            )
        places.append(n)
        names.append(f"{cells[column]}; {cells[more]}" if more is not None and cells[more] else cells[column])
        if number is not None:
            if not _INTEGERS.fullmatch(cells[number]):
                raise ClassListError(f"{source}, line {n}: {cells[number]!r} under {header[number]!r} is no number")
            numbers.append(int(cells[number]))
    if number is not None:
        return _numbered(places, names, numbers, source, "line")
    return ClassList(source, tuple(names), tuple(places))


def _numbers_and_colours(rows: list[tuple[int, str]], source: str) -> ClassList | None:
    """Lines that carry a class number, a colour, or both, before or after the name."""
    split = [_numbers_around(line) for _, line in rows]
    names = [name for _, name, _ in split]
    before, after = ({len(part[side]) for part in split} for side in (0, 2))
    colour = any(_HEX.search(line) for _, line in rows)
    if before <= {0} and after <= {0} and not colour:
        return None
    marked = all(_EXPLICIT.match(line) for _, line in rows)
    if "" in names or (len({name.casefold() for name in names}) < len(names) and not marked):
        return None  # "class 1", "class 2": the numbers are part of the names
    if len(before) == len(after) == 1:
        columns = [list(c) for c in zip(*(part[0] + part[2] for part in split), strict=True)]
        places = [n for n, _ in rows]
        if not columns:
            return ClassList(source, tuple(names), tuple(places))
        if len(columns) in (1, 2, 4, 5):  # the class number, perhaps with a colour or one column more
            explicit = marked or len(columns) > 1
            candidates = [c for c in columns if sorted(c) in (list(range(len(c))), list(range(1, len(c) + 1)))]
            if candidates:
                return _numbered(places, names, candidates[0], source, "line")
            if (
                len(columns) == 4
                and all(0 <= v <= 255 for c in columns for v in c)
                and columns[0] != sorted(columns[0])
            ):
                return ClassList(source, tuple(names), tuple(places))  # red, green, blue, alpha
            growing = len(rows) > 2 and columns[0] == sorted(set(columns[0])) and columns[0][0] in (-1, 0, 1)
            return _numbered(places, names, columns[0], source, "line") if explicit or growing else None
        if len(columns) == 3:
            return ClassList(source, tuple(names), tuple(places))
    # not all lines look alike: numbers that count the lines on half of them are no part of names
    counting = sum(bool(part[0]) and part[0][0] - i in (0, 1) for i, part in enumerate(split))
    coloured = sum(len(part[0]) + len(part[2]) >= 3 for part in split)
    if 2 * max(counting, coloured) >= len(rows) and len(rows) > 1:
        usual = max((len(p[0]), len(p[2])) for p in split)
        odd = next(n for (n, _), p in zip(rows, split, strict=True) if (len(p[0]), len(p[2])) != usual)
        raise ClassListError(
            f"{source}, line {odd}: not numbered or coloured as the other lines are; make all lines alike, or write "
            "one name per line and nothing else"
        )
    return None


def _numbers_around(line: str) -> tuple[tuple[int, ...], str, tuple[int, ...]]:
    """Integers before the name, the name, integers after it; colours such as ``#804000`` are dropped."""
    line = _HEX.sub(" ", line).strip(_EDGES)
    lead = _LEADING.match(line)
    before = lead[0] if lead and lead.end() < len(line) else ""
    line = line[len(before) :]
    trail = _TRAILING.search(line)
    after = trail[0] if trail and trail.start() > 0 else ""
    name = line[: len(line) - len(after)].strip(_EDGES).strip("\"'")
    return tuple(map(int, _INTEGERS.findall(before))), name, tuple(map(int, _INTEGERS.findall(after)))


def _numbered(places: list[int], names: list[Entry], numbers: list[int], source: str, unit: str) -> ClassList:
    """Classes in the order of their numbers, which must count from 0 or 1 without a gap.

    Raises:
        ClassListError: naming the line after which a number is missing or that repeats one.
    """
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    first = numbers[order[0]]
    for position, i in enumerate(order):
        expected = position + (first if first in (0, 1) else 0)
        if numbers[i] != expected:
            repeated = position > 0 and numbers[i] == numbers[order[position - 1]]
            fault = f"number {numbers[i]} " + ("occurs twice" if repeated else f"where {expected} is expected")
            raise ClassListError(
                f"{source}, {unit} {places[i]}: {fault}; class indices count from 0 without a gap. Write the names in "
                "the order of the classes, and map other labels of the files with `label_map`"
            )
    return ClassList(source, tuple(names[i] for i in order), tuple(places[i] for i in order), unit, first)
