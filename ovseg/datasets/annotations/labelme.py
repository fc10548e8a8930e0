"""LabelMe's JSON files, one per photo."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np

from ovseg.datasets.annotations.base import Annotations, read_document
from ovseg.datasets.errors import MaskReadError
from ovseg.datasets.io import read_mask
from ovseg.polygons import fill
from ovseg.registry import ANNOTATIONS
from ovseg.rle import MaskCodeError, check_size

_LINES = ("line", "linestrip", "point", "points")


@ANNOTATIONS.register_module()
class LabelMeFiles(Annotations):
    """``NAME.json`` of LabelMe: polygons, rectangles, circles and masks, later shapes over earlier ones.

    A pixel belongs to a shape if its centre lies inside. (LabelMe's own export also takes the pixels that the outline
    touches: its maps are up to one pixel larger around each shape.) Lines and points have no area and are refused.
    """

    suffixes = (".json",)

    def read(self, reference: str) -> np.ndarray:
        document = read_document(reference)
        if not isinstance(document, Mapping) or not isinstance(document.get("shapes"), list):
            raise MaskReadError(reference, "a LabelMe file is a JSON object with a list of shapes")
        try:
            size = check_size(document.get("imageHeight"), document.get("imageWidth"))
            parts = []
            for number, shape in enumerate(document["shapes"]):
                if not isinstance(shape, Mapping):
                    raise MaskCodeError(f"shape {number} is no object but {shape!r:.60}")
                who = f"shape {number} ({shape.get('label')!r})"
                try:
                    parts.append((self.class_of(shape.get("label"), reference), _mask(shape, size)))
                except MaskCodeError as error:
                    raise MaskCodeError(f"{who}: {error}") from None
        except MaskCodeError as error:
            raise MaskReadError(reference, str(error)) from error
        return self.paint(size, parts)


def _mask(shape: Mapping[str, object], size: tuple[int, int]) -> np.ndarray:
    kind = shape.get("shape_type") or "polygon"
    try:
        points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
    except (KeyError, TypeError, ValueError):
        raise MaskCodeError("its points are no pairs of numbers") from None
    if not np.isfinite(points).all():
        raise MaskCodeError("its points are no finite numbers")
    if kind == "polygon":
        return fill([points], size)
    if kind in ("rectangle", "circle", "mask") and len(points) != 2:
        raise MaskCodeError(f"a {kind} has two points, not {len(points)}")
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points.min(0), points.max(0)
        return fill([np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])], size)
    if kind == "circle":
        (x, y), edge = points
        rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
        return (columns - x) ** 2 + (rows - y) ** 2 <= ((edge - points[0]) ** 2).sum()
    if kind == "mask":
        return _placed(shape, points, size)
    if kind in _LINES:
        raise MaskCodeError(f"a {kind} has no area; draw a polygon, or leave it out")
    raise MaskCodeError(f"a {kind!r} is not known; polygon, rectangle, circle and mask are read")


def _placed(shape: Mapping[str, object], points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    x, y = (int(v) for v in points[0])
    try:
        box = read_mask(base64.b64decode(shape["mask"], validate=True)) > 0
    except (KeyError, ValueError, TypeError) as error:
        raise MaskCodeError(f"its mask is no PNG: {error}") from error
    return place(box, x, y, size)


def place(box: np.ndarray, x: int, y: int, size: tuple[int, int]) -> np.ndarray:
    """bool ``[H, W]`` of ``size`` with ``box`` at column ``x`` and row ``y``.

    Raises:
        MaskCodeError: if it does not lie inside.
    """
    height, width = box.shape
    if x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
        raise MaskCodeError(f"a mask of {width} x {height} at ({x}, {y}) lies outside of {size[1]} x {size[0]} pixels")
    mask = np.zeros(size, bool)
    mask[y : y + height, x : x + width] = box
    return mask
