"""The order in which an evaluation walks through a data set."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sized

from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class EvalSampler(DefaultSampler):
    """Every sample once: in order, rank r of n takes r, r + n, r + 2n ...; nothing is repeated to fill up.

    Args:
        dataset: the data set.
        seed: accepted for MMEngine's sake; nothing is random here.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle=False, seed=seed or 0, round_up=False)
        self._done: frozenset[int] = frozenset()

    def exclude(self, done: Collection[int]) -> None:
        """Leave out sample indices, those that a resumed evaluation has behind it.

        They are taken from each rank's share, so that what is left is batched as it would have been.
        """
        self._done = frozenset(done)

    def __iter__(self) -> Iterator[int]:
        return (index for index in super().__iter__() if index not in self._done)

    def __len__(self) -> int:
        return sum(1 for _ in self)
