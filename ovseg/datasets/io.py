"""Reading photos and label maps, the same pixels on every machine and at every read.

Ordinary 8-bit grey and RGB JPEG and PNG files go through OpenCV, so that their pixels are bit for bit those of the
official mm pipeline (``cv2.imread(path, cv2.IMREAD_COLOR)``, channels reversed). Everything else follows the rules
written at :func:`read_image` and :func:`read_mask`. A decoder gets only layouts it was tested on
(``tests/datasets/``); what nothing was tested on is refused.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Mapping

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ovseg.datasets.errors import ImageReadError, MaskReadError, SampleError
from ovseg.datasets.formats import bmp, labels, netpbm, photo, png, tiff
from ovseg.datasets.formats.pillow import DECODER_ERRORS, rgb_on_white, strict_pillow
from ovseg.datasets.formats.source import FormatError, Source, open_source
from ovseg.datasets.places import Place, read_bytes

MAX_PIXELS = 2**28
"""Default limit of :func:`read_image`: 16,384 x 16,384 pixels, 0.8 GB as RGB. A photo of 20,000 x 20,000 needs a higher
``max_pixels`` (1.2 GB for the photo, 1.6 GB for its label map): asked for, never by accident."""
HOW_TO_READ_LARGER = ", or raise `max_pixels` of LoadImage / read_image"
"""End of the reason why a picture above the limit is refused: for who writes Python, not for who uploads a photo."""

# Formats that are pictures and nothing else: EPS, for example, would start Ghostscript. Not all Pillows have the last.
Image.init()
IMAGE_FORMATS = tuple(
    kind for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF") if kind in Image.OPEN
)
MASK_FORMATS = ("PNG", "TIFF", "BMP", "PPM")
_EXIF_ORIENTATION = 0x0112
_WHOLE = 2**29  # bytes of a file that Pillow reads whole before it knows the size of the picture
_NO_LABELS = {
    "GIF": "GIF writers renumber the labels",
    "JPEG": "JPEG is lossy and changes labels at edges",
    "WEBP": "WebP keeps colours, and mostly changes them",
    "AVIF": "AVIF is lossy and changes labels at edges",
    "HEIF": "HEIC is lossy and changes labels at edges",
    "JPEG2000": "JPEG 2000 may be lossy and changes labels at edges",
}
_UNREAD = {b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"%PDF": "PDF", b"8BPS": "Photoshop's PSD",
           b"FUJIFILM": "a camera's raw file", b"SIMPLE  ": "FITS"}  # fmt: skip


def read_image(source: str | os.PathLike | bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a photo as RGB.

    - grey: the three channels are equal; palette: its colours; 1-bit: black and white;
    - 16 bit per channel: ``round(value * 255 / 65535)``, whatever range the values use; PGM and PPM by their own
      largest value;
    - alpha (also a transparent palette entry or colour): composited on white; a further channel that is declared not to
      be alpha (near infrared) is left out, one that is not declared is refused;
    - CMYK and YCCK JPEG: plain complement formula, ink values inverted where the file has an Adobe marker (as Photoshop
      writes them) and as they are where it has none; ICC profiles are not applied, as in the mm pipeline;
    - EXIF orientation: applied, so the array is as a viewer shows it;
    - GIF, WebP, TIFF and PNG with several frames: the first, an animated PNG as viewers without animation show it;
    - HEIC: with the optional package ``pillow-heif``.

    The size is looked up in the header before the file is read. Beside the encoded file and the result, memory for the
    samples as stored is needed (6000 x 6000 pixels of 16-bit RGB: 0.2 GB), everything else is done in bands.

    Args:
        source: path of a regular file, or the encoded bytes.
        max_pixels: largest width x height accepted.

    Returns:
        uint8 ``[H, W, 3]``, RGB, contiguous.

    Raises:
        ImageReadError: for anything that is not a whole, readable picture within the limit; names it and the reason.
    """
    with open_source(source, ImageReadError) as file:
        kind = _kind(file)
        reader = _PHOTOS.get(kind, _other_photo)
        try:
            return np.ascontiguousarray(reader(file, kind, max_pixels))
        except (FormatError, SampleError):
            raise
        except DECODER_ERRORS as error:
            raise FormatError(f"damaged or truncated {kind} file ({_one_line(error)})") from error


def read_mask(path: str | os.PathLike | bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label map: a grey or palette PNG, a TIFF, PGM or BMP of one channel.

    Labels are the numbers as they are stored: palette indices are not looked up, grey of 1, 2 and 4 bits and PGM with
    any largest value are not stretched, 16-bit labels never pass through 8 bits, signed ones keep their sign. What
    programs read differently is refused: a grey palette whose greys are not its indices, TIFF with white as zero, PBM,
    a file with an orientation or with several pictures. So are colours and formats that change or renumber labels.

    A PNG's checksums and the length of its data are verified: it gives the labels that were written, or an error.
    (TIFF with deflate: its data, not its header. Uncompressed TIFF, PGM and BMP have no checksums.) Bytes after a
    PNG's end are ignored.

    Args:
        path: a regular file, or the encoded bytes.
        max_pixels: largest label map accepted, width x height.

    Returns:
        int32 ``[H, W]``.

    Raises:
        MaskReadError: for a missing file, a picture that is no label map, or one that is damaged or too large.
    """
    with open_source(path, MaskReadError) as file:
        kind = _kind(file)
        try:
            return np.ascontiguousarray(_labels(file, kind, max_pixels), np.int32)
        except (FormatError, SampleError):
            raise
        except DECODER_ERRORS as error:
            raise FormatError(f"damaged or truncated {kind} file ({_one_line(error)})") from error


def read_colour_mask(path: str | os.PathLike | bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label map that is coded in colours, for converters: a PNG of 8-bit RGB or a palette, verified.

    Returns:
        uint8 ``[H, W, 3]``, the colours as they are stored; transparency is not looked at.

    Raises:
        MaskReadError: for any other file.
    """
    with open_source(path, MaskReadError) as file:
        if _kind(file) != "PNG":
            raise FormatError("it is no PNG file, and labels in colours are read as exact colours")
        header = png.read_header(file)
        _check_size(header.width, header.height, max_pixels)
        if header.colour != png.PALETTE and (header.colour, header.depth) != (png.RGB, 8):
            raise FormatError(f"{header.bits} bits of colour type {header.colour}, 8-bit RGB or a palette is expected")
        verified = png.read_png(file, header)
        verified.transparency = None
        return np.ascontiguousarray(photo.png_photo(verified))


def photo_source(info: Mapping[str, object]) -> str | bytes:
    """What :func:`read_image` is given of a sample: its bytes where the data set has them or says where they lie
    (``photo_place``), else its path.

    Raises:
        ImageReadError: if they cannot be had.
    """
    if info.get("img_bytes") is not None:
        return info["img_bytes"]
    place = info.get("photo_place")
    return info["img_path"] if place is None else _bytes_at(place, info["img_path"], ImageReadError)


def mask_source(info: Mapping[str, object]) -> str | bytes | None:
    """What :func:`read_mask` is given of a sample: bytes (``mask_place``) or its path.

    Raises:
        MaskReadError: if they cannot be had.
    """
    place = info.get("mask_place")
    return info.get("seg_map_path") if place is None else _bytes_at(place, info["seg_map_path"], MaskReadError)


def _bytes_at(place: Place, name: str, error_class: type[ImageReadError] | type[MaskReadError]) -> bytes:
    try:
        return read_bytes(place)
    except ImageReadError as error:
        raise error_class(name, error.reason) from error


def label_bits(path: str | os.PathLike | bytes) -> int:
    """How many bits a label has in a file that :func:`read_mask` reads, by its header.

    Raises:
        MaskReadError: for a file whose header says nothing of the kind.
    """
    with open_source(path, MaskReadError) as file:
        kind = _kind(file)
        if kind not in MASK_FORMATS:
            raise FormatError(_unknown(file, MASK_FORMATS))
        header = _LABEL_HEADERS[kind](file)
        if kind == "PPM":
            return max(1, int(header.largest).bit_length())
        return header.depth if kind == "PNG" else header.bits


def photo_orientation(source: str | os.PathLike | bytes) -> int:
    """EXIF orientation 1..8 of a photo; 1 (upright) where it has none or is no picture that Pillow opens."""
    try:
        with open_source(source, ImageReadError) as file, strict_pillow(), Image.open(file.handle) as image:
            return _orientation(image)
    except (SampleError, *DECODER_ERRORS):
        return 1


def _labels(file: Source, kind: str, max_pixels: int) -> np.ndarray:
    if kind in _NO_LABELS:
        raise FormatError(f"{_NO_LABELS[kind]}; save label maps as PNG")
    if kind not in MASK_FORMATS:
        raise FormatError(_unknown(file, MASK_FORMATS))
    header = _LABEL_HEADERS[kind](file)
    if header.width * header.height > max_pixels:
        raise FormatError(f"{header.width} x {header.height} pixels are more than the limit {max_pixels:,}")
    if kind == "PNG":
        verified = png.read_png(file, header)
        return labels.png_labels(verified, _png_orientation(verified))
    return {"TIFF": labels.tiff_labels, "PPM": labels.netpbm_labels, "BMP": labels.bmp_labels}[kind](file, header)


def _kind(file: Source) -> str:
    """Pillow's name of the format, by how the file begins; ``""`` for what is none of ours."""
    start = file.head()
    if start[4:8] == b"ftyp":
        brands = {start[8:12], start[16:20], start[20:24], start[24:28], start[28:32]}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIF" if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"} else ""
    if start[:4] == b"RIFF":
        return "WEBP" if start[8:12] == b"WEBP" else ""
    if netpbm.matches(start):
        return "PPM"
    signatures = {png.SIGNATURE: "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP"}
    signatures |= {b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000", b"\xff\x4f\xff\x51": "JPEG2000"}
    signatures |= dict.fromkeys(tiff.SIGNATURES, "TIFF")
    return next((kind for signature, kind in signatures.items() if start.startswith(signature)), "")


def _unknown(file: Source, formats: tuple[str, ...]) -> str:
    start = file.head()
    named = next((name for signature, name in _UNREAD.items() if start.startswith(signature)), None)
    if named:
        return f"it is {named}, which is not read; convert it to PNG or JPEG first"
    shown = " ".join(f"{b:02x}" for b in start[:8])
    return f"not a picture, or its header is damaged (starts with {shown}); readable are {', '.join(formats)}"


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise FormatError(
            f"{width} x {height} is {width * height:,} pixels, the limit is {max_pixels:,}. "
            f"Make it smaller{HOW_TO_READ_LARGER}"
        )


def _png_photo(file: Source, kind: str, max_pixels: int) -> np.ndarray:
    header = png.read_header(file)
    _check_size(header.width, header.height, max_pixels)
    verified = png.read_png(file, header)
    return _orient(photo.png_photo(verified), _png_orientation(verified))


def _tiff_photo(file: Source, kind: str, max_pixels: int) -> np.ndarray:
    layout = tiff.read_layout(file)
    _check_size(layout.width, layout.height, max_pixels)
    return _orient(photo.tiff_photo(file, layout), layout.orientation)


def _netpbm_photo(file: Source, kind: str, max_pixels: int) -> np.ndarray:
    header = netpbm.read_header(file)
    _check_size(header.width, header.height, max_pixels)
    return photo.netpbm_photo(file, header)


def _other_photo(file: Source, kind: str, max_pixels: int) -> np.ndarray:
    """JPEG, and what Pillow reads."""
    if kind == "HEIF":
        _need_heif()
    elif kind not in IMAGE_FORMATS:
        raise FormatError(_unknown(file, IMAGE_FORMATS))
    if kind in ("WEBP", "AVIF", "HEIF") and file.size > _WHOLE:
        raise FormatError(
            f"{file.size:,} bytes are far more than a {kind} photo can need, it is not read; save it anew"
        )
    formats = (kind, "MPO") if kind == "JPEG" else (kind,)
    file.handle.seek(0)
    try:
        with strict_pillow():
            image = Image.open(file.handle, formats=formats)
    except UnidentifiedImageError:
        raise FormatError(_unknown(file, IMAGE_FORMATS)) from None
    except DECODER_ERRORS as error:
        raise FormatError(f"damaged header ({_one_line(error)})") from error
    with image:
        _check_size(*image.size, max_pixels)
        orientation = _orientation(image)
        pixels = _jpeg(file, image) if kind == "JPEG" else _by_pillow(file, image)
        return _orient(pixels, orientation)


def _need_heif() -> None:
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        raise FormatError("HEIC photos need pillow-heif: pip install pillow-heif (or 'ovseg[heif]')") from None


def _jpeg(file: Source, image: Image.Image) -> np.ndarray:
    pixels = image.width * image.height
    data = file.whole(16 * pixels + 2**26, f"a JPEG of {image.width} x {image.height} pixels")
    if not _jpeg_has_end(data):
        # OpenCV fills what a cut file lacks with grey and returns it
        raise FormatError("truncated JPEG file (no end-of-image marker)")
    if image.mode in ("L", "RGB"):
        return photo.decode_cv2(data, cv2.IMREAD_COLOR, image.size)[..., ::-1]
    with strict_pillow():
        return rgb_on_white(image, inks_as_they_are=image.mode == "CMYK" and "adobe" not in image.info)


def _by_pillow(file: Source, image: Image.Image) -> np.ndarray:
    if image.format == "JPEG2000":
        _check_jpeg2000(file)
    if image.mode == "F" or image.mode.startswith("I"):
        raise FormatError(f"{image.mode} pixels are not read from {image.format}; convert it to an 8-bit PNG first")
    with strict_pillow():
        image.seek(0)
        return rgb_on_white(image)


def _check_jpeg2000(file: Source) -> None:
    """Pillow cuts samples of more than 8 bits instead of rounding them."""
    start = file.read(0, min(file.size, 2**16))
    place = start.find(b"\xff\x4f\xff\x51")
    if place < 0 or len(start) < place + 43:
        raise FormatError("damaged header (a JPEG 2000 without the size of its picture)")
    channels = int.from_bytes(start[place + 40 : place + 42], "big")
    depths = set(start[place + 42 : place + 42 + 3 * channels : 3])
    if depths != {7}:
        raise FormatError("JPEG 2000 with other than 8 bits is not read exactly; convert it to PNG first")


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


def _png_orientation(file: png.Png) -> int:
    exif = Image.Exif()
    if file.exif is None:
        return 1
    try:
        exif.load(b"Exif\0\0" + file.exif)
        return exif.get(_EXIF_ORIENTATION, 1)
    except DECODER_ERRORS:  # a damaged EXIF block does not hide the pixels
        return 1


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1 (upright) where there is none, or where the EXIF block is damaged and the pixels are not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return image.getexif().get(_EXIF_ORIENTATION, 1)
    except DECODER_ERRORS:
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


_LABEL_HEADERS = {
    "PNG": png.read_header,
    "TIFF": tiff.read_layout,
    "PPM": netpbm.read_header,
    "BMP": bmp.read_header,
}
_PHOTOS = {"PNG": _png_photo, "TIFF": _tiff_photo, "PPM": _netpbm_photo}
