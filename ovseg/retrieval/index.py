"""Approximate search in a bank through FAISS: read a few lists of keys in place of all.

An index lies beside the shards of its bank: ``index-KIND.faiss``, memory-mapped when it is asked, and
``index-KIND.json`` with what it was made of. It proposes rows; their cosines are computed from the bank's own keys, so
that scores are exact and only rows that were never proposed can be missing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.datasets.files import atomic_path, write_json
from ovseg.retrieval.bank import CHUNK_ROWS, BankError, MemoryBank, Neighbours, shard_folders

KINDS = ("flat", "ivfflat", "ivfpq")
"""All keys in fp32 (the measure of the others); inverted lists of keys; inverted lists of product-quantised keys."""
INDEX_VERSION = 1
PROPOSED = 4
"""Rows that product quantisation proposes for each that is wanted."""
ROWS_PER_LIST = 39
"""FAISS' least number of keys to learn one list from."""
CODES = 256
"""Values of a product quantiser's byte, each learnt from keys."""


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise BankError('an index needs FAISS: pip install "ovseg[bank]", or search without index') from error
    return faiss


def index_files(folder: str | Path, kind: str) -> tuple[Path, Path]:
    """Paths of an index and of its facts.

    Raises:
        BankError: for an unknown kind.
    """
    if kind not in KINDS:
        raise BankError(f"index kind {kind!r}; choose one of {', '.join(KINDS)}")
    return Path(folder) / f"index-{kind}.faiss", Path(folder) / f"index-{kind}.json"


def state_of(folder: str | Path) -> str:
    """Hash of a bank's shards and of the photos in them: an index belongs to one state."""
    digest = hashlib.sha256()
    for shard in shard_folders(Path(folder)):
        digest.update(shard.name.encode())
        digest.update((shard / "photos.json").read_bytes())
    return digest.hexdigest()


def build_index(
    bank: MemoryBank, kind: str = "ivfpq", lists: int | None = None, code_bytes: int = 32, seed: int = 0
) -> Path:
    """Learn an index from a sample of a bank's keys, put all keys in, and write it.

    Memory: the sample (64 keys per list) and the index itself (``flat``, ``ivfflat``: 4 C bytes per region; ``ivfpq``:
    ``code_bytes`` + 8).

    Args:
        bank: to be searched.
        kind: one of :data:`KINDS`.
        lists: of keys; ``None``: 4 times the square root of the number of regions, as FAISS' guidelines have it, at
            most one for every 39 regions.
        code_bytes: of a product-quantised key; divides the keys' width.
        seed: of the learning.

    Returns:
        the index' path.

    Raises:
        BankError: without FAISS, for an empty bank, or one too small or of another width than the kind asks for.
    """
    path, facts = index_files(bank.folder, kind)
    faiss, count = _faiss(), len(bank)
    if not count:
        raise BankError(f"{bank.folder} holds no region yet: nothing to index")
    if kind == "ivfpq" and (count < CODES or bank.width % code_bytes):
        raise BankError(
            f"product quantisation needs at least {CODES} regions and a width that {code_bytes} bytes divide; "
            f"{bank.folder} has {count} regions of {bank.width} numbers: give other code bytes, or kind ivfflat"
        )
    lists = max(1, min(lists or round(4 * count**0.5), count // ROWS_PER_LIST))
    coarse = faiss.IndexFlatIP(bank.width)
    if kind == "flat":
        index = coarse
    elif kind == "ivfflat":
        index = faiss.IndexIVFFlat(coarse, bank.width, lists, faiss.METRIC_INNER_PRODUCT)
    else:
        index = faiss.IndexIVFPQ(coarse, bank.width, lists, code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.seed = seed + 1
        index.pq.cp.min_points_per_centroid = 1
    if kind != "flat":
        index.cp.seed = seed + 1
        sample = np.linspace(0, count - 1, min(count, max(64 * lists, CODES))).round().astype(np.int64)
        index.train(_unit(bank, sample))
    for first in range(0, count, CHUNK_ROWS):
        index.add(_unit(bank, np.arange(first, min(first + CHUNK_ROWS, count))))
    with atomic_path(path) as temporary:
        faiss.write_index(index, str(temporary))
    about = dict(version=INDEX_VERSION, kind=kind, regions=count, width=bank.width, state=state_of(bank.folder))
    about |= dict(lists=lists) if kind != "flat" else {}
    about |= dict(code_bytes=code_bytes) if kind == "ivfpq" else {}
    write_json(facts, about)
    return path


def _unit(bank: MemoryBank, rows: np.ndarray) -> np.ndarray:
    return F.normalize(bank.keys(torch.from_numpy(rows)), dim=-1).numpy()


class BankIndex:
    """An index opened for search.

    Args:
        bank: the bank it was made of.
        kind: one of :data:`KINDS`.
        probes: lists that are read for a query; more are read where they hold too few rows.

    Raises:
        BankError: without FAISS, if there is no such index, it is damaged, or the bank has changed since.
        ValueError: for no probes.
    """

    def __init__(self, bank: MemoryBank, kind: str = "ivfpq", probes: int = 16) -> None:
        if probes < 1:
            raise ValueError(f"probes is {probes}; at least 1 list is read")
        self.bank, self.kind, self.probes = bank, kind, probes
        path, facts = index_files(bank.folder, kind)
        again = f"build it with `ovseg index {bank.folder} --kind {kind}`"
        try:
            about = json.loads(facts.read_text(encoding="utf-8"))
            state, version = about["state"], about["version"]
        except FileNotFoundError:
            raise BankError(f"{bank.folder} has no index of kind {kind}: {again}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BankError(f"{facts} cannot be read ({error}): {again}") from None
        if version != INDEX_VERSION or state != state_of(bank.folder):
            raise BankError(f"{path} was made of other regions than {bank.folder} holds now: {again}")
        self._faiss = _faiss()
        try:
            self._index = self._faiss.read_index(str(path), self._faiss.IO_FLAG_MMAP if kind != "flat" else 0)
        except RuntimeError as error:
            raise BankError(f"{path} cannot be read ({str(error).splitlines()[0]}): {again}") from None

    def search(self, queries: Tensor, k: int = 20) -> Neighbours:
        """As :meth:`ovseg.retrieval.MemoryBank.search`, of the rows that the index proposes.

        Args:
            queries: float ``[R, C]`` of unit length.
            k: fewer are found where the bank has fewer rows.

        Raises:
            BankError: for queries of another width.
        """
        if queries.shape[1] != self.bank.width:
            raise BankError(f"{self.bank.folder} holds keys of {self.bank.width} numbers, not {queries.shape[1]}")
        k = min(k, len(self.bank))
        wanted = min(len(self.bank), k * PROPOSED if self.kind == "ivfpq" else k)
        proposed = self._propose(queries.float().cpu().numpy(), wanted, k)
        rows = torch.from_numpy(proposed).to(queries.device)
        keys = F.normalize(self.bank.keys(rows.clamp(min=0)), dim=-1)
        scores = torch.einsum("rc,rkc->rk", queries.float(), keys).masked_fill(rows < 0, -torch.inf)
        best = scores.topk(k, dim=1)
        return Neighbours(best.values, rows.gather(1, best.indices))

    def _propose(self, queries: np.ndarray, wanted: int, least: int) -> np.ndarray:
        """``[R, wanted]`` rows, -1 where the lists hold no more; at least ``least`` of each query."""
        if self.kind == "flat":
            return self._index.search(np.ascontiguousarray(queries), wanted)[1]
        probes = min(self.probes, self._index.nlist)
        while True:
            options = self._faiss.SearchParametersIVF(nprobe=probes)
            rows = self._index.search(np.ascontiguousarray(queries), wanted, params=options)[1]
            if probes >= self._index.nlist or ((rows >= 0).sum(1) >= least).all():
                return rows
            probes = min(2 * probes, self._index.nlist)


class Recall(NamedTuple):
    """How much of the exact search an index finds, and what it costs.

    Attributes:
        share: of the true k neighbours that are found, 0..1.
        exact_ms, index_ms: milliseconds of a query, all queries asked together.
    """

    share: float
    exact_ms: float
    index_ms: float


def measure_recall(index: BankIndex, queries: int = 200, k: int = 20) -> Recall:
    """Ask for the neighbours of regions of the bank itself, which do not count as their own.

    Args:
        index: to be measured.
        queries: regions, evenly through the bank.
        k: neighbours of each.
    """
    from time import perf_counter

    bank = index.bank
    rows = torch.linspace(0, len(bank) - 1, min(queries, len(bank))).round().long()
    asked = F.normalize(bank.keys(rows), dim=-1)
    seconds, found = {}, {}
    for name, search in (("exact", bank.search), ("index", index.search)):
        start = perf_counter()
        neighbours = search(asked, k + 1).rows
        seconds[name] = perf_counter() - start
        found[name] = [set(row.tolist()) - {own} for row, own in zip(neighbours, rows.tolist(), strict=True)]
    common = sum(len(a & b) for a, b in zip(found["exact"], found["index"], strict=True))
    total = sum(map(len, found["exact"]))
    return Recall(common / max(1, total), *(seconds[name] / len(rows) * 1e3 for name in ("exact", "index")))
