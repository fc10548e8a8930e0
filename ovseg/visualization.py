"""Pictures of label maps: overlays with a legend, and photo | ground truth | prediction side by side."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL = (250, 250, 250)
INK = (25, 25, 25)
_GREY = (89, 89, 89)
_GREY_NAMES = {"background", "unlabeled", "unlabelled", "void", "other"}


def palette_for(names: Sequence[str]) -> np.ndarray:
    """One colour per class, the same in every run; class i has the same colour in every vocabulary.

    Each colour is the one of a fixed grid that lies farthest, in CIE Lab, from all before it: among any number of
    classes no two are closer than need be. Background is grey.

    Args:
        names: class names.

    Returns:
        uint8 ``[C, 3]`` RGB.
    """
    colours = np.array(_farthest_colours(len(names)), np.uint8).reshape(-1, 3)
    grey = [name.lower() in _GREY_NAMES for name in names]
    colours[np.array(grey, bool)] = _GREY
    return colours


@lru_cache(maxsize=8)
def _farthest_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = cv2.cvtColor(grid[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    # neither near black or white, where hues cannot be told, nor greyish, which is background's
    usable = (lab[:, 0] > 35) & (lab[:, 0] < 93) & (chroma > 28)
    grid, lab = grid[usable], lab[usable]
    chosen: list[int] = []
    distance = np.linalg.norm(lab - lab[np.argmin(np.abs(grid.astype(int) - (225, 30, 45)).sum(1))], axis=1)
    index = int(distance.argmin())  # the first colour is a red
    distance[:] = np.inf
    for _ in range(count):
        chosen.append(index)
        distance = np.minimum(distance, np.linalg.norm(lab - lab[index], axis=1))
        index = int(distance.argmax())
    return tuple(tuple(int(c) for c in grid[i]) for i in chosen)


def class_shares(labels: np.ndarray, num_classes: int) -> dict[int, float]:
    """``{class: share of the image 0..1}`` of the classes that occur, largest first; others are left out."""
    inside = labels[(labels >= 0) & (labels < num_classes)]
    counts = np.bincount(inside.ravel(), minlength=num_classes)
    order = np.argsort(-counts, kind="stable")
    return {int(i): counts[i] / labels.size for i in order if counts[i]}


def draw_overlay(
    image: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    palette: np.ndarray | None = None,
    alpha: float = 0.5,
    legend: bool = True,
) -> np.ndarray:
    """The photo with coloured classes, contour lines and a legend on its right.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        labels: integer ``[H, W]``; values that are no class (the ignore index) stay unpainted.
        names: one name per class.
        palette: uint8 ``[C, 3]``; ``None``: :func:`palette_for`.
        alpha: weight of the colours, 0 (photo only) to 1.
        legend: add the panel: classes that occur, largest first, with their share of the image.

    Returns:
        uint8 RGB; with a legend wider than the photo, and higher where a small photo needs room for the text.

    Raises:
        ValueError: for arrays of other shapes or types, or a palette with too few colours.
    """
    _check(image, labels, alpha)
    palette = palette_for(names) if palette is None else np.asarray(palette, np.uint8)
    if len(palette) < len(names):
        raise ValueError(f"palette of {len(palette)} colours for {len(names)} classes")
    painted = _paint(image, labels, palette[: len(names)], alpha)
    if not legend:
        return painted
    shares = class_shares(labels, len(names))
    rows = [(tuple(palette[i]), names[i], _percent(share)) for i, share in shares.items()]
    size = text_size(image.shape[0])
    return beside(painted, legend_panel(rows, ("",), painted.shape[0], painted.shape[1], size))


def draw_comparison(
    image: np.ndarray,
    truth: np.ndarray | None,
    pred: np.ndarray,
    names: Sequence[str],
    max_side: int = 800,
    alpha: float = 0.6,
) -> np.ndarray:
    """Photo, ground truth and prediction side by side with one legend (share in ground truth, share predicted).

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        truth: integer ``[H, W]`` or ``None`` where there is none; the ignore index is shown black.
        pred: integer ``[H, W]``.
        names: one name per class.
        max_side: each of the three is made smaller to at most this many pixels on its long side.
        alpha: weight of the colours.

    Returns:
        uint8 RGB.
    """
    _check(image, pred, alpha)
    palette = palette_for(names)
    shown = [c for c in (truth, pred) if c is not None]
    shares = [class_shares(labels, len(names)) for labels in shown]
    present = sorted(set().union(*shares), key=lambda i: (-max(s.get(i, 0.0) for s in shares), i))
    rows = [(tuple(palette[i]), names[i], *(_percent(s.get(i, 0.0)) for s in shares)) for i in present]
    factor = min(1.0, max_side / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    panels = [small]
    for labels in shown:
        scaled = cv2.resize(labels.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)
        panel = _paint(small, scaled, palette, alpha)
        panel[(scaled < 0) | (scaled >= len(names))] //= 4
        panels.append(panel)
    titles = ["photo", "ground truth", "prediction"] if truth is not None else ["photo", "prediction"]
    font_size = text_size(size[1])
    columns = [titled(panel, title, font_size) for panel, title in zip(panels, titles, strict=True)]
    heads = ("truth", "pred") if truth is not None else ("pred",)
    gap = np.full((columns[0].shape[0], max(2, font_size // 3), 3), PANEL, np.uint8)
    strip = np.concatenate([part for column in columns for part in (column, gap)], axis=1)
    return beside(strip, legend_panel(rows, heads, strip.shape[0], strip.shape[1], font_size))


def _check(image: np.ndarray, labels: np.ndarray, alpha: float) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"photo of shape {image.shape} and type {image.dtype}; uint8 RGB [H, W, 3] is expected")
    if labels.shape != image.shape[:2] or labels.dtype.kind not in "iu":
        raise ValueError(f"labels of shape {labels.shape} and type {labels.dtype} for a photo of {image.shape[:2]}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha {alpha} is not between 0 and 1")


def _paint(image: np.ndarray, labels: np.ndarray, palette: np.ndarray, alpha: float) -> np.ndarray:
    # One more colour, for labels that are no class; a table lookup keeps large label maps cheap.
    table = np.concatenate([palette, np.zeros((1, 3), np.uint8)])
    is_class = (labels >= 0) & (labels < len(palette))
    colours = table[np.where(is_class, labels, len(palette))]
    # The photo's own colours would tint those of the classes, so that they no longer match the legend.
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    base = cv2.addWeighted(image, 1 - alpha, grey, alpha, 0)
    painted = cv2.addWeighted(base, 1 - alpha, colours, alpha, 0)
    painted[~is_class] = image[~is_class]
    edge = contours(labels) & is_class
    painted[edge] = colours[edge]
    return painted


def contours(labels: np.ndarray) -> np.ndarray:
    """Pixels ``[H, W]`` bool on either side of where labels change, thicker in larger photos."""
    edge = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    thickness = round(min(labels.shape) / 400)
    if thickness > 1:
        edge = cv2.dilate(edge.astype(np.uint8), np.ones((thickness, thickness), np.uint8)).astype(bool)
    return edge


def text_size(height: int) -> int:
    """Font size in pixels for text beside a picture of this height."""
    return int(min(96, max(13, round(height * 0.033))))


def _percent(share: float) -> str:
    if share == 0:
        return "-"
    return "<0.1 %" if share < 0.001 else f"{share * 100:.1f} %"


def legend_panel(rows: Sequence[tuple], heads: Sequence[str], height: int, width: int, font_size: int) -> np.ndarray:
    """Panel with one row per class: ``(colour, name, number, ...)``. Rows without room are counted in a last line."""
    font = ImageFont.load_default(font_size)
    line, pad = round(font_size * 1.5), font_size // 2
    top = line if any(heads) else 0
    # a small photo still gets a legend of some rows: the panel may be higher than it
    room = max((height - top - 2 * pad) // line, min(len(rows), 8))
    left_out = len(rows) - room if len(rows) > room else 0
    if left_out:
        left_out += 1  # the line that says so takes a row
    rows = rows[: len(rows) - left_out]
    texts = [[*heads], *([*row[2:]] for row in rows)]
    number_width = max([font.getlength(t) for r in texts for t in r] + [0]) + pad
    name_limit = max(width * 0.4, 9 * font_size)
    names = [_shorten(row[1], font, name_limit) for row in rows]
    more = f"and {left_out} more" if left_out else ""
    name_width = max([font.getlength(n) for n in [*names, more]] + [4 * font_size])
    swatch = font_size
    first = pad + swatch + pad + name_width
    panel_width = int(first + number_width * len(heads) + pad)
    panel_height = max(height, top + 2 * pad + line * (len(rows) + bool(left_out)))
    panel = Image.new("RGB", (panel_width, panel_height), PANEL)
    draw = ImageDraw.Draw(panel)
    for i, head in enumerate(heads):
        draw.text((first + number_width * (i + 1), pad), head, INK, font, anchor="ra")
    y = top + pad
    for row, name in zip(rows, names, strict=True):
        box = (pad, y + line // 2 - swatch // 2, pad + swatch, y + line // 2 + swatch // 2)
        draw.rectangle(box, fill=tuple(int(c) for c in row[0]), outline=INK)
        draw.text((pad + swatch + pad, y + line // 2), name, INK, font, anchor="lm")
        for i, number in enumerate(row[2:]):
            draw.text((first + number_width * (i + 1), y + line // 2), number, INK, font, anchor="rm")
        y += line
    if left_out:
        draw.text((pad + swatch + pad, y + line // 2), more, INK, font, anchor="lm")
    return np.asarray(panel)


_MOST_LETTERS = 1000
"""Of a line: no font gets more of them into a picture that people look at, and measuring takes time."""


def _shorten(text: str, font: ImageFont.FreeTypeFont, limit: float) -> str:
    if len(text) <= _MOST_LETTERS and font.getlength(text) <= limit:
        return text
    short = text[:_MOST_LETTERS]
    fitting = bisect.bisect_right(range(1, len(short) + 1), limit, key=lambda n: font.getlength(short[:n] + "..."))
    return short[:fitting] + "..."


def titled(panel: np.ndarray, title: str, font_size: int) -> np.ndarray:
    """A picture with a line of text above it, shortened to fit."""
    head = Image.new("RGB", (panel.shape[1], round(font_size * 1.6)), PANEL)
    font = ImageFont.load_default(font_size)
    text = _shorten(title, font, panel.shape[1])
    ImageDraw.Draw(head).text((panel.shape[1] / 2, head.height / 2), text, INK, font, anchor="mm")
    return np.concatenate([np.asarray(head), panel], axis=0)


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures side by side; the lower one is filled up below."""
    height = max(left.shape[0], right.shape[0])
    parts = [np.concatenate([p, np.full((height - p.shape[0], p.shape[1], 3), PANEL, np.uint8)]) for p in (left, right)]
    return np.concatenate(parts, axis=1)
