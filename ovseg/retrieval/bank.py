"""A bank on disk, memory-mapped, and exact search in it.

A bank is a folder::

    bank.json               version, widths, provenance
    shard-00000/keys.npy    float16 [n, C]: the guide's mean feature of each region
    shard-00000/NAME.npy    float16 [n, D]: what the CLIP of that name sees in each region, of unit length
    shard-00000/photos.json hash and number of regions of every photo of the shard, in order

Shards are complete or absent (:class:`ovseg.retrieval.BankWriter` renames them into place), so a bank can grow while
others read it. Rows are counted through all shards in the order of their names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.errors import DAMAGED_ARRAYS, ComponentError

VERSION = 1
CHUNK_ROWS = 1 << 16
"""Rows that are compared at once: 200 MB of float32 for features of 768 numbers."""


class BankError(ComponentError):
    """A bank that is missing, damaged, or made by other weights or settings than those that ask it."""


class Neighbours(NamedTuple):
    """Nearest regions of queries: ``scores`` float32 ``[R, k]`` cosines, best first, ``rows`` int64 ``[R, k]``."""

    scores: Tensor
    rows: Tensor


class MemoryBank:
    """Regions in a folder, opened for reading; nothing is read into memory but what a search compares.

    Args:
        folder: of the bank.
        expect: provenance that the bank must have, by name; other entries are not compared.

    Attributes:
        provenance: what made the bank.
        stores: width of every value store by name.

    Raises:
        BankError: if the folder is no bank, a shard is damaged, or the provenance differs.
    """

    def __init__(self, folder: str | Path, expect: Mapping[str, object] | None = None) -> None:
        self.folder = Path(folder)
        facts = read_facts(self.folder)
        self.provenance, self.width = dict(facts["provenance"]), int(facts["width"])
        self.stores = {name: int(width) for name, width in facts["stores"].items()}
        for name, wanted in (expect or {}).items():
            if self.provenance.get(name) != wanted:
                raise BankError(
                    f"{self.folder} was made with {name}={self.provenance.get(name)!r}, and is asked for "
                    f"{name}={wanted!r}: features of different origin cannot be compared; build the bank again"
                )
        shards = shard_folders(self.folder)
        self._keys = [_mapped(shard / "keys.npy", self.width) for shard in shards]
        self._values = {
            name: [_mapped(shard / f"{name}.npy", width) for shard in shards] for name, width in self.stores.items()
        }
        for name, parts in self._values.items():
            for keys, values, shard in zip(self._keys, parts, shards, strict=True):
                if len(keys) != len(values):
                    raise BankError(
                        f"{shard}: {len(keys)} keys, but {len(values)} rows of {name}; build the shard again"
                    )
        self._starts = np.cumsum([0, *(len(keys) for keys in self._keys)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def search(self, queries: Tensor, k: int = 20) -> Neighbours:
        """The k rows with the largest cosine, exactly, whatever the size of the bank.

        Args:
            queries: float ``[R, C]`` of unit length.
            k: fewer are found where the bank has fewer rows.

        Raises:
            BankError: for an empty bank, or queries of another width.
        """
        if queries.shape[1] != self.width:
            raise BankError(f"{self.folder} holds keys of {self.width} numbers; the guide gives {queries.shape[1]}")
        if not len(self):
            raise BankError(f"{self.folder} holds no region yet")
        scores = queries.new_zeros(len(queries), 0, dtype=torch.float32)
        rows = torch.zeros(len(queries), 0, dtype=torch.long, device=queries.device)
        for start, keys in zip(self._starts, self._keys, strict=False):
            for first in range(0, len(keys), CHUNK_ROWS):
                chunk = torch.from_numpy(keys[first : first + CHUNK_ROWS].astype(np.float32)).to(queries.device)
                found = queries.float() @ F.normalize(chunk, dim=-1).T
                best = found.topk(min(k, len(chunk)), dim=1)
                scores = torch.cat([scores, best.values], 1)
                rows = torch.cat([rows, best.indices + int(start) + first], 1)
                kept = scores.topk(min(k, scores.shape[1]), dim=1)
                scores, rows = kept.values, rows.gather(1, kept.indices)
        return Neighbours(scores, rows)

    def values(self, store: str, rows: Tensor) -> Tensor:
        """Rows of a store, float32 ``[..., D]`` for int64 ``rows [...]``.

        Raises:
            BankError: for a store that the bank has not.
        """
        if store not in self._values:
            raise BankError(f"{self.folder} has no values {store!r}; it has {', '.join(self._values)}")
        return self._rows(self._values[store], self.stores[store], rows)

    def keys(self, rows: Tensor) -> Tensor:
        """Keys as they are stored, float32 ``[..., C]`` for int64 ``rows [...]``."""
        return self._rows(self._keys, self.width, rows)

    def _rows(self, parts: Sequence[np.ndarray], width: int, rows: Tensor) -> Tensor:
        flat = rows.flatten().cpu().numpy()
        shard = np.searchsorted(self._starts, flat, side="right") - 1
        out = np.empty((len(flat), width), np.float32)
        for index in np.unique(shard):
            here = shard == index
            out[here] = parts[index][flat[here] - self._starts[index]]
        return torch.from_numpy(out).to(rows.device).unflatten(0, rows.shape)


def read_facts(folder: Path) -> dict[str, object]:
    """``bank.json`` of a bank.

    Raises:
        BankError: if it is missing, damaged, or of another version.
    """
    path = folder / "bank.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version = facts["version"]
        widths = (facts["width"], *facts["stores"].values()) if version == VERSION else ()
        complete = all(isinstance(width, int) and width > 0 for width in widths)
        complete = complete and isinstance(facts.get("provenance"), dict)
    except FileNotFoundError:
        raise BankError(f"there is no bank in {folder} (no bank.json); build one with ovseg.retrieval") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BankError(f"{path} cannot be read ({error}); build the bank again") from None
    if version == VERSION and not complete:
        raise BankError(f"{path} is damaged: widths are whole numbers, provenance is an object; build the bank again")
    if version != VERSION:
        raise BankError(f"{path} is of version {version!r}; this ovseg reads version {VERSION}: build the bank again")
    return facts


def shard_folders(folder: Path) -> Sequence[Path]:
    """Complete shards of a bank, in order."""
    return sorted(path for path in folder.glob("shard-*") if path.is_dir() and not path.name.endswith(".part"))


def _mapped(path: Path, width: int) -> np.ndarray:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGED_ARRAYS as error:
        raise BankError(f"{path} cannot be read ({error}); delete its folder and build the shard again") from None
    if rows.dtype != np.float16 or rows.ndim != 2 or rows.shape[1] != width:
        raise BankError(f"{path}: expected float16 [n, {width}], found {rows.dtype} {rows.shape}")
    return rows
