"""Do the words belong to the data set? Numbers, names, order and background are compared before anything is evaluated.

A model that predicts class 3 of its own list is otherwise counted as class 3 of the data set's, and the table looks
plausible under the data set's names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmengine.config import Config
from torch import nn

from ovseg.engine.errors import SetupError
from ovseg.text.vocabulary import SHOWN_AS, Vocabulary, packaged_vocabularies

_BACKGROUND = {"background", "unlabeled", "unlabelled", "void"}


def check_config(cfg: Config, dataset: object) -> None:
    """What can be compared before the model and its weights are there.

    Args:
        cfg: with ``test_dataloader`` and, perhaps, ``num_classes`` and ``model.vocabulary``.
        dataset: the test data set.

    Raises:
        SetupError: naming what does not fit, and what to change.
        VocabularyError: for a vocabulary that is none.
    """
    names = dataset.metainfo.get("classes")
    if not names:
        return
    if dataset.metainfo.get("reduce_zero_label") and _norm(names[0]) in _BACKGROUND:
        raise SetupError(
            f"reduce_zero_label=True ignores label 0 and makes label 1 class 0, which is {names[0]!r} here; leave it "
            "out where 0 is the background, or leave the background out of the classes"
        )
    number = cfg.get("num_classes")
    if number is not None and number != len(names):
        raise SetupError(
            f"num_classes={number}, but the data set has {len(names)} classes ({_some(names)}); set "
            f"num_classes = {len(names)}, or give the data set its own classes"
        )
    vocabulary = (cfg.get("model") or {}).get("vocabulary")
    if vocabulary is not None:
        match_words(Vocabulary.of(vocabulary), names)


def check_model(model: nn.Module, dataset: object) -> dict[str, str]:
    """Compare the words that a model has with the classes of a data set, and where it puts the background.

    Returns:
        ``{name of a class: words that stand for it}`` of the classes whose name is not among their words; empty where
        all agree or the model has no vocabulary.

    Raises:
        SetupError: naming what does not fit, and what to change.
    """
    vocabulary, names = getattr(model, "vocabulary", None), dataset.metainfo.get("classes")
    if not isinstance(vocabulary, Vocabulary) or not names:
        return {}
    other = match_words(vocabulary, names)
    _check_background(vocabulary, getattr(model, "head", None), names)
    return other


def match_words(vocabulary: Vocabulary, names: Sequence[str]) -> dict[str, str]:
    """As :func:`check_model`, for a vocabulary and class names alone.

    >>> match_words(Vocabulary.of(["cat", "ship; vessel"]), ("cat", "boat"))
    {'boat': 'ship; vessel'}

    Raises:
        SetupError: for another number of classes, for names in another order, and where no class has its name among its
            words.
    """
    if len(vocabulary) != len(names):
        raise SetupError(
            f"the vocabulary ({vocabulary.source}) has {len(vocabulary)} classes ({_some(vocabulary.display_names)}), "
            f"the data set {len(names)} ({_some(names)}); give one entry for each class, in the data set's order"
        )
    words = [
        {_norm(word) for word in (*entry, shown)} | ({"background"} if i == vocabulary.background else set())
        for i, (entry, shown) in enumerate(zip(vocabulary.classes, vocabulary.display_names, strict=True))
    ]
    own = [{_norm(name), *(_norm(part) for part in re.split("[,;]", name))} for name in names]
    unmatched = [i for i in range(len(names)) if not words[i] & own[i]]
    for i in unmatched:
        j = next((j for j in range(len(names)) if words[i] & own[j]), None)
        if j is not None:
            raise SetupError(
                f"the vocabulary ({vocabulary.source}) is not in the data set's order: its class {i} is "
                f"{vocabulary.display_names[i]!r}, which is class {j} of the data set; class {i} there is {names[i]!r}."
                " Write the words in the order of the data set's classes"
            )
    if len(unmatched) == len(names):
        raise SetupError(
            f"no class of the data set ({_some(names)}) has its name among the words of the vocabulary "
            f"({vocabulary.source}: {_some(vocabulary.display_names)}); if they do belong together, say so: "
            f"'{names[0]} {SHOWN_AS} {'; '.join(vocabulary.classes[0])}' and so on"
        )
    return {names[i]: "; ".join(vocabulary.classes[i]) for i in unmatched}


def is_packaged(vocabulary: Vocabulary) -> bool:
    """Whether the words are those of a vocabulary that comes with ovseg, whose other names are known and meant."""
    return vocabulary.source in packaged_vocabularies()


def _check_background(vocabulary: Vocabulary, head: object, names: Sequence[str]) -> None:
    place = next((i for i, name in enumerate(names) if _norm(name) in _BACKGROUND), None)
    chosen = vocabulary.background
    if chosen is not None and place is not None and chosen != place:
        raise SetupError(
            f"background={chosen} of the vocabulary is {names[chosen]!r} in the data set, whose background is class "
            f"{place}; set background={place}"
        )
    if not (getattr(head, "threshold", 0) or getattr(head, "area_threshold", 0)):
        return
    given = getattr(head, "background", None)
    if given is None:
        return
    expected = chosen if chosen is not None else place
    if expected is None:
        raise SetupError(
            f"the head gives pixels below its threshold to class {given}, {_at(names, given)}, but neither vocabulary "
            "nor data set has a background; set the threshold to 0, or say which class is the background "
            "(vocabulary=dict(..., background=0))"
        )
    if given != expected:
        raise SetupError(
            f"the head gives pixels below its threshold to class {given}, {_at(names, given)}, but the background is "
            f"class {expected}, {_at(names, expected)}; set background={expected} in model.head"
        )


def _at(names: Sequence[str], index: int) -> str:
    return repr(names[index]) if 0 <= index < len(names) else "which does not exist"


def _norm(name: str) -> str:
    """A name without what differs between lists of one data set: case, blanks, hyphens, underscores."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
