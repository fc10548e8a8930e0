"""Pictures of what :mod:`ovseg.explain` finds, uint8 RGB ``[h, w, 3]``."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ovseg.explain.attention import AttentionAt
from ovseg.explain.embeddings import EmbeddingColours
from ovseg.explain.errors import CONFUSED, CORRECT, IGNORED, ErrorMap
from ovseg.explain.heat import HeatMaps
from ovseg.explain.methods import MethodResult
from ovseg.visualization import INK, PANEL, contours, draw_overlay, legend_panel, palette_for, text_size, titled

MARK = (0, 255, 255)
_COLOURS = {"correct": (70, 160, 80), "confused": (214, 39, 40), "ignored": (0, 0, 0)}


def draw_attention(image: np.ndarray, found: AttentionAt, max_side: int = 800) -> np.ndarray:
    """The photo in grey with what a patch attends to in colours, the patch and its window outlined.

    Colours go from none to the largest weight of another patch (the patch's own is often many times that); a bar tells
    the weights.

    Args:
        image: uint8 ``[H, W, 3]`` RGB photo.
        found: from :func:`ovseg.explain.attention_at`.
        max_side: the photo is made smaller to at most this many pixels on its long side.
    """
    values, top = found.map, found.others or found.own or 1.0
    picture = _heated(_smaller(image, max_side), _smaller(values, max_side, cv2.INTER_NEAREST), top)
    factor = picture.shape[0] / image.shape[0]
    if len(found.windows) == 1:
        _outline(picture, found.windows[0], factor, (255, 255, 255), 1)
    _outline(picture, found.patch, factor, MARK, max(2, round(picture.shape[0] / 200)))
    size = text_size(picture.shape[0])
    lines = [f"own patch {found.own:.3f}", f"others up to {found.others:.3f}", f"sum {found.total:.2f}"]
    if found.prefix.size and found.prefix.any():
        lines.append(f"CLS {float(found.prefix.sum()):.3f}")
    bar = _bar(picture.shape[0], size, "0", f"{top:.3f}", lines)
    title = found.attention.partition("(")[0]
    return titled(np.concatenate([picture, bar], axis=1), f"{title} at {found.at[0]},{found.at[1]}", size)


def draw_embeddings(image: np.ndarray, found: EmbeddingColours, max_side: int = 600) -> np.ndarray:
    """The photo, and beside it the main directions of its patch embeddings as colours.

    Args:
        image: uint8 ``[H, W, 3]`` RGB photo.
        found: from :func:`ovseg.explain.embedding_colours`.
        max_side: each is made smaller to at most this many pixels on its long side.
    """
    small, colours = _smaller(image, max_side), _smaller(found.picture, max_side)
    size = text_size(small.shape[0])
    shares = " + ".join(f"{share:.0%}" for share in found.explained)
    return _row_of([titled(small, "photo", size), titled(colours, f"embeddings ({shares} of the variance)", size)])


def draw_heat_maps(image: np.ndarray, found: HeatMaps, columns: int = 3) -> np.ndarray:
    """A panel per class: the photo in grey with the class's probability in colours, each up to its own largest.

    Args:
        image: uint8 ``[H, W, 3]`` RGB photo.
        found: from :func:`ovseg.explain.heat_maps`.
        columns: panels in a row.
    """
    height, width = found.maps.shape[1:]
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    size, panels = text_size(height), [titled(small, "photo", text_size(height))]
    for name, values in zip(found.names, found.maps, strict=True):
        top = float(values.max())
        panels.append(titled(_heated(small, values, top or 1.0), f"{name} (up to {top:.2f})", size))
    return _grid(panels, columns)


def draw_errors(
    image: np.ndarray,
    labels: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str],
    found: ErrorMap,
    max_side: int = 600,
    confusions: int = 8,
) -> np.ndarray:
    """Ground truth, prediction and error map side by side, below them a table of the worst confusions.

    Args:
        image: uint8 ``[H, W, 3]`` RGB photo.
        labels, truth: integer ``[H, W]``.
        names: one name per class.
        found: from :func:`ovseg.explain.error_map`.
        max_side: each is made smaller to at most this many pixels on its long side.
        confusions: rows of the table.
    """
    small, palette = _smaller(image, max_side), palette_for(names)
    parts = [_smaller(part.astype(np.int32), max_side, cv2.INTER_NEAREST) for part in (truth, labels, found.kinds)]
    overlays = [draw_overlay(small, part, names, palette, 0.6, legend=False) for part in parts[:2]]
    grey = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    errors = grey.copy()
    for kind, colour in ((CORRECT, "correct"), (CONFUSED, "confused"), (IGNORED, "ignored")):
        inside = parts[2] == kind
        errors[inside] = (0.35 * grey[inside] + 0.65 * np.array(_COLOURS[colour])).astype(np.uint8)
    errors[contours(parts[0])] = (255, 255, 255)
    overlays[0][parts[2] == IGNORED] //= 4
    size = text_size(small.shape[0])
    shares = {name: float((found.kinds == kind).mean()) for kind, name in enumerate(("correct", "confused", "ignored"))}
    titles = ("ground truth", f"prediction (mIoU {found.miou:.1f})", f"errors (right {found.accuracy:.1f} %)")
    top = _row_of([titled(part, title, size) for part, title in zip([*overlays, errors], titles, strict=True)])
    present = np.union1d(np.unique(parts[0]), np.unique(parts[1]))
    rows = [(tuple(palette[i]), names[i], "") for i in present if i < len(names)]
    rows += [(_COLOURS[name], name, f"{share:.1%}") for name, share in shares.items()]
    legend = legend_panel(rows, ("",), top.shape[0], top.shape[1], size)
    lines = [("truth", "taken for", "pixels", "of truth", "near boundary")]
    for one in found.confusions[:confusions]:
        numbers = (str(one.pixels), f"{one.share:.1%}", f"{one.near_boundary:.0%}")
        lines.append((one.truth, one.predicted, *numbers))
    if found.confusions:
        lines.append(("", "all errors", str(int((found.kinds == CONFUSED).sum())), "", f"{found.near_boundary:.0%}"))
    return _stack([_row_of([top, legend], gap=0), _table(lines, size)])


def draw_methods(
    image: np.ndarray,
    found: Sequence[MethodResult],
    truth: np.ndarray | None = None,
    max_side: int = 480,
    columns: int = 4,
    alpha: float = 0.6,
) -> np.ndarray:
    """Photo, ground truth where there is one, and each method's overlay with its mIoU, under one legend.

    Args:
        image: uint8 ``[H, W, 3]`` RGB photo.
        found: from :func:`ovseg.explain.by_methods`, all with the same words.
        truth: integer ``[H, W]``.
        max_side: each is made smaller to at most this many pixels on its long side.
        columns: panels in a row.
        alpha: weight of the colours.

    Raises:
        ValueError: for no method, or results with other words.
    """
    if not found or any(one.result.names != found[0].result.names for one in found):
        raise ValueError("a grid needs at least one method, and the same words for all of them")
    names = found[0].result.names
    palette, small = palette_for(names), _smaller(image, max_side)
    size = text_size(small.shape[0])
    panels, present = [titled(small, "photo", size)], set()
    shown = [] if truth is None else [("ground truth", truth)]
    shown += [(one.method + ("" if one.miou is None else f" {one.miou:.1f}"), one.result.labels) for one in found]
    for title, labels in shown:
        part = _smaller(labels.astype(np.int32), max_side, cv2.INTER_NEAREST)
        overlay = draw_overlay(small, part, names, palette, alpha, legend=False)
        overlay[(part < 0) | (part >= len(names))] //= 4
        panels.append(titled(overlay, title, size))
        present |= {int(i) for i in np.unique(part) if 0 <= i < len(names)}
    grid = _grid(panels, columns)
    rows = [(tuple(palette[i]), names[i]) for i in sorted(present)]
    return _row_of([grid, legend_panel(rows, (), grid.shape[0], grid.shape[1], size)], gap=0)


def _smaller(array: np.ndarray, max_side: int, how: int = cv2.INTER_AREA) -> np.ndarray:
    factor = min(1.0, max_side / max(array.shape[:2]))
    size = (max(1, round(array.shape[1] * factor)), max(1, round(array.shape[0] * factor)))
    return cv2.resize(array, size, interpolation=how)


def _heated(image: np.ndarray, values: np.ndarray, top: float) -> np.ndarray:
    """A photo in dark grey, ``values [h, w]`` from 0 to ``top`` in colours over it."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32) * 0.8
    level = np.clip(values / top, 0, 1)
    weight = (0.15 + 0.7 * np.sqrt(level))[..., None]
    return (grey * (1 - weight) + _colours(level) * weight).astype(np.uint8)


def _colours(level: np.ndarray) -> np.ndarray:
    """Levels 0..1 as RGB, dark to bright."""
    return cv2.cvtColor(cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def _outline(picture: np.ndarray, box: tuple[int, int, int, int], factor: float, colour: tuple, thickness: int) -> None:
    x0, y0, x1, y1 = (round(n * factor) for n in box)
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, thickness)


def _bar(height: int, size: int, low: str, high: str, lines: Sequence[str]) -> np.ndarray:
    """A panel with a scale of colours and lines of text below its top."""
    font = ImageFont.load_default(size)
    width = int(max(font.getlength(line) for line in (*lines, high)) + 2.5 * size)
    panel = Image.new("RGB", (width, height), PANEL)
    draw, y = ImageDraw.Draw(panel), size // 2
    for line in lines:
        draw.text((size, y), line, INK, font)
        y += round(1.5 * size)
    y, bottom = y + size, height - size
    if bottom - y > 2 * size:
        ramp = _colours(np.repeat(np.linspace(1, 0, bottom - y)[:, None], size, 1))
        panel.paste(Image.fromarray(ramp), (size, y))
        draw.text((2.5 * size, y), high, INK, font)
        draw.text((2.5 * size, bottom), low, INK, font, anchor="ls")
    return np.asarray(panel)


def _row_of(panels: Sequence[np.ndarray], gap: int = 6) -> np.ndarray:
    height = max(panel.shape[0] for panel in panels)
    parts = []
    for panel in panels:
        parts += [_filled(panel, height, panel.shape[1]), np.full((height, gap, 3), PANEL, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


def _stack(panels: Sequence[np.ndarray], gap: int = 6) -> np.ndarray:
    width = max(panel.shape[1] for panel in panels)
    parts = []
    for panel in panels:
        parts += [_filled(panel, panel.shape[0], width), np.full((gap, width, 3), PANEL, np.uint8)]
    return np.concatenate(parts[:-1], axis=0)


def _filled(panel: np.ndarray, height: int, width: int) -> np.ndarray:
    padding = ((0, height - panel.shape[0]), (0, width - panel.shape[1]))
    return np.stack([np.pad(panel[..., c], padding, constant_values=colour) for c, colour in enumerate(PANEL)], axis=-1)


def _grid(panels: Sequence[np.ndarray], columns: int) -> np.ndarray:
    return _stack([_row_of(panels[i : i + columns]) for i in range(0, len(panels), columns)])


def _table(lines: Sequence[Sequence[str]], size: int) -> np.ndarray:
    """Lines of text in columns, the first as heads; all but the first two columns to the right."""
    font = ImageFont.load_default(size)
    widths = [max(font.getlength(line[i]) for line in lines) + 1.5 * size for i in range(len(lines[0]))]
    panel = Image.new("RGB", (int(sum(widths) + size), round(1.5 * size) * len(lines) + size), PANEL)
    draw = ImageDraw.Draw(panel)
    for row, line in enumerate(lines):
        left = size / 2
        for column, (text, width) in enumerate(zip(line, widths, strict=True)):
            place, anchor = (left, "la") if column < 2 else (left + width - 1.5 * size, "ra")
            draw.text(
                (place, size / 2 + row * round(1.5 * size)), text, INK if row else (90, 90, 90), font, anchor=anchor
            )
            left += width
    return np.asarray(panel)
