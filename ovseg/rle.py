"""COCO's codes of masks, run lengths and polygons: nothing reaches a decoder before it is known to be whole.

pycocotools checks neither: runs that do not fill the mask leave random pixels, sizes and coordinates beyond all bounds
end the process, and a list of four numbers is a box instead of a polygon. Here every code is checked first (size, sum,
ranges, finiteness); run lengths are then decoded by numpy, polygons by pycocotools, one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np
from pycocotools import mask as coco_mask

MAX_PIXELS = 2**28
"""Largest mask, as for photos (:data:`ovseg.datasets.MAX_PIXELS`)."""
MAX_OUTLINE = 2**22
"""Longest outline of a polygon, in pixels: the drawing needs about 80 bytes for each."""
_CHARACTERS = 7  # of one number in the compressed code: 35 bits, more than any run of MAX_PIXELS needs


class MaskCodeError(ValueError):
    """A run-length code or a polygon that is no mask; the message says what is wrong with it."""


def check_size(height: object, width: object) -> tuple[int, int]:
    """Height and width of a mask as ints.

    Raises:
        MaskCodeError: unless they are whole numbers from 1 on with at most :data:`MAX_PIXELS` pixels.
    """
    for name, value in (("height", height), ("width", width)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise MaskCodeError(f"{name} {_short(value)}: a whole number of pixels is needed")
    if int(height) * int(width) > MAX_PIXELS:
        raise MaskCodeError(f"a mask of {_short(height)} x {_short(width)} is above the limit of {MAX_PIXELS:,} pixels")
    return int(height), int(width)


def encode_mask(mask: np.ndarray) -> dict[str, object]:
    """COCO's compressed code of a bool mask ``[H, W]``: ``{"size": [H, W], "counts": str}``."""
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in code["size"]], "counts": code["counts"].decode("ascii")}


def decode_segmentation(segmentation: object, size: tuple[int, int]) -> np.ndarray:
    """Mask of a COCO annotation: compressed or plain run lengths (a dict), or polygons (a list of lists).

    Args:
        segmentation: the annotation's ``segmentation``.
        size: height and width of its photo.

    Returns:
        bool ``[H, W]``.

    Raises:
        MaskCodeError: for anything else, a code that is damaged or one of another size.
    """
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation, size)
    if isinstance(segmentation, list | tuple):
        return decode_polygons(segmentation, size)
    raise MaskCodeError(f"a segmentation is a dict with run lengths or a list of polygons, not {_short(segmentation)}")


def decode_rle(code: object, size: tuple[int, int]) -> np.ndarray:
    """Mask of a run-length code.

    Args:
        code: ``{"size": [H, W], "counts": ...}`` with counts as COCO's compressed string (or bytes) or as a list: runs
            of 0 and 1 in turn, beginning with 0, down the columns.
        size: height and width it must have.

    Returns:
        bool ``[H, W]``.

    Raises:
        MaskCodeError: if the code has another size, or its runs do not fill that size exactly.
    """
    height, width = check_size(*size)
    if not isinstance(code, Mapping) or "counts" not in code or "size" not in code:
        raise MaskCodeError(f"a run-length code is a dict of size and counts, not {_short(code)}")
    own = code["size"]
    if not isinstance(own, Sequence) or isinstance(own, str | bytes) or len(own) != 2:
        raise MaskCodeError(f"its size is {_short(own)}, two numbers are needed")
    if check_size(*own) != (height, width):
        raise MaskCodeError(f"it is a mask of {own[0]} x {own[1]}, {height} x {width} is needed")
    runs = _runs(code["counts"], height * width)
    bad = np.flatnonzero((runs < 0) | (runs > height * width))
    if bad.size:
        raise MaskCodeError(f"run {bad[0]} is {runs[bad[0]]} pixels long, the mask has {height * width}")
    if int(runs.sum()) != height * width:
        raise MaskCodeError(f"its runs hold {int(runs.sum())} pixels, {height} x {width} are {height * width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def decode_polygons(polygons: object, size: tuple[int, int]) -> np.ndarray:
    """Union of polygons, drawn as pycocotools does.

    Args:
        polygons: ``[[x0, y0, x1, y1, ...], ...]`` in pixels, at least three points each.
        size: height and width of the mask. What lies outside is cut off; up to the image's own size beyond its edges is
            taken for careless drawing, more for damage.

    Returns:
        bool ``[H, W]``.

    Raises:
        MaskCodeError: for an empty list, an odd number of coordinates, fewer than three points, a coordinate that is no
            finite number or far outside, or an outline that goes to and fro without end.
    """
    height, width = check_size(*size)
    if not isinstance(polygons, list | tuple) or not polygons:
        raise MaskCodeError(f"a list of polygons is needed, not {_short(polygons)}")
    mask = np.zeros((height, width), bool)
    for number, polygon in enumerate(polygons):
        try:
            points = check_polygon(polygon, (height, width))
        except MaskCodeError as error:
            raise MaskCodeError(f"polygon {number}: {error}") from None
        codes = coco_mask.frPyObjects([points.ravel().tolist()], height, width)
        mask |= coco_mask.decode(codes[0]).astype(bool)
    return mask


def check_polygon(polygon: object, size: tuple[int, int]) -> np.ndarray:
    """Points float64 ``[N, 2]`` (x, y) of ``[x0, y0, x1, y1, ...]``; refuses what :func:`decode_polygons` says."""
    if not isinstance(polygon, list | tuple | np.ndarray):
        raise MaskCodeError(f"a list of coordinates is needed, not {_short(polygon)}")
    if len(polygon) % 2:
        raise MaskCodeError(f"{len(polygon)} coordinates, an even number is needed")
    if len(polygon) < 6:
        raise MaskCodeError(f"{len(polygon) // 2} points, at least 3 are needed")
    for value in polygon:
        if isinstance(value, bool) or not isinstance(value, Real) or not -1e18 < value < 1e18:
            raise MaskCodeError(f"coordinate {_short(value)} is no finite number of pixels")
    points = np.array([float(value) for value in polygon]).reshape(-1, 2)
    height, width = check_size(*size)
    outside = np.abs(points - (width / 2, height / 2)) > np.multiply(1.5, (width, height)) + 1
    if outside.any():
        x, y = points[outside.any(1)][0]
        raise MaskCodeError(f"point ({x:g}, {y:g}) is far outside of {width} x {height} pixels")
    length = float(np.abs(points - np.roll(points, 1, axis=0)).max(1).sum())
    if length > MAX_OUTLINE:
        raise MaskCodeError(f"an outline of {length:.3g} pixels, at most {MAX_OUTLINE:,} are drawn")
    return points


def _runs(counts: object, pixels: int) -> np.ndarray:
    """int64 run lengths as they stand, not yet checked against each other."""
    if isinstance(counts, str | bytes):
        return _decompress(counts, pixels)
    if not isinstance(counts, list | tuple):
        raise MaskCodeError(f"counts are a string or a list of whole numbers, not {_short(counts)}")
    _few(len(counts), pixels)
    for run in counts:
        if isinstance(run, bool) or not isinstance(run, Integral) or not 0 <= run <= pixels:
            raise MaskCodeError(f"run {_short(run)}: a whole number of pixels from 0 to {pixels} is needed")
    return np.array([int(run) for run in counts], np.int64)


def _decompress(counts: str | bytes, pixels: int) -> np.ndarray:
    """COCO's string: numbers of 5-bit groups, lowest first, from the third on as differences to the one before last."""
    try:
        text = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError:
        raise MaskCodeError("its counts hold characters that no run-length code has") from None
    groups = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not groups.size:
        return np.zeros(0, np.int64)
    if groups.min() < 0 or groups.max() > 63:
        raise MaskCodeError("its counts hold characters that no run-length code has")
    last = groups & 32 == 0
    if not last[-1]:
        raise MaskCodeError("its counts are cut off in the middle of a number")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    _few(len(ends), pixels)
    if (ends - starts).max() >= _CHARACTERS:
        raise MaskCodeError(f"its counts hold a number of more than {_CHARACTERS} characters")
    place = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((groups & 31) << (5 * place), starts)
    negative = groups[ends] & 16 != 0
    runs[negative] -= 1 << (5 * (ends - starts + 1))[negative]
    for first in (1, 2):  # sums of at most 2**29 differences below 2**35: no overflow
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


def _few(runs: int, pixels: int) -> None:
    if runs > 2 * pixels + 1:  # every second run may be empty, not more
        raise MaskCodeError(f"{runs} runs for {pixels} pixels")


def _short(value: object, limit: int = 60) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def encode_labels(labels: np.ndarray) -> dict[int, dict[str, object]]:
    """COCO's compressed code of every value of a label map, made in one pass over it.

    Equal to :func:`encode_mask` of ``labels == value`` for each value, in the time of one of them.

    Args:
        labels: ``[H, W]`` integers.

    Returns:
        ``{value: {"size": [H, W], "counts": str}}`` of the values that occur, smallest first.

    Raises:
        MaskCodeError: for a map that is empty, too large or not of whole numbers.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise MaskCodeError(f"labels are whole numbers [H, W], not {labels.dtype} {list(labels.shape)}")
    height, width = check_size(*labels.shape)
    flat = labels.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")  # a value's runs stay in the order of the columns
    starts, ends, values = starts[order], ends[order], values[order]
    firsts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    codes = {}
    for first, last in zip(firsts, np.append(firsts[1:], len(values)), strict=True):
        borders = np.stack([starts[first:last], ends[first:last]], axis=1).ravel()
        counts = np.diff(borders, prepend=0)
        if borders[-1] < flat.size:
            counts = np.append(counts, flat.size - borders[-1])
        code = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
        codes[int(values[first])] = {"size": [height, width], "counts": code["counts"].decode("ascii")}
    return codes


def box_of(code: dict[str, object]) -> tuple[list[float], int]:
    """Bounding box ``[x, y, width, height]`` in pixels and area in pixels of a code made here."""
    checked = {"size": code["size"], "counts": str(code["counts"]).encode("ascii")}
    return [float(v) for v in coco_mask.toBbox(checked)], int(coco_mask.area(checked))
