"""The vocabulary: which words stand for which class.

One class may have several names; each name is a *query* of its own, and the head takes the largest over the names of
a class. The background of a benchmark is a class like any other, often with a list of "stuff" words as its names.
Changing one word moves mIoU by points, so a vocabulary is immutable and carries a hash of its content.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

PACKAGED_DIR = Path(__file__).parent / "vocabularies"
PACKAGED_SEPARATOR = "; "
_KNOWN_SEPARATORS = (";", ",", "|", "\t")
_CONFIG_KEYS = ("file", "names", "separator", "background", "allow_duplicates")


def packaged_vocabularies() -> tuple[str, ...]:
    """Names of the class files that come with ovseg, sorted; each works as ``Vocabulary.from_file(name)``."""
    return tuple(sorted(path.stem for path in PACKAGED_DIR.glob("*.txt")))


@dataclass(frozen=True)
class Vocabulary:
    """Classes and their names.

    Build one with :meth:`from_file`, :meth:`from_list`, :meth:`from_names` or :meth:`from_config`.

    Attributes:
        classes: for each class its names, the first one being the name shown to people.
        background: index of the background class, or None if the classes have none.
        source: where the words came from, for reports; no part of equality or of the hash.

    Example:
        >>> v = Vocabulary.from_list(["background", "cat", "sofa; couch"], background=0)
        >>> len(v), v.queries, v.query_to_class.tolist()
        (3, ('background', 'cat', 'sofa', 'couch'), [0, 1, 2, 2])
    """

    classes: tuple[tuple[str, ...], ...]
    background: int | None = None
    source: str = field(default="list", compare=False)

    @classmethod
    def from_file(
        cls,
        file: str | Path,
        separator: str = PACKAGED_SEPARATOR,
        background: int | None = None,
        allow_duplicates: bool = False,
    ) -> Vocabulary:
        """Read a class file: UTF-8 text, one line per class, several names on a line are several queries.

        Args:
            file: a packaged name such as ``'voc21'`` (see :func:`packaged_vocabularies`) or a path. A packaged name
                wins over a file of that name in the working directory; write ``./voc21`` for the file.
            separator: what stands between the names on a line. Packaged files use ``'; '``.
            background: index of the background class (counted from 0), or None.
            allow_duplicates: accept a name that occurs twice. Packaged files are accepted as they are, because
                CLIPtrase's list is defined with "bed" twice.

        Raises:
            FileNotFoundError: neither a packaged name nor a file.
            ValueError: not UTF-8, empty, an empty line or name, a name that occurs twice, ``background`` out of range,
                or another separator than ``'; '`` for a packaged file.

        Warns:
            UserWarning: a line holds another usual separator but not the chosen one, so that its names would silently
                become one prompt.
        """
        packaged = str(file) in packaged_vocabularies()
        path = PACKAGED_DIR / f"{file}.txt" if packaged else Path(file).expanduser()
        if packaged and separator != PACKAGED_SEPARATOR:
            raise ValueError(
                f"the packaged vocabulary '{file}' separates names by {PACKAGED_SEPARATOR!r}, not by {separator!r}; "
                "leave the separator out"
            )
        if not path.is_file():
            close = difflib.get_close_matches(str(file), packaged_vocabularies(), n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise FileNotFoundError(
                f"vocabulary '{file}' is neither a file nor a packaged name{hint} "
                f"(packaged: {', '.join(packaged_vocabularies())})"
            )
        try:
            text = path.read_text(encoding="utf-8-sig")  # "-sig": some editors put a byte order mark first
        except UnicodeDecodeError as error:
            raise ValueError(f"vocabulary file {path} is not UTF-8 text ({error}); save it as UTF-8") from error
        lines = text.rstrip().split("\n") if text.strip() else []
        return cls._parse(
            lines, separator, background, allow_duplicates or packaged, str(file), "line", first=1, trusted=packaged
        )

    @classmethod
    def from_list(
        cls,
        lines: Sequence[str],
        separator: str = PACKAGED_SEPARATOR,
        background: int | None = None,
        allow_duplicates: bool = False,
    ) -> Vocabulary:
        """Like :meth:`from_file` with the lines given directly: ``['cat', 'sofa; couch']``."""
        if isinstance(lines, str):
            raise TypeError(f"expected a list with one string per class, got the single string {lines!r}")
        return cls._parse(lines, separator, background, allow_duplicates, "list", "entry", first=0)

    @classmethod
    def from_names(
        cls,
        names: Sequence[str | Sequence[str]],
        background: int | None = None,
        allow_duplicates: bool = False,
    ) -> Vocabulary:
        """Names taken whole, never split: a string is a class with one name, a sequence one with several."""
        if isinstance(names, str):
            raise TypeError(f"expected a list with one entry per class, got the single string {names!r}")
        classes = [(entry,) if isinstance(entry, str) else tuple(entry) for entry in names]
        return cls._build(classes, background, allow_duplicates, "list", "entry", first=0)

    @classmethod
    def from_config(cls, config: Vocabulary | str | Path | Sequence[str] | Mapping) -> Vocabulary:
        """A vocabulary from a config value.

        Args:
            config: a :class:`Vocabulary` (returned as it is), a packaged name or path, a list of lines, or a mapping
                with ``file`` or ``names`` (list of lines) and optionally ``separator``, ``background``,
                ``allow_duplicates``.

        Raises:
            ValueError: unknown keys, or not exactly one of ``file`` and ``names``; and whatever the reader raises.
        """
        if isinstance(config, Vocabulary):
            return config
        if isinstance(config, (str, Path)):
            return cls.from_file(config)
        if not isinstance(config, Mapping):
            return cls.from_list(config)
        unknown = sorted(set(config) - set(_CONFIG_KEYS))
        if unknown:
            raise ValueError(f"vocabulary config has unknown keys {unknown}; known are {list(_CONFIG_KEYS)}")
        if ("file" in config) == ("names" in config):
            raise ValueError(f"vocabulary config needs either 'file' or 'names', got the keys {sorted(config)}")
        options = {key: config[key] for key in _CONFIG_KEYS[2:] if key in config}
        if "file" in config:
            return cls.from_file(config["file"], **options)
        return cls.from_list(config["names"], **options)

    @classmethod
    def _parse(cls, lines, separator, background, allow_duplicates, source, unit, first, trusted=False) -> Vocabulary:
        if not separator:
            raise ValueError(f"{source}: the separator between names is empty; give ', ' or '; '")
        classes = []
        for number, line in enumerate(lines, first):
            other = next((s for s in _KNOWN_SEPARATORS if s in line.strip()), None)
            if other and separator not in line and not trusted:
                warnings.warn(
                    f"{source}, {unit} {number}: {line.strip()!r} contains {other!r} but not the separator "
                    f"{separator!r}, so it is taken as one name; is the separator right?",
                    stacklevel=3,
                )
            classes.append(tuple(line.split(separator)))
        return cls._build(classes, background, allow_duplicates, source, unit, first)

    @classmethod
    def _build(cls, classes, background, allow_duplicates, source, unit, first) -> Vocabulary:
        if not classes:
            raise ValueError(f"{source}: no classes; a vocabulary needs at least one {unit}")
        classes = tuple(tuple(name.strip() for name in names) for names in classes)
        seen: dict[str, int] = {}
        for number, names in enumerate(classes, first):
            if not all(names) or not names:
                raise ValueError(
                    f"{source}, {unit} {number}: empty name in {list(names)}; every {unit} is one class with at least "
                    "one name, and the order is the class index, so remove the stray separator or blank line"
                )
            for name in names:
                # CLIP's tokenizer lower-cases, so "Cat" and "cat" are the same query.
                before = seen.setdefault(name.lower(), number)
                repeated = before != number or sum(other.lower() == name.lower() for other in names) > 1
                if repeated and not allow_duplicates:
                    where = f"on {unit} {number}" if before == number else f"on {unit} {before} and {unit} {number}"
                    raise ValueError(
                        f"{source}: the name {name!r} occurs twice, {where}; a class that shares its name with "
                        "another can never win: rename one, or pass allow_duplicates=True"
                    )
        if background is not None and not 0 <= background < len(classes):
            raise ValueError(f"{source}: background={background}, but the classes are 0 to {len(classes) - 1}")
        return cls(classes, background, source)

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The first name of each class."""
        return tuple(names[0] for names in self.classes)

    @property
    def display_names(self) -> tuple[str, ...]:
        """:attr:`names` for legends and tables: the background class is called "background", not "sky"."""
        return tuple("background" if i == self.background else name for i, name in enumerate(self.names))

    @cached_property
    def queries(self) -> tuple[str, ...]:
        """All names, class by class."""
        return tuple(name for names in self.classes for name in names)

    @property
    def query_to_class(self) -> torch.Tensor:
        """Class of each query, int64 ``[n_queries]``, ascending."""
        return torch.tensor([i for i, names in enumerate(self.classes) for _ in names])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) over the names, their classes and the background index; the same on every machine."""
        content = json.dumps([self.classes, self.background], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()
