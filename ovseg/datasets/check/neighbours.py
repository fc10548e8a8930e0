"""Single label maps whose classes fit the others only after all labels are moved by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_FEWEST = 20
"""Label maps from which on the others say what is usual."""
_PRIOR = 0.3
_SURE = 5.0


def shifted_maps(present: Sequence[np.ndarray], classes: int) -> list[tuple[int, int]]:
    """Which label maps look moved by one.

    The classes of a map are compared with those of all other maps: the log odds that a map has a class, summed over
    its classes (naive Bayes), as the map is and with its labels moved by -1 and +1. One is told where moving makes it
    likelier by a factor of ``N e^5`` among ``N`` maps. Of maps with few classes, or with classes whose neighbours are
    as usual as they are, nothing can be said.

    Args:
        present: classes that occur in each map.
        classes: how many there are.

    Returns:
        ``(place, move)``: ``move`` is what must be added to its labels, -1 or 1.
    """
    number = len(present)
    if number < _FEWEST or classes < 3:
        return []
    occurs = np.zeros((number, classes), bool)
    for i, found in enumerate(present):
        occurs[i, np.asarray(found, np.int64)] = True
    total = occurs.sum(axis=0)
    told = []
    for i in range(number):
        rate = (total - occurs[i] + _PRIOR) / (number + 2 * _PRIOR - 1)
        odds = np.log(rate) - np.log1p(-np.minimum(rate, 1 - 1e-9))
        own = odds[occurs[i]].sum()
        gains = {}
        for move in (-1, 1):
            moved = np.flatnonzero(occurs[i]) + move
            if moved.size and moved.min() >= 0 and moved.max() < classes:
                gains[move] = odds[moved].sum() - own
        best = max(gains, key=gains.get, default=None)
        if best is not None and gains[best] > _SURE + np.log(number):
            told.append((i, best))
    return told
