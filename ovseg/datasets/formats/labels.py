"""From files to label maps: the stored samples, or a refusal that says what to do."""

from __future__ import annotations

import numpy as np

from ovseg.datasets.formats import bmp, netpbm, png, tiff
from ovseg.datasets.formats.photo import png_samples
from ovseg.datasets.formats.source import FormatError, Source, check_grey_palette

_COLOURS = (
    "its pixels are {} colours, labels are expected: one 8- or 16-bit channel, or a palette. "
    "Convert the colours to class indices first (tools/prepare_data.py does it for the official data sets)"
)
_TURNED = "it carries an orientation ({}), and whether its labels are turned already is not known; save it without"


def png_labels(file: png.Png, orientation: int) -> np.ndarray:
    """Integer ``[H, W]`` of a verified PNG."""
    kinds = {png.RGB: "RGB", png.RGBA: "RGBA", png.GREY_ALPHA: "LA (grey with alpha)"}
    if file.header.colour in kinds:
        raise FormatError(_COLOURS.format(kinds[file.header.colour]))
    if file.animated:
        raise FormatError("it holds an animation; save each label map as a PNG of its own")
    _upright(orientation)
    labels = png_samples(file)
    if file.palette is not None:
        check_grey_palette(labels, file.palette)
    return labels


def tiff_labels(source: Source, layout: tiff.Layout) -> np.ndarray:
    """Integer ``[H, W]`` of a TIFF of one sample."""
    if layout.compression in (*tiff.JPEG, 6):
        raise FormatError("its JPEG compression is lossy and changes labels; save label maps as PNG")
    if layout.samples != 1 or layout.photometric not in (tiff.WHITE_IS_ZERO, tiff.BLACK_IS_ZERO, tiff.PALETTE):
        raise FormatError(_COLOURS.format(f"{layout.samples} x {layout.meaning}"))
    if layout.photometric == tiff.WHITE_IS_ZERO:
        raise FormatError(
            "its zero is white: some programs read such labels inverted, others as stored. Save it as PNG, or as TIFF "
            "with black as zero"
        )
    if layout.pages:
        raise FormatError(f"it holds {layout.pages} further pictures; save each label map as a file of its own")
    _upright(layout.orientation)
    labels = tiff.read_samples(source, layout)[..., 0]
    if layout.photometric == tiff.PALETTE:
        check_grey_palette(labels, layout.palette)
    if labels.dtype == np.uint32 and labels.max() >= 2**31:
        raise FormatError(f"label {labels.max()} is above 2**31 - 1; save it with at most 16 bits")
    return labels


def netpbm_labels(source: Source, header: netpbm.Header) -> np.ndarray:
    """Integer ``[H, W]`` of a PGM; values are not scaled by the largest one."""
    if header.channels != 1:
        raise FormatError(_COLOURS.format("RGB"))
    if header.bitmap:
        raise FormatError("in a PBM bitmap 1 is black, and programs read it as 0 or as 1; save label maps as PNG")
    return netpbm.read_samples(source, header, alone=True)[..., 0]


def bmp_labels(source: Source, header: bmp.Header) -> np.ndarray:
    """uint8 ``[H, W]`` of a BMP with a palette."""
    labels = bmp.read_indices(source, header)
    check_grey_palette(labels, header.palette)
    return labels


def _upright(orientation: int) -> None:
    if orientation != 1:
        raise FormatError(_TURNED.format(orientation))
