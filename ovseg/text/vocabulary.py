"""The vocabulary: which words stand for which class.

One class may have several names; each name is a *query* of its own, and the head takes the largest over the names of
a class. The background of a benchmark is a class like any other, often with a list of "stuff" words as its names.
Changing one word moves mIoU by points, so a vocabulary is immutable and carries a hash of its content.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from ovseg.class_files import SUFFIXES, ClassList, ClassListError, class_list, read_class_file

PACKAGED_DIR = Path(__file__).parent / "vocabularies"
PACKAGED_SEPARATOR = "; "
SHOWN_AS = ":="
"""Between the name that people are shown and the names that are encoded: ``background := sky; wall``."""
_KNOWN_SEPARATORS = (";", ",", "|", "\t", "/", ":", "=")
_CONFIG_KEYS = ("file", "names", "separator", "background", "allow_duplicates")


class VocabularyError(ClassListError, TypeError):
    """What was given is no vocabulary, or a faulty one; says how to write it.

    It is a ``ValueError`` and a ``TypeError``, so that a caller need not know whether the kind or the value is wrong.
    """


class VocabularyNotFound(VocabularyError, FileNotFoundError):
    """A text that is neither the name of a packaged vocabulary nor a file."""


def packaged_vocabularies() -> tuple[str, ...]:
    """Names of the class files that come with ovseg, sorted; each works as ``Vocabulary.from_file(name)``."""
    return tuple(sorted(path.stem for path in PACKAGED_DIR.glob("*.txt")))


@dataclass(frozen=True)
class Vocabulary:
    """Classes and their names.

    Build one with :meth:`of`, which takes whatever a person may mean by it, or with :meth:`from_file`,
    :meth:`from_list`, :meth:`from_names`.

    Attributes:
        classes: for each class its names, all of which are encoded.
        background: index of the background class, or None if the classes have none.
        source: where the words came from, for reports; no part of equality or of the hash.
        shown: for each class the name shown to people where it is not the first of its names, else None; no part of
            equality or of the hash, since it changes no number.

    Example:
        >>> v = Vocabulary.of(["background", "cat", ("sofa", "couch")])
        >>> len(v), v.queries, v.query_to_class.tolist()
        (3, ('background', 'cat', 'sofa', 'couch'), [0, 1, 2, 2])
        >>> Vocabulary.of({"cat": [], "sofa": ["couch", "settee"]}).classes
        (('cat',), ('sofa', 'couch', 'settee'))
    """

    classes: tuple[tuple[str, ...], ...]
    background: int | None = None
    source: str = field(default="list", compare=False)
    shown: tuple[str | None, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, value: object) -> Vocabulary:
        """The vocabulary that ``value`` means. Every entry of ovseg that takes words takes them through this function.

        Args:
            value: one of

                - a :class:`Vocabulary`, returned as it is;
                - a text: the name of a packaged vocabulary (:func:`packaged_vocabularies`) or the path of a class file
                  (:mod:`ovseg.class_files` says of which kinds), nothing else;
                - a list (or any ordered iterable) with one entry per class: a text, in which ``'; '`` separates
                  synonyms, or a tuple or list of names;
                - a mapping of each name to a synonym or a list of synonyms, or of the class index to its name;
                - a config: a mapping with ``file`` or ``names`` (a list as above) and, optionally, ``separator``,
                  ``background`` (index of the background class) and ``allow_duplicates``.

        Raises:
            VocabularyError: for anything else, saying how to write it; it is a ``ValueError`` and a ``TypeError``.
            VocabularyNotFound: for a text that is neither a packaged name nor a file; also a ``FileNotFoundError``.
            ClassListError: (a ``ValueError``) for a class file that is not clear.
        """
        if isinstance(value, Vocabulary):
            return value
        if isinstance(value, str | os.PathLike):
            return cls.from_file(value)
        if isinstance(value, Mapping) and _is_config(value):
            return cls._from_settings(value)
        return cls._parse(_as_list(value), PACKAGED_SEPARATOR, None, False)

    from_config = of

    @classmethod
    def from_argument(cls, text: str) -> Vocabulary:
        """The words of a command line: a packaged name, a class file, or words with commas between the classes.

        >>> Vocabulary.from_argument("cat, sofa; couch").classes
        (('cat',), ('sofa', 'couch'))

        Raises:
            VocabularyError: for a text in which other signs stand between the classes; shows how to write it.
            VocabularyNotFound: for what looks like a file that does not exist.
        """
        if text in packaged_vocabularies() or _is_there(text):
            return cls.from_file(text)
        if Path(text).suffix.lower() in SUFFIXES and "," not in text:
            raise _not_found(text)
        meant = _several_in_one(text) or ([] if "," in text else _split(text, "|\t;/"))
        if len(meant) > 1:
            raise VocabularyError(
                f"{text!r} is one class as it is written; for {len(meant)} classes write {', '.join(meant)!r}"
            )
        found = [name.strip() for name in text.split(",")]
        return cls._parse(ClassList("the words", tuple(found), tuple(range(len(found))), "entry"), ";", None, False)

    @classmethod
    def from_file(
        cls,
        file: str | os.PathLike,
        separator: str = PACKAGED_SEPARATOR,
        background: int | None = None,
        allow_duplicates: bool = False,
    ) -> Vocabulary:
        """Read a class file: one line per class, several names on a line are several queries.

        ``background := sky; wall`` on a line gives the name that people are shown before the names that are encoded.
        Numbers, colours, tables, JSON, YAML and the other forms of :mod:`ovseg.class_files` are read as what they are.

        Args:
            file: a packaged name such as ``'voc21'`` (see :func:`packaged_vocabularies`) or a path. A packaged name
                wins over a file of that name in the working directory; write ``./voc21`` for the file.
            separator: what stands between the names on a line. Packaged files use ``'; '``.
            background: index of the background class (counted from 0), or None.
            allow_duplicates: accept a name that occurs twice. Packaged files are accepted as they are, because
                CLIPtrase's list is defined with "bed" twice.

        Raises:
            VocabularyNotFound: neither a packaged name nor a file; a ``FileNotFoundError`` and a ``ValueError``.
            ClassListError: (a ``ValueError``) not UTF-8, empty, a blank line, lines that do not fit together.
            ValueError: an empty name, a name that occurs twice, ``background`` out of range, or another separator than
                ``'; '`` for a packaged file.

        Warns:
            UserWarning: a line holds another usual separator but not the chosen one, so that its names would silently
                become one prompt; or the file numbers its classes from 1.
        """
        packaged = str(file) in packaged_vocabularies()
        path = PACKAGED_DIR / f"{file}.txt" if packaged else Path(file).expanduser()
        if packaged and separator != PACKAGED_SEPARATOR:
            raise ValueError(
                f"the packaged vocabulary '{file}' separates names by {PACKAGED_SEPARATOR!r}, not by {separator!r}; "
                "leave the separator out"
            )
        if not packaged and not _is_there(file):
            raise _not_found(file)
        found = read_class_file(path)
        if found.first == 1:
            warnings.warn(
                f"{file}: the classes are numbered from 1; here they count from 0, so {found.entries[0]!r} is class 0",
                stacklevel=2,
            )
        return cls._parse(
            replace(found, source=str(file)), separator, background, allow_duplicates or packaged, trusted=packaged
        )

    @classmethod
    def from_list(
        cls,
        lines: Sequence[str | Sequence[str]],
        separator: str = PACKAGED_SEPARATOR,
        background: int | None = None,
        allow_duplicates: bool = False,
    ) -> Vocabulary:
        """Like :meth:`from_file` with the lines given directly: ``['cat', 'sofa; couch']``."""
        if isinstance(lines, str):
            raise VocabularyError(f"expected a list with one string per class, got the single string {lines!r}")
        return cls._parse(_as_list(lines), separator, background, allow_duplicates)

    @classmethod
    def from_names(
        cls,
        names: Sequence[str | Sequence[str]],
        background: int | None = None,
        allow_duplicates: bool = False,
    ) -> Vocabulary:
        """Names taken whole, never split: a string is a class with one name, a sequence one with several."""
        if isinstance(names, str):
            raise VocabularyError(f"expected a list with one entry per class, got the single string {names!r}")
        found = _as_list(names)
        return cls._build(
            [(e,) if isinstance(e, str) else e for e in found.entries], found, background, allow_duplicates
        )

    @classmethod
    def _from_settings(cls, config: Mapping) -> Vocabulary:
        """The config form of :meth:`of`."""
        unknown = sorted(set(config) - set(_CONFIG_KEYS), key=str)
        if unknown:
            raise VocabularyError(
                f"vocabulary config has unknown keys {unknown}; known are {list(_CONFIG_KEYS)}. To give class names, "
                "with 'file' or 'names' among them, write a list: [('cat', 'kitten'), 'file']"
            )
        if ("file" in config) == ("names" in config):
            raise VocabularyError(f"vocabulary config needs either 'file' or 'names', got the keys {sorted(config)}")
        options = {key: config[key] for key in _CONFIG_KEYS[2:] if key in config}
        background = options.get("background")
        if background is not None and (not isinstance(background, int) or isinstance(background, bool)):
            raise VocabularyError(f"background={background!r}; it is the index of the background class, or None")
        if "file" not in config:
            return cls.from_list(config["names"], **options)
        if not isinstance(config["file"], str | os.PathLike):
            raise VocabularyError(f"file={config['file']!r}; give the name of a packaged vocabulary or a path")
        return cls.from_file(config["file"], **options)

    @classmethod
    def _parse(
        cls, found: ClassList, separator: str, background: int | None, allow_duplicates: bool, trusted: bool = False
    ) -> Vocabulary:
        """Split the entries into names; say what looks like several classes in one."""
        if not separator:
            raise ValueError(f"{found.source}: the separator between names is empty; give ', ' or '; '")
        classes, shown = [], []
        for number, entry in zip(found.places, found.entries, strict=True):
            where = f"{found.source}, {found.unit} {number}"
            for text in (entry,) if isinstance(entry, str) else entry:
                meant = _several_in_one(text)
                if meant:
                    raise VocabularyError(f"{where}: {text!r} would be one prompt; write the classes apart: {meant}")
            if not isinstance(entry, str):
                classes.append(entry)
                shown.append(None)
                continue
            display, mark, names = entry.partition(SHOWN_AS)
            if mark and not (display.strip() and names.strip()):
                raise VocabularyError(f"{where}: empty name beside {SHOWN_AS!r}; write `shown name {SHOWN_AS} names`")
            if not mark:
                names = entry
            other = next((s for s in _KNOWN_SEPARATORS if s in names.strip()), None)
            if other and separator not in names and not trusted:
                if len(found.entries) == 1:
                    raise VocabularyError(
                        f"{where}: {names.strip()!r} is one class as it is written; for several write one {found.unit} "
                        f"for each: {_split(names, other)}"
                    )
                own = "a line" if found.unit == "line" else "an entry"
                warnings.warn(
                    f"{where}: {names.strip()!r} contains {other!r} but not the separator {separator!r}, so it is "
                    f"taken as one name; is the separator right? Synonyms are written "
                    f"{separator.join(_split(names, other))!r}, each class as {own} of its own",
                    stacklevel=4,
                )
            classes.append(tuple(names.split(separator)))
            shown.append(display.strip() if mark else None)
        if len(found.entries) == 1 and len(classes[0]) > 1 and isinstance(found.entries[0], str) and not any(shown):
            warnings.warn(
                f"{found.source}: one class with the names {', '.join(n.strip() for n in classes[0])}; if they are "
                f"classes, write one {found.unit} for each",
                stacklevel=4,
            )
        return cls._build(classes, found, background, allow_duplicates, tuple(shown) if any(shown) else ())

    @classmethod
    def _build(
        cls,
        classes: Sequence[Sequence[str]],
        found: ClassList,
        background: int | None,
        allow_duplicates: bool,
        shown: tuple[str | None, ...] = (),
    ) -> Vocabulary:
        source, unit = found.source, found.unit
        if not classes:
            raise VocabularyError(f"{source}: no classes; a vocabulary needs at least one {unit}")
        classes = tuple(tuple(name.strip() for name in names) for names in classes)
        for name in (*(name for names in classes for name in names), *filter(None, shown)):
            if any("\ud800" <= letter <= "\udfff" for letter in name):
                raise VocabularyError(
                    f"{source}: {name!r} holds half of a surrogate pair, which is no letter: the text was cut or read "
                    "with another encoding than it has; save it as UTF-8"
                )
        seen: dict[str, int] = {}
        for number, names in zip(found.places, classes, strict=True):
            if not all(names) or not names:
                raise VocabularyError(
                    f"{source}, {unit} {number}: empty name in {list(names)}; every {unit} is one class with at least "
                    "one name, and the order is the class index, so remove the stray separator or blank line"
                )
            for name in names:
                # CLIP's tokenizer lower-cases, so "Cat" and "cat" are the same query.
                before = seen.setdefault(name.lower(), number)
                repeated = before != number or sum(other.lower() == name.lower() for other in names) > 1
                if repeated and not allow_duplicates:
                    where = f"on {unit} {number}" if before == number else f"on {unit} {before} and {unit} {number}"
                    raise VocabularyError(
                        f"{source}: the name {name!r} occurs twice, {where}; a class that shares its name with "
                        "another can never win: rename one, or pass allow_duplicates=True"
                    )
        if background is not None and not 0 <= background < len(classes):
            raise VocabularyError(f"{source}: background={background}, but the classes are 0 to {len(classes) - 1}")
        vocabulary = cls(classes, background, source, shown)
        if len(set(vocabulary.display_names)) < len(classes) and shown:
            raise VocabularyError(
                f"{source}: two classes are shown under one name; give each a {SHOWN_AS} name of its own"
            )
        return vocabulary

    def with_background(self, name: str) -> Vocabulary:
        """The same words with the class of that name, shown or encoded first, as the background.

        Raises:
            VocabularyError: if there is no such class.
        """
        for names in (self.display_names, self.names):
            if name in names:
                return replace(self, background=names.index(name))
        raise VocabularyError(f"background {name!r} is not among the names {', '.join(self.display_names)}")

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The first name of each class that is encoded; for people see :attr:`display_names`."""
        return tuple(names[0] for names in self.classes)

    @cached_property
    def display_names(self) -> tuple[str, ...]:
        """The name of each class for legends, tables and results: its own shown name where the file gives one,
        "background" for the background class, else the first of its names."""
        shown = self.shown or (None,) * len(self.classes)
        names = [name or names[0] for name, names in zip(shown, self.classes, strict=True)]
        if self.background is not None and shown[self.background] is None and "background" not in names:
            names[self.background] = "background"
        return tuple(names)

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
        """SHA-256 (hex) over the names, their classes and the background index: what a number depends on. The same on
        every machine, and whatever the classes are shown as."""
        content = json.dumps([self.classes, self.background], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()


def _as_list(value: object) -> ClassList:
    try:
        return class_list(value)
    except ClassListError as error:
        raise VocabularyError(str(error)) from None


def _is_config(value: Mapping) -> bool:
    """Whether a mapping holds settings, not classes: ``{"background": ["sky"], "cat": []}`` holds classes."""
    if "file" in value or "names" in value:
        return True
    plain = all(v is None or isinstance(v, str | list | tuple) for v in value.values())
    return not value or (set(value) <= set(_CONFIG_KEYS) and not plain)


def _is_there(file: str | os.PathLike) -> bool:
    try:
        path = Path(file).expanduser()
        return path.is_symlink() or (path.exists() and not path.is_dir())
    except (OSError, ValueError, RuntimeError):  # a text too long for a path, a zero byte, a home that is not known
        return False


def _not_found(file: str | os.PathLike) -> VocabularyNotFound:
    """What is wrong with a text that is no vocabulary, and how the words in it are written."""
    text = str(file)
    close = difflib.get_close_matches(text, packaged_vocabularies(), n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    words = _several_in_one(text) or _split(text, ";,|\t/")
    is_path = isinstance(file, os.PathLike) or Path(text).suffix.lower() in SUFFIXES
    advice = "" if is_path or not words else f". Words are given as a list: {words}"
    return VocabularyNotFound(
        f"vocabulary {text!r} is neither a file nor a packaged name{hint}{advice} "
        f"(packaged: {', '.join(packaged_vocabularies())})"
    )


def _split(text: str, separators: str) -> list[str]:
    """The parts of a text at the first of the separators that it holds."""
    separator = next((s for s in separators if s in text), None)
    return [part.strip() for part in text.split(separator) if part.strip()] if separator else [text.strip()]


def _several_in_one(text: str) -> list[str]:
    """The names in a text that is plainly a list, no name: lines, ``cat . dog .``, ``['cat', 'dog']``; else empty."""
    text = text.strip()
    if "\n" in text or "\r" in text:
        parts = text.splitlines()
    elif len(text) > 2 and text[0] + text[-1] in ("[]", "()", "{}"):
        parts = [part.strip().strip("\"'") for part in text[1:-1].split(",")]
    elif re.search(r"(^|\s)\.(\s|$)", text):  # the habit of GroundingDINO and LangSAM
        parts = re.split(r"(?:^|\s)\.(?=\s|$)", text)
    elif text.endswith(".") and re.search(r"\w\w\.\s", text):
        parts = text.split(".")
    else:
        return []
    return [part.strip() for part in parts if part.strip()]
