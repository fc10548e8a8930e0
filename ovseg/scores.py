"""Scores of every query at every pixel of a photo, put together from windows and never built in full.

Everything the official pipelines do between patch scores and the photo's own pixels is linear and separable: bilinear
upsampling of a window's grid to the window, cropping its padding, summing overlapping windows, dividing by the number
of visits, resizing to the photo. Windows lie on a regular lattice, so the whole chain is

    scores[q] = R_y @ E[q] @ R_x^T

with ``E [Q, n_y * g_h, n_x * g_w]`` the windows' grids side by side and two small banded matrices whose rows sum to 1.
Nothing of size [Q, H, W] is ever needed: consumers ask for the tile they work on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ovseg.float32 import all_finite
from ovseg.ops import bilinear_matrix
from ovseg.windows import WindowLayout

TILE = (64, 512)
"""Rows and columns of a tile of the output: small enough that 1,000 queries fit in about 130 MB."""

DECODED_TILE = (64, 64)
"""The same for :class:`DecodedScoreMap` on the CPU, whose products cross all that a tile reaches of a part, most of it
where tiles are wide: two to three times as fast as :data:`TILE`. A GPU wants fewer, larger products."""


@dataclass
class ScoreMap:
    """Scores of every query at every pixel of a photo, never built in full.

    ``scores[q] = rows @ cells[q] @ columns.T``.

    Attributes:
        cells: ``[Q, GY, GX]`` float32 scores on the windows' grids side by side.
        rows: ``[H, GY]`` float32, banded, rows sum to 1.
        columns: ``[W, GX]`` likewise.
    """

    cells: Tensor
    rows: Tensor
    columns: Tensor

    @classmethod
    def from_windows(cls, scores: Tensor, layout: WindowLayout, size: tuple[int, int]) -> ScoreMap:
        """From window scores.

        Args:
            scores: ``[n, Q, gh, gw]``, windows in the order of :meth:`ovseg.windows.SlidingWindows.cut`.
            layout: their layout.
            size: ``(H, W)`` of the output in pixels.
        """
        n, q, gh, gw = scores.shape
        ny, nx = layout.shape
        cells = scores.view(ny, nx, q, gh, gw).permute(2, 0, 3, 1, 4).reshape(q, ny * gh, nx * gw)
        return cls(
            cells,
            layout.axis_matrix(0, gh, size[0]).to(cells.device),
            layout.axis_matrix(1, gw, size[1]).to(cells.device),
        )

    @classmethod
    def from_grid(cls, scores: Tensor, size: tuple[int, int]) -> ScoreMap:
        """From one grid ``[Q, h, w]`` that covers the whole photo: a plain bilinear upsampling to ``size``."""
        rows, columns = (bilinear_matrix(n, m).to(scores.device) for n, m in zip(scores.shape[1:], size, strict=True))
        return cls(scores, rows, columns)

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` in pixels."""
        return self.rows.shape[0], self.columns.shape[0]

    @property
    def num_queries(self) -> int:
        return self.cells.shape[0]

    @property
    def finite(self) -> bool:
        """Whether no score is NaN or infinite."""
        return all_finite(self.cells)

    def block(self, queries: slice = slice(None), rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """``[q, h, w]`` scores of a block of queries and pixels."""
        r, c = self.rows[rows], self.columns[columns]
        ry, cx = _support(r), _support(c)
        return r[:, ry] @ self.cells[queries, ry, cx] @ c[:, cx].T

    def blocks(self) -> Iterator[tuple[slice, slice, slice, Tensor]]:
        """All scores in pieces: ``(queries, rows, columns, block)``; here every piece holds all queries of a tile."""
        queries = slice(0, self.num_queries)
        for rows, columns in _tiles(self.size):
            yield queries, rows, columns, self.block(queries, rows, columns)


def _tiles(size: tuple[int, int], tile: tuple[int, int] = TILE) -> Iterator[tuple[slice, slice]]:
    for y in range(0, size[0], tile[0]):
        for x in range(0, size[1], tile[1]):
            yield slice(y, min(y + tile[0], size[0])), slice(x, min(x + tile[1], size[1]))


def _support(matrix: Tensor) -> slice:
    """The columns between the first and the last that are not all zero."""
    used = matrix.any(dim=0).nonzero()
    return slice(int(used[0]), int(used[-1]) + 1)


@dataclass
class DecodedPart:
    """Maps that a decoder gave for one of its inputs, and the way from there to the photo.

    ``rows @ activation(inner_rows @ maps[k] @ inner_columns.T) @ columns.T``, then mixed by ``classes``.

    Attributes:
        maps: ``[K, h, w]`` float32 logits: of the queries, or of class-agnostic masks.
        inner: two matrices ``[ih, h]`` and ``[iw, w]`` to the size at which the activation is taken; ``None``: at once.
        outer: two matrices ``[H, ih]`` and ``[W, iw]`` from there to the photo. Those of a photo's parts sum to 1 at
            every pixel; a pixel that a part does not reach has a row of zeros.
        classes: ``[K, Q]`` what each mask counts for each query (Cheng et al., MaskFormer, section 3.4); ``None``: a
            map belongs to a query.
    """

    maps: Tensor
    inner: tuple[Tensor, Tensor] | None
    outer: tuple[Tensor, Tensor]
    classes: Tensor | None = None

    @property
    def num_queries(self) -> int:
        return self.maps.shape[0] if self.classes is None else self.classes.shape[1]

    def block(
        self, activation: Callable[[Tensor], Tensor], queries: slice, rows: slice, columns: slice
    ) -> Tensor | None:
        """``[q, h, w]`` of a block of queries and pixels; ``None`` where it reaches none of the pixels.

        ``activation`` is given the maps of ``queries`` alone, or all masks.
        """
        r, c = self.outer[0][rows], self.outer[1][columns]
        if not (r.any() and c.any()):
            return None
        ry, cx = _support(r), _support(c)
        maps = self.maps[queries] if self.classes is None else self.maps
        if self.inner is None:
            maps = activation(maps[:, ry, cx])
        else:
            up, across = self.inner[0][ry], self.inner[1][cx]
            uy, ax = _support(up), _support(across)
            maps = activation(up[:, uy] @ maps[:, uy, ax] @ across[:, ax].T)
        maps = r[:, ry] @ maps @ c[:, cx].T
        return maps if self.classes is None else torch.einsum("kq,khw->qhw", self.classes[:, queries], maps)


class DecodedScoreMap:
    """Scores of a trained decoder, whose activation is taken between two resizings: never built in full either.

    Args:
        parts: what it gave for each of its inputs (windows, the photo as a whole); their sum is the score.
        activation: of the logits, before they are brought to the photo's size, e.g. :func:`torch.sigmoid`.
        joint: the activation looks at all queries of a pixel together (a softmax over them).

    Attributes:
        offset: ``[Q]``, added to the scores of each query; ``None``: nothing.
    """

    def __init__(
        self,
        parts: Sequence[DecodedPart],
        activation: Callable[[Tensor], Tensor] = torch.sigmoid,
        joint: bool = False,
    ) -> None:
        self.parts, self.activation, self.joint = list(parts), activation, joint
        self.offset: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` in pixels."""
        rows, columns = self.parts[0].outer
        return rows.shape[0], columns.shape[0]

    @property
    def num_queries(self) -> int:
        return self.parts[0].num_queries

    @property
    def finite(self) -> bool:
        """Whether nothing that the scores are made of is NaN or infinite."""
        made_of = (t for part in self.parts for t in (part.maps, part.classes) if t is not None)
        return all(all_finite(tensor) for tensor in made_of)

    def block(self, queries: slice = slice(None), rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """``[q, h, w]`` scores of a block of queries and pixels."""
        wanted = slice(None) if self.joint else queries
        blocks = (part.block(self.activation, wanted, rows, columns) for part in self.parts)
        scores = sum(block for block in blocks if block is not None)
        scores = scores[queries] if self.joint else scores
        return scores if self.offset is None else scores + self.offset[queries, None, None]

    def blocks(self) -> Iterator[tuple[slice, slice, slice, Tensor]]:
        """As :meth:`ScoreMap.blocks`."""
        queries = slice(0, self.num_queries)
        tile = DECODED_TILE if self.parts[0].maps.device.type == "cpu" else TILE
        for rows, columns in _tiles(self.size, tile):
            yield queries, rows, columns, self.block(queries, rows, columns)


class RefinedScoreMap:
    """A :class:`ScoreMap` whose maps pass through refiners that treat every query on its own (PAMR).

    Blocks hold a few queries of the whole photo instead of all queries of a tile.

    Args:
        base: what is refined.
        refine: function ``[q, H, W] -> [q, H, W]``.
        max_values: bound on the numbers in a block.
    """

    def __init__(self, base: AnyScoreMap, refine, max_values: int = 2**24) -> None:
        self.base, self.refine, self.max_values = base, refine, max_values

    @property
    def size(self) -> tuple[int, int]:
        return self.base.size

    @property
    def num_queries(self) -> int:
        return self.base.num_queries

    @property
    def finite(self) -> bool:
        """Whether no score is NaN or infinite before it is refined."""
        return self.base.finite

    def block(self, queries: slice = slice(None), rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """``[q, h, w]`` refined scores; refiners see whole maps, so rows and columns are cut off afterwards."""
        return self.refine(self.base.block(queries))[:, rows, columns]

    def blocks(self) -> Iterator[tuple[slice, slice, slice, Tensor]]:
        height, width = self.size
        step = max(1, self.max_values // (height * width))
        for start in range(0, self.num_queries, step):
            queries = slice(start, min(start + step, self.num_queries))
            yield queries, slice(0, height), slice(0, width), self.block(queries)


class ResizedScoreMap:
    """A score map at one size, resized (bilinear) to another, where something happens between that is not linear.

    Args:
        base: scores at the first size.
        size: ``(H, W)`` of the output in pixels.
        classes: ``[Q]`` class of every query of ``base``: maps are of classes then, each the largest of its queries at
            the *first* size; ``None``: maps are of queries. See :meth:`by_class`.
        num_classes: number of classes.
        max_values: bound on the numbers in a block.
    """

    def __init__(
        self,
        base: ScoreMap | RefinedScoreMap,
        size: tuple[int, int],
        classes: Tensor | None = None,
        num_classes: int | None = None,
        max_values: int = 2**24,
    ) -> None:
        self.base, self.size, self.classes, self.max_values = base, tuple(size), classes, max_values
        self.num_queries = base.num_queries if classes is None else num_classes
        self.rows, self.columns = (bilinear_matrix(n, m) for n, m in zip(base.size, size, strict=True))

    @property
    def finite(self) -> bool:
        """Whether no score is NaN or infinite."""
        return self.base.finite

    def by_class(self, query_to_class: Tensor, num_classes: int) -> ResizedScoreMap:
        """The same with one map per class."""
        return ResizedScoreMap(self.base, self.size, query_to_class, num_classes, self.max_values)

    def block(self, queries: slice = slice(None), rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """``[q, h, w]`` scores of a block of maps and pixels."""
        r, c = self.rows[rows], self.columns[columns]
        ry, cx = _support(r), _support(c)
        values = self.base.block(queries, ry, cx) if self.classes is None else self._largest(queries, ry, cx)
        return r[:, ry].to(values.device) @ values @ c[:, cx].T.to(values.device)

    def blocks(self) -> Iterator[tuple[slice, slice, slice, Tensor]]:
        """All scores in pieces ``(maps, rows, columns, block)``: tiles, or whole maps where the base is refined."""
        (height, width), whole = self.size, isinstance(self.base, RefinedScoreMap)
        tile = self.size if whole else TILE
        step = max(1, self.max_values // (height * width)) if whole else self.num_queries
        for start in range(0, self.num_queries, step):
            queries = slice(start, min(start + step, self.num_queries))
            for y in range(0, height, tile[0]):
                for x in range(0, width, tile[1]):
                    rows, columns = slice(y, min(y + tile[0], height)), slice(x, min(x + tile[1], width))
                    yield queries, rows, columns, self.block(queries, rows, columns)

    def _largest(self, wanted: slice, rows: slice, columns: slice) -> Tensor:
        """``[c, h, w]`` largest score of the classes ``wanted`` at the base's size; very small without a query."""
        first, last, _ = wanted.indices(self.num_queries)
        members = ((self.classes >= first) & (self.classes < last)).nonzero()[:, 0].tolist()
        best = None
        for run in _runs(members, max(1, self.max_values // (self.base.size[0] * self.base.size[1]))):
            values = self.base.block(run, rows, columns)
            if best is None:
                best = torch.full_like(values[:1], torch.finfo(values.dtype).min / 2).repeat(last - first, 1, 1)
            index = (self.classes[run] - first).to(values.device)
            best.scatter_reduce_(0, index[:, None, None].expand_as(values), values, "amax")
        return best


def _runs(indices: list[int], longest: int) -> Iterator[slice]:
    """Ascending indices as slices of neighbours."""
    start = 0
    for at in range(1, len(indices) + 1):
        if at == len(indices) or indices[at] != indices[at - 1] + 1 or at - start == longest:
            yield slice(indices[start], indices[at - 1] + 1)
            start = at


@dataclass
class RegionScoreMap:
    """A score map with a second summand that is constant on every region (CorrCLIPv2):
    ``share * base + (1 - share) * table[regions]``.

    Attributes:
        base: scores.
        regions: ``[h, w]`` int64 row of ``table`` of every pixel, at the size of ``base``.
        table: ``[R, Q]`` float32 scores of the regions.
        share: of ``base``.
    """

    base: ScoreMap
    regions: Tensor
    table: Tensor
    share: float

    @property
    def size(self) -> tuple[int, int]:
        return self.base.size

    @property
    def num_queries(self) -> int:
        return self.base.num_queries

    @property
    def finite(self) -> bool:
        """Whether no score is NaN or infinite."""
        return self.base.finite and all_finite(self.table)

    def block(self, queries: slice = slice(None), rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """``[q, h, w]`` scores of a block of queries and pixels."""
        of_regions = self.table[:, queries].T[:, self.regions[rows, columns]]
        return self.share * self.base.block(queries, rows, columns) + (1 - self.share) * of_regions


AnyScoreMap = ScoreMap | DecodedScoreMap | RefinedScoreMap | ResizedScoreMap


def every(scores: AnyScoreMap, step: int) -> Iterator[tuple[slice, slice, slice, Tensor]]:
    """``scores.blocks()`` of every ``step``-th row and column of pixels, from the first; slices count these."""
    if isinstance(scores, ScoreMap):  # the others need not be computed
        yield from ScoreMap(scores.cells, scores.rows[::step], scores.columns[::step]).blocks()
        return
    for queries, rows, columns, block in scores.blocks():
        part = block[:, -rows.start % step :: step, -columns.start % step :: step]
        y, x = (-(-axis.start // step) for axis in (rows, columns))
        if part.numel():
            yield queries, slice(y, y + part.shape[1]), slice(x, x + part.shape[2]), part
