"""Reading photos and label maps, the same pixels on every machine.

Ordinary 8-bit grey and RGB JPEG and PNG files go through OpenCV, so that their pixels are bit for bit those of the
official mm pipeline (``cv2.imread(path, cv2.IMREAD_COLOR)``, channels reversed). Everything else goes through Pillow
with the rules written at :func:`read_image`.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ovseg.datasets.errors import ImageReadError, MaskReadError, SampleError

MAX_PIXELS = 2**28
"""Default limit of :func:`read_image`: 16,384 x 16,384 pixels, 0.8 GB as RGB. A photo of 20,000 x 20,000 needs a higher
``max_pixels`` (1.2 GB for the photo, 1.6 GB for its label map): asked for, never by accident."""

# Formats that are pictures and nothing else: EPS, for example, would start Ghostscript. Not all Pillows have the last.
Image.init()
IMAGE_FORMATS = tuple(
    kind for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF") if kind in Image.OPEN
)
MASK_FORMATS = ("PNG", "TIFF", "BMP", "PPM", "GIF")
_EXIF_ORIENTATION = 0x0112
# What Pillow's and OpenCV's decoders raise on damaged files, as found by changing and cutting files of every format.
_DECODER_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, RuntimeError, OverflowError, MemoryError),
    *(TypeError, KeyError, IndexError, struct.error, cv2.error, Image.DecompressionBombError),
)
_PILLOW_LIMIT_LOCK = threading.Lock()


def read_image(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a photo as RGB.

    - grey: the three channels are equal; palette: its colours; 1-bit: black and white;
    - 16 bit per channel: ``round(value * 255 / 65535)``, whatever range the values use;
    - alpha (also a transparent palette entry): composited on white;
    - CMYK and YCCK JPEG: plain complement formula, ink values inverted where the file has an Adobe marker (as Photoshop
      writes them) and as they are where it has none; ICC profiles are not applied, as in the mm pipeline;
    - EXIF orientation: applied, so the array is as a viewer shows it;
    - GIF, WebP, TIFF and PNG with several frames: the first.

    Args:
        source: path, or the encoded bytes.
        max_pixels: largest width x height accepted; looked up in the header before anything is decoded.

    Returns:
        uint8 ``[H, W, 3]``, RGB, contiguous.

    Raises:
        ImageReadError: for anything that is not a whole, readable picture within the limit; names it and the reason.
    """
    name, data = _bytes_of(source, ImageReadError)
    image = _open(name, data, IMAGE_FORMATS, ImageReadError)
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageReadError(
                name,
                f"{width} x {height} is {width * height:,} pixels, the limit is {max_pixels:,}. "
                "Make it smaller, or raise `max_pixels` of LoadImage / read_image",
            )
        _check_complete(name, data, image.format)
        try:
            with _no_pillow_limit() if image.format == "TIFF" else nullcontext():
                pixels = _decode(name, data, image)
        except SampleError:
            raise
        except _DECODER_ERRORS as error:
            raise ImageReadError(name, f"damaged or truncated {image.format} file ({_one_line(error)})") from error
        # OpenCV has turned a 16-bit TIFF already, whatever it is told
        turned = image.format == "TIFF" and _bits_per_channel(data, image) == 16
        return np.ascontiguousarray(pixels if turned else _orient(pixels, _orientation(image)))


def read_mask(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label map: palette, 8-bit or 16-bit grey PNG or TIFF.

    Palette indices are the labels; 16-bit labels never pass through 8 bits.

    Args:
        path: the file.
        max_pixels: largest label map accepted, width x height.

    Returns:
        int32 ``[H, W]``.

    Raises:
        MaskReadError: for a missing file, a colour or lossy picture, or one that is damaged or too large.
    """
    name, data = _bytes_of(path, MaskReadError)
    with _open(name, data, (*MASK_FORMATS, "JPEG", "WEBP"), MaskReadError) as image:
        if image.format not in MASK_FORMATS:
            raise MaskReadError(name, f"{image.format} is lossy and changes labels at edges; save label maps as PNG")
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise MaskReadError(
                name,
                f"its pixels are {image.mode} colours, labels are expected: one 8- or 16-bit channel, or a palette. "
                "Convert the colours to class indices first (tools/prepare_data.py does it for the official data sets)",
            )
        if image.width * image.height > max_pixels:
            raise MaskReadError(name, f"{image.width} x {image.height} pixels are more than the limit {max_pixels:,}")
        try:
            with _no_pillow_limit():
                labels = np.asarray(image)
        except _DECODER_ERRORS as error:
            raise MaskReadError(name, f"damaged or truncated {image.format} file ({_one_line(error)})") from error
    return labels.astype(np.int32)


def _bytes_of(source: str | Path | bytes, error_type: type[SampleError]) -> tuple[str, bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        name, data = "<bytes>", bytes(source)
    else:
        name = str(source)
        try:
            data = Path(source).read_bytes()
        except FileNotFoundError:
            raise error_type(name, "no such file") from None
        except IsADirectoryError:
            raise error_type(name, "is a directory, not a file") from None
        except (OSError, ValueError) as error:
            raise error_type(name, getattr(error, "strerror", None) or str(error)) from error
    if not data:
        raise error_type(name, "the file is empty")
    return name, data


@contextmanager
def _no_pillow_limit() -> Iterator[None]:
    # Pillow's global limit would refuse what `max_pixels` allows; ours is checked before a pixel is decoded.
    with _PILLOW_LIMIT_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of EXIF and TIFF tags that do not touch the pixels
        saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = saved


def _open(name: str, data: bytes, formats: tuple[str, ...], error_type: type[SampleError]) -> Image.Image:
    try:
        with _no_pillow_limit():
            return Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        start = " ".join(f"{b:02x}" for b in data[:8])
        reason = f"not a picture, or its header is damaged (starts with {start}); readable are {', '.join(formats)}"
        raise error_type(name, reason) from None
    except _DECODER_ERRORS as error:
        raise error_type(name, f"damaged header ({_one_line(error)})") from error


def _check_complete(name: str, data: bytes, kind: str | None) -> None:
    """OpenCV fills what a cut file lacks with grey and returns it: find that out from the file's own structure."""
    if kind in ("JPEG", "MPO") and not _jpeg_has_end(data):
        raise ImageReadError(name, "truncated JPEG file (no end-of-image marker)")
    if kind == "PNG":
        try:
            with _no_pillow_limit(), Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                image.verify()  # walks all chunks and their checksums without decoding
        except _DECODER_ERRORS as error:
            raise ImageReadError(name, f"damaged or truncated PNG file ({_one_line(error)})") from error


def _jpeg_has_end(data: bytes) -> bool:
    # Segments are skipped by their length, because an EXIF thumbnail is a JPEG with an end marker of its own. In the
    # entropy-coded data every 0xFF byte is followed by 0x00, so the first FFD9 there is the real one.
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return False
        marker = data[position + 1]
        if marker == 0xDA:
            return data.find(b"\xff\xd9", position) >= 0
        if marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # fill bytes and markers without a length
            position += 1 if marker == 0xFF else 2
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _decode(name: str, data: bytes, image: Image.Image) -> np.ndarray:
    kind, mode = image.format, image.mode
    transparent = "transparency" in image.info or mode in ("RGBA", "LA", "PA", "RGBa", "La")
    if kind in ("JPEG", "MPO") and mode in ("L", "RGB"):
        return _decode_cv2(name, data, cv2.IMREAD_COLOR)
    if kind in ("PNG", "TIFF") and _bits_per_channel(data, image) == 16:
        return _from_16_bit(name, data)
    if kind == "PNG" and mode in ("L", "RGB") and not transparent:
        return _decode_cv2(name, data, cv2.IMREAD_COLOR)
    if mode == "F" or mode.startswith("I"):
        raise ImageReadError(name, f"{mode} pixels (float or 32-bit integer); convert it to 8 or 16 bit first")
    image.seek(0)
    if transparent:
        layer = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))
    if mode == "CMYK" and kind == "JPEG" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for an inverted one
        image = Image.fromarray(255 - np.asarray(image), "CMYK")
    return np.asarray(image.convert("RGB"))


def _bits_per_channel(data: bytes, image: Image.Image) -> int:
    if image.format == "PNG":
        return data[24]  # in the IHDR chunk, which is always the first
    bits = image.tag_v2.get(258, 1)
    return max(bits) if isinstance(bits, tuple) else bits


def _decode_cv2(name: str, data: bytes, flags: int) -> np.ndarray:
    array = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if array is None:
        raise ImageReadError(name, "its pixels cannot be decoded; the file is damaged")
    return array[..., ::-1] if array.ndim == 3 else array


def _from_16_bit(name: str, data: bytes) -> np.ndarray:
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ImageReadError(name, "16-bit file that cannot be decoded; convert it to 8 bit first")
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    colour = array[..., 2::-1] / 65535
    if array.shape[2] == 4:
        alpha = array[..., 3:] / 65535
        colour = colour * alpha + (1 - alpha)
    return np.round(colour * 255).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1 (upright) where there is none, or where the EXIF block is damaged and the pixels are not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return image.getexif().get(_EXIF_ORIENTATION, 1)
    except _DECODER_ERRORS:
        return 1


def _orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation 1..8 (CIPA DC-008, table of tag 0x0112); other values mean nothing."""
    if orientation in (5, 6, 7, 8):
        array = array.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _one_line(error: Exception, limit: int = 120) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
