"""Writing a bank: shard by shard, never more than one in memory, and the same bytes after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from ovseg.retrieval.bank import VERSION, BankError, read_facts, shard_folders


class BankWriter:
    """Appends regions of photos to a bank.

    A shard holds ``photos_per_shard`` photos, however many regions these have, and comes into its place by a rename
    once it is complete. What a killed run had not completed is written again: given the same photos in the same order,
    an interrupted bank ends with the bytes of one that was not. A photo whose hash the bank knows is left out.

    Args:
        folder: of the bank; made, or continued.
        width: of the keys.
        stores: width of every value store by name.
        provenance: what makes the bank (weights, settings, hashes), as JSON allows it.
        photos_per_shard: photos of one shard.

    Raises:
        BankError: if the folder holds a bank of other widths or provenance.
        ValueError: for a shard of no photos.
    """

    def __init__(
        self,
        folder: str | Path,
        width: int,
        stores: Mapping[str, int],
        provenance: Mapping[str, object],
        photos_per_shard: int = 256,
    ) -> None:
        if photos_per_shard < 1:
            raise ValueError(f"photos_per_shard is {photos_per_shard}; a shard holds at least one photo")
        self.folder, self.photos_per_shard = Path(folder), photos_per_shard
        facts = dict(version=VERSION, width=width, stores=dict(stores), provenance=dict(provenance))
        facts["photos_per_shard"] = photos_per_shard
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "bank.json"
        if path.is_file():
            found = read_facts(self.folder)
            other = sorted(name for name in facts if found.get(name) != json.loads(json.dumps(facts[name])))
            if other:
                raise BankError(
                    f"{self.folder} holds a bank with other {', '.join(other)}; give another folder, or delete this one"
                )
        else:
            part = path.with_suffix(".part")
            part.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            os.replace(part, path)
        for left in self.folder.glob("shard-*.part"):
            shutil.rmtree(left)
        shards = shard_folders(self.folder)
        self._next = len(shards)
        self._known = {photo["hash"] for shard in shards for photo in _photos(shard)}
        self._waiting: list[tuple[str, np.ndarray, dict[str, np.ndarray]]] = []
        self.stores = dict(stores)

    def has(self, photo: str) -> bool:
        """Whether the bank, or the shard being filled, has the regions of the photo with this hash."""
        return photo in self._known

    def add(self, photo: str, keys: Tensor, values: Mapping[str, Tensor]) -> None:
        """Regions of a photo; nothing happens for a photo that is known.

        Args:
            photo: hash of its content.
            keys: ``[n, C]``.
            values: ``[n, D]`` by store.

        Raises:
            BankError: for stores that the bank has not, or lacks, and for rows that do not belong together.
        """
        if self.has(photo):
            return
        if set(values) != set(self.stores) or any(len(rows) != len(keys) for rows in values.values()):
            raise BankError(
                f"{len(keys)} keys with values {', '.join(f'{n} [{len(v)}]' for n, v in values.items())}; this bank "
                f"takes as many rows of {', '.join(self.stores)}"
            )
        self._known.add(photo)
        halves = {name: rows.half().cpu().numpy() for name, rows in values.items()}
        self._waiting.append((photo, keys.half().cpu().numpy(), halves))
        if len(self._waiting) == self.photos_per_shard:
            self.flush()

    def flush(self) -> None:
        """Complete the shard being filled, at the end of the photos."""
        if not self._waiting:
            return
        name = f"shard-{self._next:05d}"
        part = self.folder / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        np.save(part / "keys.npy", np.concatenate([keys for _, keys, _ in self._waiting]))
        for store in self.stores:
            np.save(part / f"{store}.npy", np.concatenate([values[store] for _, _, values in self._waiting]))
        photos = [dict(hash=photo, regions=len(keys)) for photo, keys, _ in self._waiting]
        (part / "photos.json").write_text(json.dumps(photos) + "\n", encoding="utf-8")
        os.replace(part, self.folder / name)
        self._waiting.clear()
        self._next += 1


def _photos(shard: Path) -> list[dict[str, object]]:
    try:
        return json.loads((shard / "photos.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BankError(f"{shard / 'photos.json'} cannot be read ({error}); delete the shard") from None
