"""Which patches a clicked pixel's patch attends to in CLIP's last block, for any attention."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.encoded import EncodedImage
from ovseg.encoder import WindowBatch, WindowEncoder
from ovseg.explain.embeddings import training_free
from ovseg.explain.marks import AttentionNotReadable, read_attention
from ovseg.photo import Photo
from ovseg.segmentors import OpenVocabSegmentor
from ovseg.structures import AttentionContext, FeatureMap
from ovseg.windows import WindowLayout

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class AttentionAt:
    """What one patch attends to.

    Attributes:
        at: ``(x, y)`` of the clicked pixel.
        patch: ``(x0, y0, x1, y1)`` pixels of the photo that its patch covers; the last ones are outside of it.
        attention: the attention and its settings.
        weights: float32 ``[W, h, w]``: with what weight the value of every patch of CLIP is in the clicked one, mean
            over heads, for W windows.
        prefix: float32 ``[W, P]``: the same for the tokens before the patches (CLS).
        windows: ``(x0, y0, x1, y1)`` pixels of the photo that each of the W windows covers. One, unless the method
            mixes patches over the whole photo (Trident).
        map: float32 ``[H, W]``: at every pixel the weight of its patch, summed where windows overlap.
        own, others: the map at the pixel itself, and its largest value outside of the patches of CLIP that hold it.
    """

    at: tuple[int, int]
    patch: Box
    attention: str
    weights: np.ndarray
    prefix: np.ndarray
    windows: tuple[Box, ...]
    map: np.ndarray
    own: float
    others: float

    @property
    def total(self) -> float:
        """Sum of all weights: 1 for one softmax, the number of terms for a sum of them (SCLIP: 2)."""
        return float(self.weights.sum() + self.prefix.sum())


@torch.no_grad()
def attention_at(encoded: EncodedImage, at: tuple[int, int]) -> AttentionAt:
    """Which patches the patch under a pixel attends to, read off the method itself (:mod:`ovseg.explain.marks`).

    It is the weight of values in the last block of the window whose centre is nearest, in the first view where the
    method has several (ITACLIP), in the last layer's feature set where it has one per layer (CLIPer), and after the
    whole photo was mixed where the method does that (Trident's SAM). Residual and feed-forward connections, which add
    what a patch already has, are not weights; nor is what happens to scores and labels afterwards (PAMR, votes of
    regions).

    Args:
        encoded: the photo, from :meth:`ovseg.Segmenter.encode`.
        at: ``(x, y)`` of a pixel.

    Raises:
        ValueError: for a pixel outside of the photo, or a model with a trained decoder.
        AttentionNotReadable: (a ``ValueError``) for an attention of which no weights on values can be read, saying why.
    """
    check_inside(at, encoded.size)
    model, record = training_free(encoded)
    photo = copy.copy(record.photo)  # a stitch may note things on it; what was encoded of the whole photo comes along
    encoder = MarkingEncoder.of(model.encoder)
    layout = encoder.layout(photo)
    window = nearest_window(layout, at, photo.size)
    whole = _run(model, encoder, photo, layout, window)
    if whole is None:
        grid, rows = encoder.seen.found
        weights, used = [_row(rows, grid, *_place_in_window(layout, window, at, photo.size))], [window]
        patch = _patch_in_window(layout, window, grid, at, photo.size)
    else:
        used, weights = list(range(len(layout))), []
        for index in used:
            grid, rows = _run(model, encoder, photo, layout, index)
            weights.append(_row(rows, grid, *((n + 0.5) / m for n, m in zip(reversed(at), photo.size, strict=True))))
        patch = _cell_box(grid, at, photo.size)
    rows = torch.stack(weights)
    prefix, grid = model.backbone.tower.num_prefix, encoder.seen.grid
    patches = rows[:, prefix:].unflatten(1, grid).float().cpu().numpy()
    painted = _painted(patches, used, layout, photo.size)
    holding = _painted(_holding(layout, used, grid, at, photo.size), used, layout, photo.size) > 0
    return AttentionAt(
        tuple(at),
        patch,
        repr(model.attention),
        patches,
        rows[:, :prefix].float().cpu().numpy(),
        tuple(_window_box(layout, index, photo.size) for index in used),
        painted,
        float(painted[at[1], at[0]]),
        float(painted[~holding].max(initial=0.0)),
    )


@dataclass
class Seen:
    """What a :class:`MarkingEncoder` saw.

    Attributes:
        window: the window that is marked.
        first: index of the first window of the batch that is encoded; ``None``: none is.
        grid: of CLIP's patches.
        contexts: what the attention started from, by first window, so that CLIP runs once for all marked windows.
        found: grid and ``[n, P + N]`` weights of the marked window's tokens in the patches that were projected first.
    """

    window: int = 0
    first: int | None = None
    grid: tuple[int, int] = (0, 0)
    contexts: dict[int, AttentionContext] = field(default_factory=dict)
    found: tuple[tuple[int, int], Tensor] | None = None


@dataclass(frozen=True)
class MarkingEncoder(WindowEncoder):
    """An encoder that marks the values of one window's tokens and notes where they arrive.

    The first tokens of a batch are marked (a method may look at more variants of its windows); what is projected first
    is what they became.
    """

    seen: Seen = field(default_factory=Seen)

    @classmethod
    def of(cls, encoder: WindowEncoder) -> MarkingEncoder:
        """Of a model's encoder, running in torch, window by window where the method allows it."""
        parts = {f.name: getattr(encoder, f.name) for f in dataclasses.fields(encoder)}
        windows = copy.copy(encoder.windows)
        windows.batch = 1
        return cls(**{**parts, "windows": windows, "engine": None})

    def tokens(self, batch: WindowBatch) -> FeatureMap:
        """Tokens with the marks that arrived behind their features, ``[B, n, d + P + N]``."""
        seen, first = self.seen, self.seen.first
        if first is None:  # another view of windows that were seen
            return super().tokens(batch)
        seen.first = None
        context = seen.contexts[first] if first in seen.contexts else self.context(batch)
        seen.contexts[first], seen.grid = context, context.grid
        with self.backbone.settled.last_block():
            if first <= seen.window < first + len(batch.windows):
                return read_attention(self.attention, context, seen.window - first)
            found = self.attention(context)
        return replace(found, tokens=F.pad(found.tokens, (0, context.x.shape[1])))

    def project(self, features: FeatureMap) -> FeatureMap:
        width = self.backbone.tower.width
        marks = features.patches[..., width:]
        of_window = [rows for rows in marks if rows.any()]
        if of_window and self.seen.found is None:
            self.seen.found = features.grid, of_window[-1]  # the last of several layers' sets
        return super().project(replace(features, tokens=features.tokens[..., :width]))


def _run(
    model: OpenVocabSegmentor, encoder: MarkingEncoder, photo: Photo, layout: WindowLayout, window: int
) -> tuple[tuple[int, int], Tensor] | None:
    """Encode a photo with one window marked; what arrived is noted in ``encoder.seen``.

    Returns:
        grid and weights in the patches of the whole photo, where the stitch makes such; else ``None``.
    """
    seen = encoder.seen
    seen.window, seen.found = window, None
    parts, first = [], 0
    for _, batch in encoder.batches([photo], [layout]):
        seen.first = first
        parts.append(model.stitch.encode(batch, encoder))
        first += len(batch.windows)
    in_window, seen.found = seen.found, None
    together = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    model.stitch.gather(together, layout, photo, encoder)
    whole, seen.found = seen.found, seen.found or in_window
    if seen.found is None:
        raise AttentionNotReadable(
            f"{type(model.attention).__name__} under {type(model.stitch).__name__} cannot be read: no value of the "
            "marked window arrives in a patch embedding"
        )
    return whole


def check_inside(at: tuple[int, int], size: tuple[int, int]) -> None:
    """Raises ValueError for a pixel ``(x, y)`` outside of a photo of ``(H, W)``."""
    x, y = at
    if not (0 <= x < size[1] and 0 <= y < size[0]):
        raise ValueError(f"pixel {x},{y} lies outside of the photo of {size[1]} x {size[0]} pixels (x,y from 0)")


def nearest_window(layout: WindowLayout, at: tuple[int, int], size: tuple[int, int]) -> int:
    """Index of the window that holds the pixel ``(x, y)`` of a photo of ``size (H, W)`` nearest to its centre."""
    places = [(n + 0.5) / m * k for n, m, k in zip(reversed(at), size, layout.image_size, strict=True)]
    best = []
    for place, starts, length in zip(places, layout.starts, layout.window, strict=True):
        holding = [i for i, start in enumerate(starts) if start <= place < start + length]
        best.append(min(holding, key=lambda i: abs(starts[i] + length / 2 - place)))
    return best[0] * layout.shape[1] + best[1]


def _starts(layout: WindowLayout, window: int) -> tuple[int, int]:
    row, column = divmod(window, layout.shape[1])
    return layout.starts[0][row], layout.starts[1][column]


def _place_in_window(
    layout: WindowLayout, window: int, at: tuple[int, int], size: tuple[int, int]
) -> tuple[float, float]:
    """(row, column) of a pixel of the photo in a padded window, as shares of its sides."""
    parts = zip(
        reversed(at), size, layout.image_size, _starts(layout, window), layout.offset, layout.padded, strict=True
    )
    return tuple(((n + 0.5) / m * k - start + offset) / padded for n, m, k, start, offset, padded in parts)


def _row(rows: Tensor, grid: tuple[int, int], row: float, column: float) -> Tensor:
    """Of ``[gh * gw, tokens]`` the row of the cell at these shares of the grid's sides."""
    return rows[int(row * grid[0]) * grid[1] + int(column * grid[1])]


def _holding(
    layout: WindowLayout, windows: list[int], grid: tuple[int, int], at: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """float32 ``[W, h, w]``: 1 for the patches of CLIP that hold a pixel, in those of the windows that do."""
    found = np.zeros((len(windows), *grid), np.float32)
    for cells, window in zip(found, windows, strict=True):
        x0, y0, x1, y1 = _window_box(layout, window, size)
        row, column = (int(n * m) for n, m in zip(_place_in_window(layout, window, at, size), grid, strict=True))
        if x0 <= at[0] < x1 and y0 <= at[1] < y1 and 0 <= row < grid[0] and 0 <= column < grid[1]:
            cells[row, column] = 1
    return found


def _cell_box(grid: tuple[int, int], at: tuple[int, int], size: tuple[int, int]) -> Box:
    """The pixels of the cell of a grid over the photo that holds a pixel."""
    (gh, gw), (height, width), (x, y) = grid, size, at
    row, column = int((y + 0.5) / height * gh), int((x + 0.5) / width * gw)
    edges = (column * width / gw, row * height / gh, (column + 1) * width / gw, (row + 1) * height / gh)
    return tuple(round(edge) for edge in edges)


def _patch_in_window(
    layout: WindowLayout, window: int, grid: tuple[int, int], at: tuple[int, int], size: tuple[int, int]
) -> Box:
    """The pixels of the photo that the cell of a window's grid covers."""
    place, starts = _place_in_window(layout, window, at, size), _starts(layout, window)
    edges = []
    for axis in (1, 0):
        cell, step = int(place[axis] * grid[axis]), layout.padded[axis] / grid[axis]
        to_photo = size[axis] / layout.image_size[axis]
        for end in (cell, cell + 1):
            pixel = min(max(end * step - layout.offset[axis], 0), layout.window[axis]) + starts[axis]
            edges.append(round(pixel * to_photo))
    x0, x1, y0, y1 = edges
    return x0, y0, x1, y1


def _window_box(layout: WindowLayout, window: int, size: tuple[int, int]) -> Box:
    (y, x), (height, width) = _starts(layout, window), layout.window
    to_y, to_x = (n / m for n, m in zip(size, layout.image_size, strict=True))
    return round(x * to_x), round(y * to_y), round((x + width) * to_x), round((y + height) * to_y)


def _painted(weights: np.ndarray, windows: list[int], layout: WindowLayout, size: tuple[int, int]) -> np.ndarray:
    """Weights ``[W, h, w]`` of windows' patches as a map of the photo ``[H, W]``; padding is cut off."""
    canvas = np.zeros(layout.image_size, np.float32)
    (top, left), (height, width) = layout.offset, layout.window
    for grid, window in zip(weights, windows, strict=True):
        y, x = _starts(layout, window)
        padded = cv2.resize(grid, layout.padded[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        canvas[y : y + height, x : x + width] += padded[top : top + height, left : left + width]
    return cv2.resize(canvas, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
