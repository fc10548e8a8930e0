"""Supervisely's JSON files, one per photo, as its export has them (``ds/ann/NAME.jpg.json``)."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping

import numpy as np
from PIL import Image

from ovseg.datasets.annotations.base import Annotations, read_document
from ovseg.datasets.annotations.labelme import place
from ovseg.datasets.errors import MaskReadError
from ovseg.datasets.formats.pillow import DECODER_ERRORS, strict_pillow
from ovseg.polygons import fill
from ovseg.registry import ANNOTATIONS
from ovseg.rle import MAX_PIXELS, MaskCodeError, check_size

_MOST = 1 << 26  # bytes of a decompressed PNG of one thing


@ANNOTATIONS.register_module()
class SuperviselyFiles(Annotations):
    """``NAME.jpg.json``: polygons with holes, rectangles and bitmaps, later objects over earlier ones.

    A pixel belongs to a polygon if its centre lies inside. Other geometries (lines, points, cuboids) are refused.
    """

    suffixes = (".jpg.json", ".jpeg.json", ".png.json", ".tif.json", ".bmp.json", ".webp.json", ".json")

    def read(self, reference: str) -> np.ndarray:
        document = read_document(reference)
        size = document.get("size") if isinstance(document, Mapping) else None
        if not isinstance(size, Mapping) or not isinstance(document.get("objects"), list):
            raise MaskReadError(reference, "a Supervisely file is a JSON object with size and objects")
        try:
            size = check_size(size.get("height"), size.get("width"))
            parts = []
            for number, thing in enumerate(document["objects"]):
                if not isinstance(thing, Mapping):
                    raise MaskCodeError(f"object {number} is no object but {thing!r:.60}")
                try:
                    parts.append((self.class_of(thing.get("classTitle"), reference), _mask(thing, size)))
                except MaskCodeError as error:
                    raise MaskCodeError(f"object {number} ({thing.get('classTitle')!r}): {error}") from None
        except MaskCodeError as error:
            raise MaskReadError(reference, str(error)) from error
        return self.paint(size, parts)


def _mask(thing: Mapping[str, object], size: tuple[int, int]) -> np.ndarray:
    kind = thing.get("geometryType")
    try:
        if kind == "bitmap":
            x, y = (int(v) for v in thing["bitmap"]["origin"])
            return place(_bitmap(thing["bitmap"]["data"]), x, y, size)
        if kind in ("polygon", "rectangle"):
            rings = [
                np.asarray(ring, np.float64) for ring in (thing["points"]["exterior"], *thing["points"]["interior"])
            ]
    except MaskCodeError:
        raise
    except (KeyError, TypeError, ValueError):
        raise MaskCodeError(f"a {kind} without the points or data of one") from None
    if kind == "polygon":
        return fill(rings, size)
    if kind == "rectangle" and rings[0].shape == (2, 2):
        (x0, y0), (x1, y1) = rings[0].min(0), rings[0].max(0) + 1  # both corners are pixels of it
        return fill([np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])], size)
    raise MaskCodeError(f"a {kind!r} is no area that is read; polygon, rectangle and bitmap are")


def _bitmap(data: str) -> np.ndarray:
    """bool ``[h, w]`` of a PNG, compressed and as base64: what is not transparent, or not black."""
    try:
        unpacked = zlib.decompressobj()
        png = unpacked.decompress(base64.b64decode(data, validate=True), _MOST)
        if not unpacked.eof:
            raise MaskCodeError("its bitmap is cut off or far too large")
        with strict_pillow(), Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MaskCodeError(f"a bitmap of {image.width} x {image.height} pixels is too large")
            has_alpha = "transparency" in image.info or "A" in image.getbands()
            return np.asarray(image.convert("RGBA"))[..., 3 if has_alpha else 0] > 0
    except (zlib.error, TypeError, *DECODER_ERRORS) as error:
        if isinstance(error, MaskCodeError):
            raise
        raise MaskCodeError(f"its bitmap is no compressed PNG ({error})") from error
