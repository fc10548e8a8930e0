"""Label maps: the samples as they are stored, or an error; never other labels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from ovseg.datasets import MaskReadError, read_mask
from ovseg.datasets.files import LABEL_SUFFIXES, write_labels
from ovseg.datasets.io import read_colour_mask
from ovseg.results import SegmentationResult
from tests.datasets.encoders import chunk, png, tiff

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (256, 3), dtype=np.uint8)


def labels(depth, height=23, width=29):
    return RNG.integers(0, 1 << depth, (height, width, 1), dtype=np.uint16)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refused(data, reason, reader=read_mask):
    with pytest.raises(MaskReadError, match=reason) as caught:
        reader(data)
    return str(caught.value)


@pytest.mark.parametrize("size", [(23, 29), (1, 1), (1, 9), (9, 1), (3, 5)])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_png_of_all_depths_gives_the_stored_samples(depth, interlaced, size):
    want = labels(depth, *size)
    ours = read_mask(png(want, depth, interlaced=interlaced))
    assert ours.dtype == np.int32
    np.testing.assert_array_equal(ours, want[..., 0])
    if depth <= 8:
        palette = COLOURS[: 1 << depth]
        np.testing.assert_array_equal(read_mask(png(want, depth, 3, palette, interlaced)), want[..., 0])
        few = palette[: max(1, len(palette) // 2)]  # labels beyond the palette, as 255 in a file of 21 colours
        np.testing.assert_array_equal(read_mask(png(want, depth, 3, few, interlaced)), want[..., 0])


def test_every_flipped_bit_of_a_png_is_refused_or_changes_nothing():
    want = np.zeros((12, 16, 1), np.uint16)
    want[3:9, 4:11] = 15
    whole = encoded(Image.fromarray(want[..., 0].astype(np.uint8)), "PNG")
    outcomes = [0, 0]
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        try:
            np.testing.assert_array_equal(read_mask(bytes(data)), want[..., 0])
        except MaskReadError:
            outcomes[0] += 1
        else:
            outcomes[1] += 1
    assert outcomes[0] == 8 * len(whole)


def test_png_with_other_rows_than_its_header_says():
    want = labels(8)
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in want[..., 0])
    refused(png(want, raw=rows[:-30]), "fewer rows")
    refused(png(want, raw=rows[:-1]), "fewer rows")
    refused(png(want, raw=rows + bytes(30)), "more rows|more compressed data")
    refused(png(want, raw=b""), "fewer rows")
    refused(png(want, raw=rows[:30] + b"\5" + rows[31:]), "filter 5")
    refused(png(want, raw=bytes(10**8)), "more rows|far beyond")
    interlaced = png(want, interlaced=True, raw=rows)
    refused(interlaced, "rows|filter")


def test_png_whose_parts_are_out_of_order():
    want = labels(8)
    whole = png(want)
    palette = chunk(b"PLTE", COLOURS.tobytes())
    refused(png(want, colour=3), "palette is missing")
    refused(png(want, colour=3, palette=COLOURS, before=palette), "PLTE comes twice")
    refused(png(want, colour=3, after=palette), "PLTE comes twice or too late")
    refused(png(want, before=palette), "PLTE does not belong")
    refused(png(want, after=chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", b"")), "IDAT comes after other")
    refused(png(want, before=chunk(b"QQQQ", b"")), "QQQQ is unknown and critical")
    refused(png(want, before=chunk(b"IHDR", bytes(13))), "IHDR comes twice")
    refused(whole[:-12], "damaged or truncated")
    refused(whole[:8] + whole[33:], "first chunk")
    refused(png(want, before=chunk(b"tEXt", b"a\0b")[:-1] + b"!"), "checksum of chunk tEXt")
    stream = zlib.compress(b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in want[..., 0]))
    for data, reason in ((stream[:-1], "no end"), (stream[:-4] + b"abcd", "data check"), (stream + b"!", "more compr")):
        head = struct.pack(">IIBBBBB", 29, 23, 8, 0, 0, 0, 0)
        parts = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
        refused(whole[:8] + parts, reason)
    np.testing.assert_array_equal(read_mask(whole + b"what follows the end is ignored"), want[..., 0])
    np.testing.assert_array_equal(read_mask(png(want, before=chunk(b"tEXt", b"a\0b"))), want[..., 0])


def test_leave_to_read_truncated_files_is_not_taken(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = encoded(Image.fromarray(labels(8)[..., 0].astype(np.uint8)), "PNG")
    refused(whole[:-40], "damaged or truncated")
    assert ImageFile.LOAD_TRUNCATED_IMAGES


GREYS = np.repeat(np.array([[0], [15], [255]], np.uint8), 3, axis=1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_palettes_that_say_other_numbers_are_refused(kind):
    # a grey map of 0, 15 and 255 after a program that makes files smaller
    want = RNG.integers(0, 3, (23, 29, 1), dtype=np.uint8)
    if kind == "TIFF":
        colours = np.concatenate([GREYS, np.zeros((253, 3), np.uint8)]).T.astype(int) * 257
        data = tiff(want, 3, tags={320: tuple(colours.ravel().tolist())})
    else:
        image = Image.fromarray(want[..., 0])
        image.putpalette(GREYS.tobytes() + bytes(759))
        data = encoded(image, kind)
    assert "index 1 as grey 15" in refused(data, "its palette is grey")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_palettes_that_agree_or_have_colours_give_indices(kind):
    want = RNG.integers(0, 21, (23, 29), dtype=np.uint8)
    for palette in (COLOURS, np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)):
        image = Image.fromarray(want).convert("P")
        image.putdata(want.ravel())
        image.putpalette(palette.tobytes())
        np.testing.assert_array_equal(read_mask(encoded(image, kind)), want)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_of_all_depths(bits):
    want = RNG.integers(0, 1 << bits, (7, 13), dtype=np.uint8)
    row = -(-13 * bits // 32) * 4
    packed_bits = np.unpackbits(want[..., None], axis=2)[..., 8 - bits :].reshape(7, -1)
    rows = np.zeros((7, row), np.uint8)
    packed = np.packbits(packed_bits, axis=1)
    rows[:, : packed.shape[1]] = packed
    colours = np.concatenate([COLOURS[: 1 << bits], np.zeros((1 << bits, 1), np.uint8)], axis=1).tobytes()
    for height, data in ((7, rows[::-1]), (-7, rows)):
        head = struct.pack("<IiiHHIIiiII", 40, 13, height, 1, bits, 0, 0, 0, 0, 0, 0)
        file = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(colours)) + head + colours + data.tobytes()
        np.testing.assert_array_equal(read_mask(file), want)
        refused(file[:-1], "damaged or truncated")
        refused(file[:30] + b"\1" + file[31:], "compression 1")


TIFF_LAYOUTS = [
    dict(),
    dict(order=">"),
    dict(big=True),
    dict(big=True, order=">", compression=8),
    dict(strip_rows=5),
    dict(compression=8, strip_rows=4),
    dict(compression=8, predictor=2),
    dict(compression=5, predictor=2, order=">"),
    dict(compression=5, strip_rows=7),
    dict(compression=32773, strip_rows=7),
    dict(tile=(16, 16)),
    dict(tile=(16, 32), compression=8, predictor=2),
    dict(planar=2),
]


@pytest.mark.parametrize("options", TIFF_LAYOUTS, ids=str)
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
def test_tiff_of_all_layouts_gives_the_stored_samples(kind, options):
    limits = np.iinfo(kind)
    want = RNG.integers(limits.min, min(limits.max, 2**31 - 1), (23, 29, 1), dtype=kind, endpoint=True)
    np.testing.assert_array_equal(read_mask(tiff(want, **options)), want[..., 0])


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
def test_tiff_of_few_bits_is_not_stretched(bits, compression):
    want = labels(bits).astype(np.uint8)
    data = tiff(want, bits=bits, compression=compression, strip_rows=6)
    np.testing.assert_array_equal(read_mask(data), want[..., 0])


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiff_as_pillow_writes_it(kind, compression):
    want = RNG.integers(0, np.iinfo(kind).max, (200, 150)).astype(kind)
    np.testing.assert_array_equal(read_mask(encoded(Image.fromarray(want), "TIFF", compression=compression)), want)


def test_tiffs_that_are_no_label_maps():
    want = labels(8).astype(np.uint8)
    three = np.repeat(want, 3, axis=2)
    for data, reason in [
        (tiff(want, 0), "zero is white"),
        (tiff(three, 2), "RGB|photometric interpretation 2 colours"),
        (tiff(np.repeat(want, 2, axis=2), 1, extra=(2,)), "2 x .* colours"),
        (tiff(want.astype(np.float32)), "float"),
        (tiff(want.astype(np.float64)), "float"),
        (tiff(want.astype(np.uint64)), "64 bits"),
        (tiff(np.full((3, 3, 1), 2**31, np.uint32)), "2147483648 is above"),
        (tiff(want, None), "photometric interpretation None"),
        (tiff(want, pages=(0,)), "1 further pictures"),
        (tiff(want, pages=(1, 2)), "1 further pictures"),
        (tiff(want, tags={274: (6,)}), r"orientation \(6\)"),
        (tiff(want, tags={266: (2,)}), "bit order 2"),
        (tiff(want, compression=8, tags={317: (3,)}), "predictor 3"),
        (tiff(want, tags={259: (50000,)}), "compression 50000"),
        (tiff(want, tags={254: (1,)}), "preview"),
        (tiff(want, tags={50706: (1,)}), "preview"),
        (encoded(Image.fromarray(want[..., 0]), "TIFF", compression="jpeg"), "lossy"),
        (encoded(Image.fromarray(want[..., 0] > 99), "TIFF", compression="group4"), "compression 4|zero is white"),
    ]:
        refused(data, reason)
    np.testing.assert_array_equal(read_mask(tiff(want, pages=(1, 4))), want[..., 0])  # GeoTIFF's overviews and masks


def test_tiffs_that_are_cut_or_contradict_themselves():
    want = labels(8).astype(np.uint8)
    good = tiff(want, strip_rows=5, compression=8)
    refused(good[:20], "damaged")
    refused(good[:-9], "damaged")
    for tags in (
        {257: (24,), 278: (5,)},  # one row more than there is
        {257: (2**31,)},
        {279: (1,) * 5},
        {279: (2**31,) * 5},
        {273: (10**6,) * 5},
        {273: (8,) * 4},
        {256: (0,)},
        {278: (0,)},
        {258: (8, 8)},
        {277: (1, 1)},
        {322: (16,), 323: (2**30,)},
    ):
        refused(tiff(want, strip_rows=5, compression=8, tags=tags), "damaged|samples have|more than the limit")
    flipped = bytearray(good)
    flipped[20] ^= 1
    refused(bytes(flipped), "damaged")
    refused(tiff(want, tags={279: (want.size - 1,)}), "damaged")


def test_pgm_is_not_scaled_by_its_largest_value():
    want = RNG.integers(0, 21, (23, 29))
    numbers = " ".join(map(str, want.ravel().tolist())).encode()
    np.testing.assert_array_equal(read_mask(b"P5\n29 23\n20\n" + want.astype(np.uint8).tobytes()), want)
    np.testing.assert_array_equal(read_mask(b"P5 # size\n29 23 20\n" + want.astype(np.uint8).tobytes()), want)
    np.testing.assert_array_equal(read_mask(b"P2\n29 23\n20\n" + numbers), want)
    wide = RNG.integers(0, 848, (23, 29))
    np.testing.assert_array_equal(read_mask(b"P5\n29 23\n847\n" + wide.astype(">u2").tobytes()), wide)
    for data, reason in [
        (b"P5\n29 23\n20\n" + want.astype(np.uint8).tobytes()[:-1], "damaged or truncated"),
        (b"P5\n29 23\n20\n" + want.astype(np.uint8).tobytes() + b"P5", "more data"),
        (b"P5\n29 23\n19\n" + want.astype(np.uint8).tobytes(), "value of 20"),
        (b"P2\n29 23\n20\n" + numbers[:-3], "truncated"),
        (b"P2\n29 23\n20\n" + numbers + b" 3", "more data"),
        (b"P2\n29 23\n20\n-" + numbers, "something else"),
        (b"P2\n1 1\n20\n" + b"9" * 30, "value of"),
        (b"P6\n1 1\n255\nabc", "RGB colours"),
        (b"P4\n8 1\na", "1 is black"),
        (b"P1\n2 1\n01", "1 is black"),
        (b"P5\n29\n", "damaged header"),
        (b"P5\n0 9\n255\n", "damaged header"),
        (b"P5\n9 9\n70000\n", "damaged header"),
    ]:
        refused(data, reason)


def test_formats_that_do_not_keep_labels():
    grey = Image.fromarray(labels(8)[..., 0].astype(np.uint8))
    for kind, options, reason in [
        ("GIF", {}, "renumber"),
        ("JPEG", {}, "lossy"),
        ("WEBP", {"lossless": True}, "WebP"),
        ("JPEG2000", {"irreversible": False}, "JPEG 2000"),
    ]:
        assert "save label maps as PNG" in refused(encoded(grey, kind, **options), reason)
    refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC is lossy")
    refused(b"\0\0\0\x1cftypavif\0\0\0\0mif1avif", "AVIF is lossy")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_refused_with_advice(mode):
    image = Image.fromarray(labels(8)[..., 0].astype(np.uint8)).convert(mode)
    for kind in ("PNG", "TIFF"):
        refused(encoded(image, kind), "class indices first")


def test_animations_and_orientations_are_refused():
    first, second = (Image.fromarray(labels(8)[..., 0].astype(np.uint8)) for _ in range(2))
    refused(encoded(first, "PNG", save_all=True, append_images=[second]), "animation")
    exif = Image.Exif()
    exif[0x0112] = 6
    refused(encoded(first, "PNG", exif=exif), r"orientation \(6\)")
    exif[0x0112] = 1
    np.testing.assert_array_equal(read_mask(encoded(first, "PNG", exif=exif)), np.asarray(first))


# ------------------------------------------------------------------------------------------------------------ writing
@pytest.mark.parametrize("suffix", [*LABEL_SUFFIXES, ".PNG"])
@pytest.mark.parametrize("classes", [21, 256, 257, 847])
def test_written_labels_come_back(tmp_path, suffix, classes):
    want = RNG.integers(0, classes, (23, 29)).astype(np.uint16)
    result = SegmentationResult(want, tuple(f"class {i}" for i in range(classes)), np.zeros((23, 29, 3), np.uint8))
    result.save_labels(tmp_path / f"new/labels{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"new/labels{suffix}"), want)
    write_labels(tmp_path / f"again{suffix}", want)
    np.testing.assert_array_equal(read_mask(tmp_path / f"again{suffix}"), want)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".gif", ".jp2", ".avif", ".pdf", ".bmp", ".npy", ""])
def test_labels_are_not_written_where_they_would_change(tmp_path, suffix):
    result = SegmentationResult(np.zeros((4, 5), np.uint16), ("cat",), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"do not keep them exactly; use .png"):
        result.save_labels(tmp_path / f"labels{suffix}")
    with pytest.raises(ValueError, match=r"do not keep them exactly"):
        write_labels(tmp_path / f"labels{suffix}", result.labels)
    assert not list(tmp_path.iterdir())


def test_labels_that_do_not_fit_are_not_wrapped(tmp_path):
    path = tmp_path / "x.png"
    for array, classes, reason in [
        (np.array([[256]], np.uint16), 21, r"256\.\.256"),
        (np.array([[-1]], np.int32), 21, r"-1\.\.-1"),
        (np.array([[65536]], np.int64), 847, "65536"),
        (np.array([[0.5]]), 21, "integers"),
        (np.array([[True]]), 21, "integers"),
        (np.zeros((2, 2, 3), np.uint8), 21, "integers"),
        (np.zeros((0, 2), np.uint8), 21, "integers"),
        (np.array([[1]], np.int32), None, "uint8 or uint16"),
    ]:
        with pytest.raises(ValueError, match=reason):
            write_labels(path, array, classes)
    assert not path.exists()


def test_labels_in_colours_for_converters():
    colours = RNG.integers(0, 256, (23, 29, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(colours), "PNG")
    np.testing.assert_array_equal(read_colour_mask(whole), colours)
    key = chunk(b"tRNS", struct.pack(">HHH", *colours[0, 0].tolist()))
    np.testing.assert_array_equal(read_colour_mask(png(colours, 8, 2, before=key)), colours)  # not made white
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    refused(bytes(flipped), "damaged", read_colour_mask)
    refused(encoded(Image.fromarray(colours), "JPEG"), "no PNG file", read_colour_mask)
    refused(encoded(Image.fromarray(colours).convert("RGBA"), "PNG"), "8-bit RGB", read_colour_mask)
