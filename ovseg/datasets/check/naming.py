"""Whether class names fit what photos show, from a model's scores: told where all label maps are moved by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ovseg.datasets.findings import Finding

FEWEST_PHOTOS, _FEWEST_CLASSES = 12, 4
"""Photos from which on something is told; below so many classes a name has hardly others to be compared with."""
_SURE = 4.0
"""Standard errors, over photos, by which moved names must fit better."""
_FITS, _HARDLY = 0.62, 0.6
"""Agreement from which on moved names fit; below which names hardly do."""


@dataclass(frozen=True)
class Looked:
    """What a model saw where label maps have a class.

    Attributes:
        photos: int64 ``[n]``, which photo a row is of.
        classes: int64 ``[n]``, which class.
        scores: float32 ``[n, C]``, of every name, mean over the pixels of the class.
        known: bool ``[C]``, the names that the model has learned.
        named: bool ``[C]``, the names that say what is there, as "background" does not.
    """

    photos: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    known: np.ndarray
    named: np.ndarray

    def ranks(self) -> np.ndarray:
        """``[n, C]``: the share of the other names that a name beats, after each name's mean over the rows is taken
        away: some names score high everywhere."""
        centred = self.scores - self.scores.mean(axis=0)
        return centred.argsort(axis=1).argsort(axis=1) / (self.scores.shape[1] - 1)

    def _movable(self, move: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows whose class says what is there and still does when moved, and the classes that it moves to."""
        moved = self.classes + move
        inside = (moved >= 0) & (moved < self.scores.shape[1])
        rows = np.flatnonzero(inside & self.named[self.classes] & self.named[np.where(inside, moved, 0)])
        return rows, moved[rows]

    def agreement(self, move: int = 0) -> float:
        """Mean rank of the names ``classes + move``: 0.5 is chance, 1 is best; NaN where there are none."""
        rows, moved = self._movable(move)
        return float(self.ranks()[rows, moved].mean()) if rows.size else float("nan")

    def surplus(self, move: int) -> float:
        """By how many standard errors, over photos, names moved by ``move`` fit better than those that are given."""
        (rows, moved), ranks = self._movable(move), self.ranks()
        gain = ranks[rows, moved] - ranks[rows, self.classes[rows]]
        each = np.array([gain[self.photos[rows] == photo].mean() for photo in np.unique(self.photos[rows])])
        if len(each) < FEWEST_PHOTOS:
            return 0.0
        return float(each.mean() / (each.std(ddof=1) / len(each) ** 0.5 + 1e-9))

    def to_dict(self) -> dict[str, object]:
        """Numbers for JSON."""
        facts: dict[str, object] = {"photos": len(np.unique(self.photos)), "places": len(self.classes)}
        if self.named[self.classes].any():
            facts["agreement"] = {move: round(self.agreement(move), 3) for move in (-1, 0, 1)}
        return facts


def naming(looked: Looked, names: Sequence[str]) -> list[Finding]:
    """Names that fit only when all labels are moved by one, and names that hardly fit at all.

    The second is only worth knowing: so it is with photos of a kind that the model cannot read.

    Args:
        looked: what a model saw.
        names: of the classes.
    """
    photos = len(np.unique(looked.photos))
    if photos < FEWEST_PHOTOS or looked.scores.shape[1] < _FEWEST_CLASSES:
        return []
    found = looked.agreement()
    for move in (-1, 1):
        other = looked.agreement(move)
        if other >= _FITS and looked.surplus(move) > _SURE:
            row = next(c for c in looked.classes.tolist() if 0 <= c + move < looked.scores.shape[1])
            message = (
                f"all label maps look shifted by one: with {move:+d} the class names fit {photos} photos far better "
                f"({100 * other:.0f} against {100 * found:.0f}, 50 is chance), and what is {names[row]!r} would be "
                f"{names[row + move]!r}; compare the list of classes with the data set's own"
            )
            return [Finding("shifted-names", message)]
    rows = looked.known[looked.classes]
    known = replace(looked, photos=looked.photos[rows], classes=looked.classes[rows], scores=looked.scores[rows])
    if len(np.unique(known.photos)) >= FEWEST_PHOTOS and known.agreement() < _HARDLY:
        message = (
            f"the class names hardly fit what the model sees in {photos} photos ({100 * known.agreement():.0f}, where "
            "50 is chance): is it the data set's own list, in its order? Of photos unlike everyday ones it cannot tell"
        )
        return [Finding("names", message, wrong=False)]
    return []
