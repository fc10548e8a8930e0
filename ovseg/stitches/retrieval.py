"""CorrCLIPv2's retrieval: what CLIP saw in regions like those of the photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from ovseg.encoder import Features, WindowEncoder
from ovseg.photo import Photo
from ovseg.queries import Queries
from ovseg.region_maps import resize_regions
from ovseg.registry import BACKBONES, STITCHES
from ovseg.retrieval import BankIndex, MemoryBank
from ovseg.scores import RegionScoreMap, ResizedScoreMap, ScoreMap
from ovseg.stitches.average import ScoreStitch
from ovseg.text.encoder import TextEncoder
from ovseg.windows import WindowLayout


@dataclass
class RegionedScores:
    """Scores ``[n, Q, gh, gw]`` of windows, ``regions [h, w]`` of the resized photo and their ``table [R, Q]``."""

    windows: Tensor
    regions: Tensor
    table: Tensor

    def __getitem__(self, index: int) -> Tensor:
        return self.windows[index]


@STITCHES.register_module()
class RetrievalStitch(ScoreStitch):
    """Window scores, and scores of each region by its neighbours in a bank (CorrCLIPv2: VISR and DMCE).

    A region's query is the mean of the guide's features over its pixels, in the resized photo. The plain mean of the
    CLIP vectors of its ``neighbours`` nearest rows in the bank, of unit length, is compared with the words; with
    ``auxiliary``, so are the same rows of another CLIP's store with that CLIP's words, and both are averaged. Window
    scores and region scores are added at the resized photo's size, before the last resize. Every id has a query, the
    one of unsegmented pixels too.

    Args:
        bank: folder of the bank (:class:`ovseg.retrieval.MemoryBank`), opened when the first photo comes.
        store: values of the CLIP that sees the windows.
        neighbours: rows that are averaged.
        share: of the windows' scores.
        auxiliary: ``dict(store=..., backbone=dict(type="ClipBackbone", ...), templates="openai_80")``: another CLIP's
            values, and its text tower. Its image tower never runs.
        expect: provenance that the bank must have.
        index: ``'flat'``, ``'ivfflat'`` or ``'ivfpq'``: ask this index of the bank (``ovseg index``), not all keys.
        probes: lists of the index that are read for a region.

    Raises:
        ValueError: for a share out of range; at call time without a guide of photo scope or without regions.
    """

    def __init__(
        self,
        bank: str | Path,
        store: str = "main",
        neighbours: int = 20,
        share: float = 0.5,
        auxiliary: dict | None = None,
        expect: Mapping[str, object] | None = None,
        index: str | None = None,
        probes: int = 16,
    ) -> None:
        if not 0 <= share <= 1 or neighbours < 1:
            raise ValueError(f"share {share}, neighbours {neighbours}: give a share in [0, 1] and at least 1 neighbour")
        self.folder, self.store, self.neighbours, self.share = Path(bank), store, neighbours, float(share)
        self.expect, self.index, self.probes = dict(expect or {}), index, probes
        self.auxiliary_store = auxiliary["store"] if auxiliary else None
        self._auxiliary = None
        if auxiliary:
            other = BACKBONES.build(auxiliary["backbone"])
            self._auxiliary = TextEncoder(other.clip, other.tokenizer, auxiliary.get("templates", "openai_80"))

    @cached_property
    def memory(self) -> MemoryBank:
        """The bank, opened at first use."""
        return MemoryBank(self.folder, self.expect)

    @cached_property
    def searched(self) -> MemoryBank | BankIndex:
        """What regions are looked up in: the bank, or its index."""
        return self.memory if self.index is None else BankIndex(self.memory, self.index, self.probes)

    def gather(self, features: Features, layout: WindowLayout, photo: Photo, encoder: WindowEncoder) -> Features:
        """The windows' features; ``regions [h, w]`` row of each pixel of the resized photo, ``support [R, D]`` of unit
        length, and ``auxiliary [R, D']``."""
        if getattr(encoder.guide, "scope", "window") != "photo" or photo.regions is None:
            raise ValueError(
                "RetrievalStitch asks for regions and a guide of the whole photo: set regions=dict(...) and "
                "guide=dict(type='PhotoGuide', ...) in the model config"
            )
        ids = resize_regions(photo.regions, layout.image_size)
        queries = encoder.guide.region_means(photo, ids)[1]
        rows = self.searched.search(queries, self.neighbours).rows
        found = {**features, "regions": ids.unique(return_inverse=True)[1], "support": self._mean(self.store, rows)}
        if self.auxiliary_store is not None:
            found["auxiliary"] = self._mean(self.auxiliary_store, rows)
        return found

    def score(self, features: Features, encoder: WindowEncoder, queries: Queries) -> RegionedScores:
        """Scores of the windows and of the regions."""
        table = features["support"] @ queries.text.T
        if "auxiliary" in features:
            table = (table + features["auxiliary"] @ self.auxiliary_text(queries).to(table).T) / 2
        return RegionedScores(super().score(features, encoder, queries), features["regions"], table)

    def merge(self, scores: RegionedScores, layout: WindowLayout, photo: Photo) -> ResizedScoreMap:
        """Both added at the resized photo's size, resized to the photo."""
        windows = ScoreMap.from_windows(scores.windows, layout, layout.image_size)
        return ResizedScoreMap(RegionScoreMap(windows, scores.regions, scores.table, self.share), photo.size)

    def auxiliary_text(self, queries: Queries) -> Tensor:
        """The queries' words as the other CLIP embeds them, ``[Q, D']`` unit vectors.

        Raises:
            ValueError: where the words are not known, only their embeddings.
        """
        if queries.vocabulary is None:
            raise ValueError("RetrievalStitch(auxiliary=...) needs the words themselves, not only their embeddings")
        return self._auxiliary.encode(queries.vocabulary)

    def _mean(self, store: str, rows: Tensor) -> Tensor:
        return F.normalize(self.memory.values(store, rows).mean(1), dim=-1)
