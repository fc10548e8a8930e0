"""The words that a small model has learned: a list beside its weights, for those who ask it for others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".words.txt"
_BACKGROUND = "background :="


@dataclass(frozen=True)
class LearnedWords:
    """Words of a model's training captions.

    Attributes:
        words: all of them, lower case.
        background: what a class called "background" means to this model; empty: nothing of its own.
    """

    words: frozenset[str]
    background: tuple[str, ...] = ()

    def knows(self, name: str) -> bool:
        """Whether the model can know ``name``: it, its singular, or the word that it ends in (its head) was learned.

        >>> known = LearnedWords(frozenset({"car", "berry", "hot dog"}))
        >>> [known.knows(name) for name in ("Cars", "red car", "berries", "hot dog", "car mortar", "dog")]
        [True, True, True, True, False, False]
        """
        whole = " ".join(re.split(r"[\s_]+", name.strip().lower()))
        return any(form in self.words for part in (whole, whole.rsplit(" ", 1)[-1]) for form in _forms(part))

    def unknown(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of ``names`` that were not learned, each once, in order; "background" is no word to learn."""
        asked = (name for name in dict.fromkeys(names) if name.strip().lower() != "background")
        return tuple(name for name in asked if not self.knows(name))


def _forms(word: str) -> tuple[str, ...]:
    """A word and what it may be the plural of."""
    forms = [word]
    if word.endswith("ies"):
        forms.append(word[:-3] + "y")
    if word.endswith("es"):
        forms.append(word[:-2])
    if word.endswith("s"):
        forms.append(word[:-1])
    return tuple(forms)


def words_file(weights: Path) -> Path:
    """Where the list of a weights file lies: ``clip.safetensors`` -> ``clip.words.txt``."""
    return weights.with_name(weights.stem + SUFFIX)


def read_words(weights: Path) -> LearnedWords | None:
    """The words that belong to a weights file; ``None`` for a model that brings no list (it may know any word)."""
    path = words_file(weights)
    if not path.is_file():
        return None
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    background: tuple[str, ...] = ()
    words = []
    for line in lines:
        if line.startswith(_BACKGROUND):
            background = tuple(name.strip() for name in line.removeprefix(_BACKGROUND).split(";"))
        elif line and not line.startswith("#"):
            words.append(line.lower())
    return LearnedWords(frozenset(words), background)


def write_words(weights: Path, words: Iterable[str], comment: str, background: Iterable[str] = ()) -> None:
    """Write the list that :func:`read_words` reads.

    Args:
        weights: the weights file, there or not.
        words: what was learned.
        comment: first line.
        background: see :class:`LearnedWords`.
    """
    lines = [f"# {comment}"]
    if background := tuple(background):
        lines.append(f"{_BACKGROUND} {'; '.join(background)}")
    lines += sorted({word.lower() for word in words})
    words_file(weights).write_text("\n".join(lines) + "\n", encoding="utf-8")
