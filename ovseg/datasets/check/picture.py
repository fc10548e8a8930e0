"""Sixteen samples on one picture: what numbers cannot show."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ovseg.datasets.check.run import usable
from ovseg.datasets.dataset import SegmentationDataset
from ovseg.datasets.errors import SampleError
from ovseg.visualization import class_shares, draw_overlay

_TILE, _TEXT, _GAP = 420, 20, 6
_PAPER, _INK, _WRONG = (250, 250, 250), (25, 25, 25), (200, 0, 0)


def choose(images: int, flagged: Sequence[int], count: int = 16) -> list[int]:
    """Places of the samples to be shown: half of them those that something is said about, the others evenly spread."""
    first = list(dict.fromkeys(flagged))[: count // 2]
    spread = [round(i) for i in np.linspace(0, images - 1, min(count, images))] if images else []
    chosen = dict.fromkeys([*first, *spread])
    return list(chosen)[: min(count, images)]


def draw_samples(dataset: SegmentationDataset, flagged: Sequence[int] = (), count: int = 16) -> np.ndarray:
    """Photos with their label maps over them, four in a row, the name and largest classes under each.

    Names of ``flagged`` samples are red; of one that cannot be read the reason is shown instead.

    Args:
        dataset: what to draw.
        flagged: places of samples that something is said about, see ``CheckReport.flagged``.
        count: how many are shown.

    Returns:
        uint8 RGB ``[H, W, 3]``.
    """
    tiles = [_tile(dataset, index, index in set(flagged)) for index in choose(len(dataset), flagged, count)]
    columns = min(4, max(1, len(tiles)))
    blank = np.full((_TILE + 3 * _TEXT + _GAP, _TILE + _GAP, 3), _PAPER, np.uint8)
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows or [blank], axis=0)


def _tile(dataset: SegmentationDataset, index: int, is_flagged: bool) -> np.ndarray:
    info, names = dataset.get_data_info(index), dataset.metainfo["classes"]
    canvas = Image.new("RGB", (_TILE + _GAP, _TILE + 3 * _TEXT + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    try:
        photo, labels = usable(dataset, index)
    except SampleError as error:
        reason = textwrap.wrap(str(error), 55)[:12]
        draw.multiline_text((8, _TILE // 3), "\n".join(reason), _WRONG, font)
        told = "cannot be used"
        is_flagged = True
    else:
        factor = _TILE / max(photo.shape[:2])
        size = (max(1, round(photo.shape[1] * factor)), max(1, round(photo.shape[0] * factor)))
        small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        scaled = cv2.resize(labels.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)
        overlay = draw_overlay(small, scaled, names, legend=False)
        overlay[scaled == info["ignore_index"]] //= 3
        canvas.paste(Image.fromarray(overlay), (0, 0))
        shares = list(class_shares(labels, len(names)).items())
        told = ", ".join(f"{names[i]} {100 * share:.0f} %" for i, share in shares[:6]) or "nothing but ignored pixels"
    lines = [str(info["name"])[-56:], *textwrap.wrap(told, 58)[:2]]
    for line, text in enumerate(lines):
        ink = _WRONG if is_flagged and line == 0 else _INK
        draw.text((4, _TILE + 4 + line * _TEXT), text, ink, font)
    return np.asarray(canvas)
