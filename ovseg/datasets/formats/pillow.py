"""Pillow without what other code of the process may have set, and its pictures as RGB on white."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from PIL import Image, ImageFile

_LOCK = threading.RLock()
_BAND = 1 << 22  # pixels at a time

DECODER_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, RuntimeError, OverflowError, MemoryError, AssertionError),
    *(TypeError, KeyError, IndexError, AttributeError, struct.error, cv2.error, Image.DecompressionBombError),
)
"""What Pillow's and OpenCV's decoders raise on damaged files, found by changing and cutting files of every format."""


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Pillow as this package needs it, whatever the process has set.

    Without Pillow's limit of pixels (ours is checked before a pixel is decoded, and may be higher), and without its
    leave to fill truncated pictures with nothing, which training scripts like to give.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of EXIF and TIFF tags that do not touch the pixels
        saved = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = saved


def bands(height: int, width: int) -> Iterator[slice]:
    """Slices of rows, a few million pixels each: what is computed from them stays small."""
    rows = max(1, _BAND // width)
    return (slice(y, min(y + rows, height)) for y in range(0, height, rows))


def rgb_on_white(image: Image.Image, inks_as_they_are: bool = False) -> np.ndarray:
    """Any 8-bit picture of Pillow as uint8 ``[H, W, 3]``, transparent parts on white.

    Args:
        image: the picture.
        inks_as_they_are: for a CMYK JPEG: Pillow takes every one for inverted, this one is not.
    """
    transparent = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La")
    out = np.empty((image.height, image.width, 3), np.uint8)
    for rows in bands(image.height, image.width):
        part = image.crop((0, rows.start, image.width, rows.stop))
        if transparent:
            layer = part.convert("RGBA")
            part = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        elif inks_as_they_are:
            part = Image.fromarray(255 - np.asarray(part), "CMYK")
        out[rows] = np.asarray(part.convert("RGB"))
    return out
