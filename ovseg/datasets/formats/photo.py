"""From stored samples to a photo: uint8 RGB, as :func:`ovseg.datasets.read_image` promises it."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from ovseg.datasets.formats import netpbm, png, tiff
from ovseg.datasets.formats.pillow import bands, rgb_on_white, strict_pillow
from ovseg.datasets.formats.source import FormatError, Source

# round(v * 255 / 65535) = round(v / 257); 257 is odd, so that nothing lies half-way
_TO_8_BIT = ((np.arange(65536) + 128) // 257).astype(np.uint8)


def decode_cv2(data: bytes, flags: int, size: tuple[int, int]) -> np.ndarray:
    """OpenCV's pixels of a JPEG or PNG, channels as OpenCV has them, EXIF not applied.

    Raises:
        FormatError: if they cannot be decoded or are not of the size (width, height) that the header said.
    """
    array = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if array is None or array.shape[1::-1] != size:
        raise FormatError("damaged: its pixels cannot be decoded")
    return array


def png_photo(file: png.Png) -> np.ndarray:
    """uint8 ``[H, W, 3]`` of a verified PNG."""
    head, size = file.header, (file.header.width, file.header.height)
    key = None
    if head.depth == 16 or (head.colour == png.GREY and head.depth < 8):
        key = None if file.transparency is None else np.frombuffer(file.transparency, ">u2")
    if head.depth == 16:
        array = decode_cv2(_taken(file, transparency=False), cv2.IMREAD_UNCHANGED, size)
        return sixteen_bit(array[..., None] if array.ndim == 2 else array, key)
    if key is not None:
        samples = png_samples(file)
        grey = samples * np.uint8(255 // ((1 << head.depth) - 1))
        grey[samples == key[0]] = 255
        return np.repeat(grey[..., None], 3, axis=2)
    if head.colour in (png.GREY, png.RGB) and file.transparency is None:
        return decode_cv2(_taken(file), cv2.IMREAD_COLOR, size)[..., ::-1]
    with _opened(_taken(file)) as image:
        return rgb_on_white(image)


def _opened(data: bytes) -> Image.Image:
    """A rebuilt PNG in Pillow; it is whole, so that decoding it needs no lock."""
    with strict_pillow():
        return Image.open(io.BytesIO(data), formats=("PNG",))


def png_samples(file: png.Png) -> np.ndarray:
    """The stored samples of a verified PNG of one channel, ``[H, W]``: uint8, or uint16 of 16 bits.

    Decoders stretch grey of 1, 2 and 4 bits to 0..255. Stored as palette indices the same bits stay what they are.
    """
    grey_bits = file.header.colour == png.GREY and file.header.depth < 8
    data = _taken(file, colour=png.PALETTE if grey_bits else None, transparency=False)
    with _opened(data) as image:
        return np.array(image)


def _taken(file: png.Png, colour: int | None = None, transparency: bool = True) -> bytes:
    data = file.rebuilt(colour, transparency)
    file.data.clear()  # not a second copy while the pixels are decoded
    return data


def sixteen_bit(array: np.ndarray, key: np.ndarray | None = None) -> np.ndarray:
    """uint8 RGB of uint16 ``[H, W, C]``: grey, BGR, or BGRA whose alpha is straight; ``key`` (RGB) is transparent."""
    if array.dtype != np.uint16 or array.shape[2] not in (1, 3, 4):
        raise FormatError(f"a 16-bit file that is read as {array.dtype} {array.shape}; convert it to 8 bit first")
    out = np.empty((*array.shape[:2], 3), np.uint8)
    for rows in bands(*array.shape[:2]):
        colour = array[rows, :, 2::-1] if array.shape[2] >= 3 else array[rows]
        if array.shape[2] == 4:
            out[rows] = on_white(colour, array[rows, :, 3:], premultiplied=False)
            continue
        out[rows] = _TO_8_BIT[colour]
        if key is not None:
            out[rows][(colour == key).all(axis=2)] = 255
    return out


def on_white(colour: np.ndarray, alpha: np.ndarray, premultiplied: bool) -> np.ndarray:
    """uint8 of colours ``[h, W, C]`` with alpha ``[h, W, 1]``, both of one unsigned type."""
    largest = np.iinfo(colour.dtype).max
    alpha = alpha / largest
    shown = colour / largest * (1.0 if premultiplied else alpha) + (1 - alpha)
    return np.round(np.minimum(shown, 1) * 255).astype(np.uint8)


def tiff_photo(source: Source, layout: tiff.Layout) -> np.ndarray:
    """uint8 ``[H, W, 3]`` of a TIFF, its orientation not yet applied.

    Raises:
        FormatError: for layouts whose colours are not known for sure.
    """
    if layout.compression in tiff.JPEG:
        return np.ascontiguousarray(np.broadcast_to(tiff.read_jpeg(source, layout), (layout.height, layout.width, 3)))
    if layout.compression in tiff.FAX:
        raise FormatError("fax compression (CCITT) is not read; save it with deflate")
    colours = {tiff.WHITE_IS_ZERO: 1, tiff.BLACK_IS_ZERO: 1, tiff.RGB: 3, tiff.PALETTE: 1, tiff.CMYK: 4}
    base = colours.get(layout.photometric)
    if base is None or layout.samples < base or (layout.photometric == tiff.CMYK and layout.ink_set != 1):
        raise FormatError(f"its {layout.samples} samples are {layout.meaning}; convert it to RGB or grey first")
    if layout.sample_format != 1:
        kind = {2: "signed", 3: "float"}.get(layout.sample_format, "unknown")
        raise FormatError(f"its pixels are {kind} numbers; convert it to 8 or 16 bit first")
    if layout.bits > 16 or (layout.photometric == tiff.PALETTE and not len(layout.palette)):
        raise FormatError(f"{layout.bits} bits per sample or a palette that does not fit; convert it to RGB first")
    alpha = _alpha(layout, base)
    samples = tiff.read_samples(source, layout)
    out = np.empty((layout.height, layout.width, 3), np.uint8)
    for rows in bands(layout.height, layout.width):
        colour = samples[rows, :, :base]
        if layout.photometric == tiff.PALETTE:
            out[rows] = np.concatenate([layout.palette, np.zeros((256, 3), np.uint8)])[colour[..., 0]]
            continue
        if layout.photometric == tiff.WHITE_IS_ZERO:
            colour = (1 << layout.bits) - 1 - colour
        if layout.bits < 8:
            colour = colour * np.uint8(255 // ((1 << layout.bits) - 1))
        if alpha:
            out[rows] = _composited(colour, samples[rows, :, base : base + 1], alpha == 1)
            continue
        colour = _TO_8_BIT[colour] if layout.bits == 16 else colour
        if layout.photometric == tiff.CMYK:
            colour = np.asarray(Image.fromarray(np.ascontiguousarray(colour), "CMYK").convert("RGB"))
        out[rows] = colour
    return out


def _composited(colour: np.ndarray, alpha: np.ndarray, premultiplied: bool) -> np.ndarray:
    if colour.dtype == np.uint8 and not premultiplied:  # as for PNG and WebP
        rgb = np.broadcast_to(colour, (*colour.shape[:2], 3))
        return rgb_on_white(Image.fromarray(np.concatenate([rgb, alpha], axis=2), "RGBA"))
    return on_white(colour, alpha, premultiplied)


def _alpha(layout: tiff.Layout, base: int) -> int:
    """0 where no sample is alpha, 1 premultiplied, 2 straight."""
    more = layout.samples - base
    if not more:
        return 0
    if layout.extra is None or len(layout.extra) != more or max(layout.extra) > 2:
        raise FormatError(
            f"it has {more} samples beside its colours and does not say what they are (alpha, or a band such as near "
            "infrared?); save the colours alone"
        )
    alphas = [kind for kind in layout.extra if kind]
    if alphas and (len(alphas) > 1 or not layout.extra[0] or layout.photometric not in (tiff.BLACK_IS_ZERO, tiff.RGB)):
        raise FormatError(f"its extra samples are {layout.extra}, alpha is read as the first; save the colours alone")
    return alphas[0] if alphas else 0


def netpbm_photo(source: Source, header: netpbm.Header) -> np.ndarray:
    """uint8 ``[H, W, 3]``, values scaled by the largest one that the header names."""
    samples = netpbm.read_samples(source, header, alone=False)
    scale = np.rint(np.arange(header.largest + 1) * 255 / header.largest).astype(np.uint8)
    if header.bitmap:
        scale = 255 - scale  # 1 is black
    out = np.empty((header.height, header.width, 3), np.uint8)
    for rows in bands(header.height, header.width):
        out[rows] = scale[samples[rows]]
    return out
