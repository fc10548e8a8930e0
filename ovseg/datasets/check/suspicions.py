"""What label maps look like that were read with the wrong settings: every file is whole, and every number wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ovseg.datasets.findings import Finding

_BACKGROUND = ("background", "unlabeled", "unlabelled", "void", "other", "others", "none")
_MANY = 20  # maps from which on a class that should be common and never occurs says something


@dataclass(frozen=True)
class Labels:
    """The labels of a whole data set.

    Attributes:
        names: classes.
        ignore_index, reduce_zero_label, label_map: settings of the data set.
        raw: ``{label in the files: pixels}``.
        pixels: int64 ``[C]`` per class.
        ignored: pixels.
        maps: label maps read.
    """

    names: Sequence[str]
    ignore_index: int
    reduce_zero_label: bool
    label_map: Mapping[int, int] | None
    raw: Mapping[int, int]
    pixels: np.ndarray
    ignored: int
    maps: int


def two_valued(pixels: Sequence[int], ignored: int, names: Sequence[str], ignore_index: int) -> str | None:
    """What to set where label maps hold 0 and the ignore index only, as masks drawn in black and white do.

    Args:
        pixels: labelled pixels per class.
        ignored: pixels with the ignore index.
        names: class names.
        ignore_index: the label that is not evaluated.

    >>> two_valued([5, 0], 3, ["wall", "crack"], 255).split("; ")[1]
    "if 255 means 'crack' in the files, set label_map={255: 1} in the data set"
    >>> two_valued([5, 2], 3, ["wall", "crack"], 255) is None
    True
    """
    present = [i for i, count in enumerate(pixels) if count]
    if len(names) < 2 or not ignored or present not in ([], [0]):
        return None
    if not present:
        return (
            f"no pixel of a class occurs, all are ignored; with reduce_zero_label=True label 0 and {ignore_index} are: "
            f"leave it out, or map the labels of the files to classes with label_map"
        )
    return (
        f"of {len(names)} classes only {names[0]!r} (0) occurs, all other pixels are {ignore_index}, which is ignored; "
        f"if {ignore_index} means {names[1]!r} in the files, set label_map={{{ignore_index}: 1}} in the data set"
    )


def suspicions(labels: Labels) -> Iterator[Finding]:
    """What the labels of a data set as a whole give away, most certain first."""
    if not labels.raw:
        return
    told = two_valued(labels.pixels, labels.ignored, labels.names, labels.ignore_index)
    if told is None and set(labels.raw) == {0, 255} and not labels.label_map and labels.ignore_index != 255:
        told = "the label maps hold 0 and 255 only, as masks drawn in black and white do; set label_map={255: 1}"
    if told is not None:
        yield Finding("two-valued", told)
        return
    if not labels.label_map:
        yield from _numbering(labels)


def _numbering(labels: Labels) -> Iterator[Finding]:
    classes = len(labels.names)
    found = sorted(v for v in labels.raw if v != labels.ignore_index)
    if not found:
        return
    low, high = found[0], found[-1]
    if labels.reduce_zero_label:
        if labels.ignore_index in labels.raw and high == classes - 1 and low == 0:
            yield Finding(
                "already-reduced",
                f"the label maps hold 0 to {high} and {labels.ignore_index}, never {classes}: they look as if 0 was "
                f"taken away already, and reduce_zero_label=True takes {labels.names[0]!r} away too and shifts every "
                "class by one; set reduce_zero_label=False, or use the original label maps",
            )
        return
    if high == classes:
        zero = "0 never occurs" if low > 0 else "0 then means unlabelled"
        yield Finding(
            "shifted",
            f"the label maps hold {low} to {classes}, and the last of {classes} classes is {classes - 1}: they count "
            f"classes from 1 ({zero}); set reduce_zero_label=True",
        )
    elif low == 1 and classes > 1 and _should_occur(labels, found):
        yield Finding(
            "shifted",
            f"label 0 ({labels.names[0]!r}) occurs in none of {labels.maps} label maps, which hold 1 to {high}: they "
            "look shifted by one; if they count classes from 1, set reduce_zero_label=True",
        )


def _should_occur(labels: Labels, found: Sequence[int]) -> bool:
    """Whether it is odd that class 0 never does."""
    if labels.names[0].lower() in _BACKGROUND:
        return labels.maps >= 3
    return labels.maps >= _MANY and len(found) >= 0.8 * (len(labels.names) - 1)
