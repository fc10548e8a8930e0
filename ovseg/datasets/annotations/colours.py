"""Label maps in colours: CVAT's, Roboflow's, Supervisely's and VOC's, by a table of colours."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ovseg.class_files import read_text
from ovseg.datasets.annotations.base import Annotations
from ovseg.datasets.errors import MaskReadError
from ovseg.datasets.io import read_colour_mask
from ovseg.registry import ANNOTATIONS

Colour = tuple[int, int, int]
_CVAT = re.compile(r"(.+?):(\d{1,3}),(\d{1,3}),(\d{1,3}):[^:]*:[^:]*")
_AFTER = re.compile(r"(.+?)[\s,;:]+(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})")
_BEFORE = re.compile(r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})[\s,;:]+(.+)")
_HEX = re.compile(r"(.+?)[\s,;:]+#([0-9a-fA-F]{6})")
_COLUMNS = (("r", "g", "b"), ("red", "green", "blue"))


def voc_colours(count: int = 256) -> list[Colour]:
    """The palette of Pascal VOC: bits 0, 1, 2 of the index, and so on upwards, are bits 7, 6, ... of red, green, blue.

    >>> voc_colours(3), voc_colours(256)[255]
    ([(0, 0, 0), (128, 0, 0), (0, 128, 0)], (224, 224, 192))
    """
    found = []
    for index in range(count):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        found.append(tuple(colour))
    return found


def read_colour_table(path: str | Path) -> dict[str, Colour]:
    """``{name: (red, green, blue)}`` of a file, in its order.

    Read are CVAT's ``labelmap.txt`` (``cat:128,0,0::``), CSV and TSV with a header that names the columns of name and
    red, green, blue, and lines such as ``cat 128 0 0``, ``128 0 0 cat`` and ``cat #800000``.

    Raises:
        ValueError: naming the line without a colour, or two classes of one colour.
    """
    lines = [(i, line.strip()) for i, line in enumerate(re.split(r"\r\n|\n|\r", read_text(path)), 1)]
    lines = [(i, line) for i, line in lines if line and not (line.startswith("#") and not line.startswith("#:"))]
    if not lines:
        raise ValueError(f"{path}: no classes; write one name and colour per line")
    table = _columns(lines, path) or {}
    for i, line in lines if not table else ():
        name, colour = _parse(line)
        if name is None:
            raise ValueError(f"{path}, line {i}: {line!r} has no colour; write e.g. cat 128 0 0")
        if name in table:
            raise ValueError(f"{path}, line {i}: {name!r} occurs twice")
        table[name] = colour
    return _checked(table, str(path))


def _parse(line: str) -> tuple[str | None, Colour]:
    for pattern in (_CVAT, _AFTER):
        if match := pattern.fullmatch(line):
            return match[1].strip(), tuple(int(v) for v in match.groups()[1:4])
    if match := _BEFORE.fullmatch(line):
        return match[4].strip(), tuple(int(v) for v in match.groups()[:3])
    if match := _HEX.fullmatch(line):
        return match[1].strip(), tuple(bytes.fromhex(match[2]))
    return None, (0, 0, 0)


def _columns(lines: Sequence[tuple[int, str]], path: str | Path) -> dict[str, Colour] | None:
    """A table whose header names the columns; ``None`` if it has no such header."""
    for delimiter in (",", "\t", ";"):
        header = [cell.strip().lower() for cell in next(csv.reader([lines[0][1]], delimiter=delimiter))]
        name = next((header.index(h) for h in ("name", "class", "label") if h in header), None)
        colours = next((c for c in _COLUMNS if set(c) <= set(header)), None)
        if name is None or colours is None:
            continue
        places = [header.index(c) for c in colours]
        table = {}
        for i, line in lines[1:]:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
            try:
                table[cells[name]] = tuple(int(cells[place]) for place in places)
            except (IndexError, ValueError):
                raise ValueError(f"{path}, line {i}: no colour under {', '.join(colours)}") from None
        return table
    return None


def _checked(table: Mapping[str, Colour], source: str) -> dict[str, Colour]:
    owners: dict[Colour, str] = {}
    for name, colour in table.items():
        colour = tuple(int(v) for v in colour)
        if len(colour) != 3 or not all(0 <= v <= 255 for v in colour):
            raise ValueError(f"{source}: {name!r} has the colour {colour}; red, green and blue are 0 to 255")
        if owners.setdefault(colour, name) != name:
            raise ValueError(f"{source}: {owners[colour]!r} and {name!r} have the same colour {colour}")
    return {name: colour for colour, name in owners.items()}


@ANNOTATIONS.register_module()
class ColourMasks(Annotations):
    """PNG pictures in which every class has a colour of its own (8-bit RGB, or a palette whose colours count).

    Args:
        table: a file (:func:`read_colour_table`), ``{name: (red, green, blue)}``, or ``"voc"``: VOC's palette in the
            order of the data set's classes, with (224, 224, 192) ignored.
        ignore: colours that are ignored.
        rename, unlabelled: see :class:`Annotations`; ``unlabelled`` says nothing here, every pixel has a colour.
    """

    suffixes = (".png",)

    def __init__(
        self,
        table: str | Mapping[str, Sequence[int]],
        ignore: Sequence[Sequence[int]] = (),
        rename: Mapping[str, str | None] | None = None,
    ) -> None:
        super().__init__(rename)
        self.table = None
        if not isinstance(table, str | Path):
            self.table = _checked({name: tuple(colour) for name, colour in table.items()}, "colour table")
        elif table != "voc":
            self.table = read_colour_table(table)
        self.ignore = [tuple(int(v) for v in colour) for colour in ignore]
        self._codes: dict[int, int] = {}

    def class_names(self) -> tuple[str, ...] | None:
        return None if self.table is None else tuple(self.table)

    def bind(self, root: Path, names: Sequence[str], ignore_index: int) -> None:
        super().bind(root, names, ignore_index)
        ignored = list(self.ignore)
        if self.table is None:
            colours = dict(enumerate(voc_colours(len(names))))
            ignored.append(voc_colours()[255])
        else:
            colours = {}
            for name, colour in self.table.items():
                try:
                    colours[colour] = self.class_of(name, "the colour table")
                except MaskReadError as error:
                    raise ValueError(str(error)) from None
            self._codes = {_code(colour): index for colour, index in colours.items()}
        if self.table is None:
            self._codes = {_code(colour): index for index, colour in colours.items()}
        self._codes.update({_code(colour): ignore_index for colour in ignored})

    def read(self, reference: str) -> np.ndarray:
        codes = read_colour_mask(reference).astype(np.int32) @ np.array([65536, 256, 1], np.int32)
        values, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
        unknown = [(int(c), int(n)) for c, n in zip(values, counts, strict=True) if int(c) not in self._codes]
        if unknown:
            code, number = max(unknown, key=lambda item: item[1])
            colour = (code >> 16, code >> 8 & 255, code & 255)
            more = f" and {len(unknown) - 1} other colours" if len(unknown) > 1 else ""
            raise MaskReadError(
                reference,
                f"its colour {colour} ({number} px){more} is none of the table's; a smoothed or resized mask has mixed "
                "colours at borders and is no label map. Add the colour to the table, or to `ignore`",
            )
        return np.array([self._codes[int(c)] for c in values], np.int32)[inverse].reshape(codes.shape)


def _code(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
