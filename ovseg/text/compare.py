"""Two vocabularies side by side, and what a vocabulary's words are likely to be wrong about."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

from ovseg.text.vocabulary import Vocabulary

_NUMBERED = re.compile(r"^\d+\s*[.:,)\]=\t ]\s*\S|\S\s*[,:;=\t]\s*\d+$")
_COLOURED = re.compile(r"#[0-9a-fA-F]{6}\b|\b\d{1,3}[,; ]+\d{1,3}[,; ]+\d{1,3}\b")


@dataclass(frozen=True)
class ClassDifference:
    """A class whose words differ.

    Attributes:
        index: the class; ``name`` as it is shown.
        only_a, only_b: words that only one of the two vocabularies has for it.
        moved: classes of the other vocabulary that have its words, where they stand elsewhere.
    """

    index: int
    name: str
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    moved: tuple[int, ...] = ()


@dataclass(frozen=True)
class VocabularyDifference:
    """What :func:`compare` found.

    Attributes:
        a, b: sources; ``hash_a``, ``hash_b`` their content hashes.
        classes_a, classes_b: numbers of classes; ``queries_a``, ``queries_b`` of encoded words.
        background_a, background_b: index of the background class.
        changed: classes with other words, by index.
        only_a, only_b: classes beyond the last of the other vocabulary, as shown.
    """

    a: str
    b: str
    hash_a: str
    hash_b: str
    classes_a: int
    classes_b: int
    queries_a: int
    queries_b: int
    background_a: int | None
    background_b: int | None
    changed: tuple[ClassDifference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether no number could differ: names, classes, their order and the background agree."""
        return self.hash_a == self.hash_b

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"same": self.same, **asdict(self)}


def compare(a: Vocabulary, b: Vocabulary) -> VocabularyDifference:
    """Class by class, by index: the order is what a number depends on.

    >>> found = compare(Vocabulary.of(["cat", "sofa; couch"]), Vocabulary.of(["cat", "sofa", "dog"]))
    >>> found.changed[0].only_a, found.only_b, found.same
    (('couch',), ('dog',), False)
    """
    places = {frozenset(names): i for i, names in enumerate(b.classes)}
    changed = []
    for i, (ours, theirs) in enumerate(zip(a.classes, b.classes, strict=False)):
        if ours != theirs:
            elsewhere = places.get(frozenset(ours))
            changed.append(
                ClassDifference(
                    i,
                    a.display_names[i],
                    tuple(name for name in ours if name not in theirs),
                    tuple(name for name in theirs if name not in ours),
                    () if elsewhere in (None, i) else (elsewhere,),
                )
            )
    return VocabularyDifference(
        a.source,
        b.source,
        a.content_hash,
        b.content_hash,
        len(a),
        len(b),
        len(a.queries),
        len(b.queries),
        a.background,
        b.background,
        tuple(changed),
        a.display_names[len(b) :],
        b.display_names[len(a) :],
    )


def faults(vocabulary: Vocabulary, count_tokens: Callable[[str], int] | None = None, context: int = 77) -> list[str]:
    """What is odd about words that could be read, one sentence each.

    Args:
        vocabulary: whose duplicates and empty names were refused when it was read.
        count_tokens: tokens of a prompt, start and end included; ``None``: lengths are not looked at.
        context: tokens that the text encoder reads; what is longer is cut without a word.
    """
    found = []
    where = {name: i for i, names in enumerate(vocabulary.classes) for name in names}
    for name, i in where.items():
        if _COLOURED.search(name):
            found.append(f"class {i}: {name!r} holds a colour; prompts are words, take it out")
        elif _NUMBERED.search(name):
            found.append(f"class {i}: {name!r} holds a number that looks like an index; take it out if it is one")
        if "_" in name:
            found.append(
                f"class {i}: {name!r} is written with underscores; the text encoder reads blanks between words"
            )
        if count_tokens is not None and (tokens := count_tokens(name)) > context:
            found.append(f"class {i}: {name[:40]!r}... has {tokens} tokens of {context}; its end would be cut")
    return found
