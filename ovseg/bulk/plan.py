"""Which photos are worked on together: a function of the ordered list of photos, and of nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ovseg.datasets.sources import Photo
from ovseg.errors import SetupError

PHOTOS_PER_SHARD = 128
"""What a kill can cost: the work on this many photos per process."""
_SCHEME = "ovseg bulk plan 1"


@dataclass(frozen=True)
class Shard:
    """Photos that are worked on in one go and whose results appear together.

    Attributes:
        number: from 0.
        first: number of its first photo in the source, from 0.
        photos: in their order.
    """

    number: int
    first: int
    photos: tuple[Photo, ...]

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.number:08d}"

    @property
    def hash(self) -> str:
        """SHA-256 (hex) over its number and the names of its photos."""
        return _hash([f"{_SCHEME} shard {self.number} {self.first}", *(photo.name for photo in self.photos)])


@dataclass(frozen=True)
class Plan:
    """Photos in shards of equal size (the last may be smaller).

    Args:
        photos: all of them, in order.
        photos_per_shard: from 1.

    Raises:
        SetupError: for a size that is none.
    """

    photos: Sequence[Photo]
    photos_per_shard: int = PHOTOS_PER_SHARD

    def __post_init__(self) -> None:
        if self.photos_per_shard < 1:
            raise SetupError(f"{self.photos_per_shard} photos per shard: at least 1 is needed")

    def __len__(self) -> int:
        return -(-len(self.photos) // self.photos_per_shard)

    def __getitem__(self, number: int) -> Shard:
        if not 0 <= number < len(self):
            raise IndexError(f"shard {number} of {len(self)}")
        first = number * self.photos_per_shard
        return Shard(number, first, tuple(self.photos[first : first + self.photos_per_shard]))

    def __iter__(self) -> Iterator[Shard]:
        return (self[number] for number in range(len(self)))

    @property
    def hash(self) -> str:
        """SHA-256 (hex) over the size of a shard and the names of all photos in order."""
        return _hash([f"{_SCHEME} {self.photos_per_shard}", *(photo.name for photo in self.photos)])


def _hash(lines: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{len(line)} {line}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
