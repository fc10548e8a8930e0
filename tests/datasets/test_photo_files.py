"""Photos of odd layouts, damaged and special files: the right pixels at every read, or an error; bounded memory."""

import io
import os
import socket
import struct
import subprocess
import sys
import textwrap
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from ovseg.datasets import ImageReadError, MaskReadError, read_image, read_mask
from tests.datasets.encoders import chunk, png, tiff
from tests.datasets.fixtures import photo

RNG = np.random.default_rng(0)
RGB = photo(RNG, (23, 29))
WIDE = RNG.integers(0, 65536, (23, 29, 4), dtype=np.uint16)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refused(data, reason):
    with pytest.raises(ImageReadError, match=reason) as caught:
        read_image(data)
    return str(caught.value)


def to_8(values):
    return np.round(values * (255 / 65535)).astype(np.uint8)


# --------------------------------------------------------------------------------------------------------------- TIFF
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(order=">"),
        dict(big=True),
        dict(planar=2),
        dict(planar=2, order=">", compression=8, predictor=2, strip_rows=4),
        dict(planar=2, tile=(16, 16)),
        dict(planar=2, compression=5, strip_rows=4),
        dict(tile=(16, 32), compression=8, predictor=2),
        dict(compression=5, predictor=2, order=">"),
        dict(compression=32773, strip_rows=7),
    ],
    ids=str,
)
def test_tiff_of_all_layouts(options):
    np.testing.assert_array_equal(read_image(tiff(RGB, 2, **options)), RGB)
    np.testing.assert_array_equal(read_image(tiff(WIDE[..., :3], 2, **options)), to_8(WIDE[..., :3]))
    np.testing.assert_array_equal(read_image(tiff(WIDE[..., :1], 1, **options)), to_8(WIDE[..., [0, 0, 0]]))
    np.testing.assert_array_equal(read_image(tiff(WIDE[..., :1], 0, **options)), to_8(65535 - WIDE[..., [0, 0, 0]]))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_fourth_band_is_alpha_only_where_the_file_says_so(kind):
    bands = WIDE.astype(kind)
    most = np.iinfo(kind).max
    colour, alpha = bands[..., :3] / most, bands[..., 3:] / most
    near_infrared = read_image(tiff(bands, 2, extra=(0,)))
    np.testing.assert_allclose(near_infrared, colour * 255, atol=0.51)
    straight = read_image(tiff(bands, 2, extra=(2,)))
    np.testing.assert_allclose(straight, (colour * alpha + 1 - alpha) * 255, atol=1 if kind == np.uint8 else 0.51)
    shown = np.minimum(bands[..., :3], bands[..., 3:])  # premultiplied colours are at most their alpha
    premultiplied = read_image(tiff(np.dstack([shown, bands[..., 3]]), 2, extra=(1,)))
    np.testing.assert_allclose(premultiplied, (shown / most + 1 - alpha) * 255, atol=0.51)
    grey = read_image(tiff(bands[..., [0, 3]], 1, extra=(2,)))
    np.testing.assert_allclose(grey[..., 1], ((colour * alpha + 1 - alpha) * 255)[..., 0], atol=1)
    for samples, photometric in ((bands, 2), (np.dstack([bands, bands]), 2), (bands[..., :2], 1), (bands, 1)):
        refused(tiff(samples, photometric), "does not say what they are")
    refused(tiff(np.dstack([bands, bands[..., :1]]), 2, extra=(0, 2)), "extra samples are")
    refused(tiff(np.dstack([bands, bands[..., :1]]), 2, extra=(2, 2)), "extra samples are")
    five = np.dstack([bands, bands[..., :1]])
    np.testing.assert_allclose(read_image(tiff(five, 2, extra=(0, 0))), colour * 255, atol=0.51)


def test_cmyk_tiff_has_no_alpha():
    want = read_image(tiff(WIDE.astype(np.uint8), 5))
    np.testing.assert_array_equal(want, np.asarray(Image.fromarray(WIDE.astype(np.uint8), "CMYK").convert("RGB")))
    np.testing.assert_array_equal(read_image(tiff(WIDE.astype(np.uint8).astype(np.uint16) * 257, 5)), want)
    refused(tiff(WIDE, 5, tags={332: (2,)}), "convert it to RGB")


def test_tiffs_whose_colours_are_not_known():
    for data, reason in [
        (tiff(RGB, 6), "YCbCr"),
        (tiff(RGB, 8), "CIELab"),
        (tiff(RGB[..., :1], 32803), "raw pattern"),
        (tiff(RGB, None), "interpretation None"),
        (tiff(RGB[..., :2], 2), "2 samples"),
        (tiff(RGB.astype(np.int16), 2), "signed"),
        (tiff(RGB.astype(np.float16), 2), "float"),
        (tiff(RGB.astype(np.uint32), 2), "32 bits"),
        (tiff(RGB[..., :1], 3), "palette"),
        (tiff(RGB, 2, tags={258: (8, 8, 16)}), "3 samples have"),
        (tiff(RGB, 2, tags={254: (1,)}), "preview"),
        (tiff(RGB, 2, tags={259: (34712,)}), "compression 34712"),
        (tiff(RGB, 2, tags={259: (7,)}), "damaged|truncated"),
    ]:
        refused(data, reason)
    np.testing.assert_array_equal(read_image(tiff(RGB, 2, pages=(0, 0))), RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_orientation_of_a_tiff(kind, orientation):
    scale = 257 if kind == np.uint16 else 1
    ours = read_image(tiff(RGB.astype(kind) * scale, 2, tags={274: (orientation,)}))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(ours, read_image(encoded(Image.fromarray(RGB), "PNG", exif=exif)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_and_few_bits_in_tiff(bits):
    indices = RNG.integers(0, 1 << bits, (23, 29, 1), dtype=np.uint8)
    colours = RNG.integers(0, 256, (1 << bits, 3))
    colours[0] = 255
    for scale in (1, 257, 256):
        data = tiff(indices, 3, bits=bits, tags={320: tuple((colours * scale).T.ravel().tolist())})
        np.testing.assert_array_equal(read_image(data), colours[indices[..., 0]])
    stretched = np.round(indices * (255 / ((1 << bits) - 1)))
    np.testing.assert_array_equal(read_image(tiff(indices, 1, bits=bits))[..., :1], stretched)
    np.testing.assert_array_equal(read_image(tiff(indices, 0, bits=bits))[..., :1], 255 - stretched)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax_tiff_is_refused(compression):
    """libtiff leaves the rows that damaged fax data do not reach as the memory was."""
    data = encoded(Image.fromarray(RGB[..., 0] > 128), "TIFF", compression=compression)
    with pytest.raises(ImageReadError, match=r"fax compression \(CCITT\) is not read; save it with deflate"):
        read_image(data)


@pytest.mark.parametrize("rows", [8, 16, 4096])
@pytest.mark.parametrize("picture", [RGB, RGB[..., 0]], ids=["rgb", "grey"])
def test_jpeg_tiff(picture, rows):
    data = encoded(Image.fromarray(picture), "TIFF", compression="jpeg", quality=95, tiffinfo={278: rows})
    want = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(read_image(data), want)
    np.testing.assert_allclose(read_image(data).mean(), picture.mean(), atol=2)


@pytest.mark.parametrize("photometric", ["ycbcr", "rgb"])
def test_tiled_jpeg_tiff(photometric, tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="the extra `geo` is not installed")
    y, x = np.mgrid[:70, :90]
    picture = np.dstack([x * 2, y * 3, (x + y) % 200]).astype(np.uint8)
    layout = dict(driver="GTiff", height=70, width=90, count=3, dtype="uint8", tiled=True, blockxsize=32, blockysize=32)
    with rasterio.open(tmp_path / "a.tif", "w", compress="jpeg", photometric=photometric, **layout) as file:
        file.write(picture.transpose(2, 0, 1))
    with Image.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.asarray(file.convert("RGB")))


def test_jpeg_tiff_whose_data_end_early_gives_the_same_at_every_read():
    """libtiff gave other pixels at every read: those of the memory."""
    data = bytearray(encoded(Image.fromarray(RGB), "TIFF", compression="jpeg", quality=95))
    end = data.index(b"\xff\xda") + 40
    data[end : end + 2] = b"\xff\xd9"
    reads = []
    for value in range(4):
        np.full(2**20, value * 60, np.uint8)
        np.full(RGB.size, value * 60, np.uint8)
        reads.append(read_image(bytes(data)))
    assert all(np.array_equal(one, reads[0]) for one in reads)


# ---------------------------------------------------------------------------------------------------------------- PNG
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth, colour", [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 4), (16, 4),
                                           (8, 6), (16, 6), (1, 3), (2, 3), (4, 3), (8, 3)])  # fmt: skip
def test_png_of_all_kinds(depth, colour, interlaced):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    samples = WIDE[..., :channels] >> (16 - depth)
    palette = RNG.integers(0, 256, (1 << depth, 3)) if colour == 3 else None
    ours = read_image(png(samples, depth, colour, palette, interlaced)).astype(float)
    if colour == 3:
        np.testing.assert_array_equal(ours, palette[samples[..., 0]])
        return
    parts = samples / ((1 << depth) - 1)
    alpha = parts[..., -1:] if colour in (4, 6) else np.ones(1)
    colours = np.broadcast_to(parts[..., : 3 if channels > 2 else 1], ours.shape)
    np.testing.assert_allclose(ours, (colours * alpha + 1 - alpha) * 255, atol=1 if colour in (4, 6) else 0.51)


@pytest.mark.parametrize("depth, colour", [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)])
def test_a_transparent_colour_is_white(depth, colour):
    samples = WIDE[..., : 3 if colour else 1] >> (16 - depth)
    key = samples[11, 13]
    transparent = chunk(b"tRNS", b"".join(struct.pack(">H", int(v)) for v in key))
    ours = read_image(png(samples, depth, colour, before=transparent))
    without = read_image(png(samples, depth, colour))
    gone = (samples == key).all(axis=2)
    assert gone.any() and (ours[gone] == 255).all()
    np.testing.assert_array_equal(ours[~gone], without[~gone])


def test_a_damaged_animation_does_not_touch_the_first_picture():
    frames = [Image.fromarray(photo(RNG, (40, 50))) for _ in range(4)]
    whole = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=50)
    np.testing.assert_array_equal(read_image(whole), np.asarray(frames[0]))
    start = whole.index(b"fdAT")
    for _ in range(20):
        data = bytearray(whole)
        length = int.from_bytes(data[start - 4 : start], "big")
        for place in RNG.integers(start + 8, start + 4 + length, 5):
            data[place] = RNG.integers(256)
        data[start + 4 + length : start + 8 + length] = zlib.crc32(data[start : start + 4 + length]).to_bytes(4, "big")
        np.testing.assert_array_equal(read_image(bytes(data)), np.asarray(frames[0]))


@pytest.mark.parametrize("depth, colour", [(8, 2), (8, 6), (16, 2), (16, 6)])
@pytest.mark.parametrize("frame", [(5, 4, 0, 0), (29, 4, 0, 9), (29, 23, 7, 0), (0, 0, 0, 0), (2**31, 9, 0, 0)])
def test_an_animation_whose_first_frame_is_not_the_picture(depth, colour, frame):
    # OpenCV leaves what such a frame does not cover as the memory was
    samples = WIDE[..., : 3 if colour == 2 else 4] >> (16 - depth)
    still = read_image(png(samples, depth, colour))
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    control += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, *frame, 1, 25, 0, 0))
    moving = png(samples, depth, colour, before=control)
    for junk in (3, 200):
        np.full(samples.size * 2, junk, np.uint8)
        np.testing.assert_array_equal(read_image(moving), still)


def test_chunks_that_are_no_pixels_change_nothing():
    want = read_image(png(RGB, 8, 2))
    np.testing.assert_array_equal(want, RGB)
    for more in (chunk(b"gAMA", struct.pack(">I", 100000)), chunk(b"bKGD", bytes(6)), chunk(b"sBIT", b"\5\5\5")):
        np.testing.assert_array_equal(read_image(png(RGB, 8, 2, before=more)), want)
        np.testing.assert_array_equal(read_image(png(WIDE, 16, 6, before=more)), read_image(png(WIDE, 16, 6)))


# --------------------------------------------------------------------------------------------------- the other formats
def test_netpbm():
    text = " ".join(map(str, RGB.ravel().tolist())).encode()
    np.testing.assert_array_equal(read_image(b"P6\n29 23\n255\n" + RGB.tobytes()), RGB)
    np.testing.assert_array_equal(read_image(b"P3\n29 23\n255\n" + text), RGB)
    colours = WIDE[..., :3]
    np.testing.assert_array_equal(read_image(b"P6 29 23 65535\n" + colours.astype(">u2").tobytes()), to_8(colours))
    few = RGB[..., 0] // 2
    ours = read_image(b"P5 29 23 127\n" + few.tobytes())
    np.testing.assert_array_equal(ours[..., 0], np.round(few * (255 / 127)))
    black = RNG.integers(0, 2, (23, 29), dtype=np.uint8)
    bits = np.packbits(black, axis=1).tobytes()
    np.testing.assert_array_equal(read_image(b"P4 29 23\n" + bits)[..., 0], 255 - 255 * black)
    digits = "".join(map(str, black.ravel().tolist())).encode()
    np.testing.assert_array_equal(read_image(b"P1 29 23\n" + digits)[..., 0], 255 - 255 * black)
    np.testing.assert_array_equal(read_image(b"P6\n29 23\n255\n" + RGB.tobytes() + b"P6 ..."), RGB)  # the first of two
    refused(b"P6\n29 23\n255\n" + RGB.tobytes()[:-1], "damaged or truncated")
    refused(b"P5 2 2 3\n\1\2\3\4", "value of 4")


def test_jpeg_2000_of_more_than_8_bits_is_not_cut():
    wide = Image.fromarray(WIDE[..., 0])
    refused(encoded(wide, "JPEG2000"), "other than 8 bits")
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(RGB), "JPEG2000")), RGB)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(RGB), "JPEG2000", no_jp2=True)), RGB)


def test_heic_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brands in (b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic", b"heix\0\0\0\0mif1miaf"):
        refused(b"\0\0\0\x18ftyp" + brands + bytes(99), "HEIC photos need pillow-heif: pip install pillow-heif")


def test_heic_is_read_where_pillow_heif_is_installed():
    heif = pytest.importorskip("pillow_heif", reason="optional package pillow-heif is not installed")
    heif.register_heif_opener()
    flat = np.full((64, 96, 3), (200, 60, 40), np.uint8)
    data = encoded(Image.fromarray(flat), "HEIF", quality=95)
    ours = read_image(data)
    assert ours.shape == (64, 96, 3)
    np.testing.assert_allclose(ours.reshape(-1, 3).mean(0), (200, 60, 40), atol=4)
    refused(data[: len(data) // 2], "damaged|truncated")


@pytest.mark.parametrize("start, name", [(b"\xff\x0a", "JPEG XL"), (b"%PDF-1.7", "PDF"), (b"8BPS\0\1", "PSD")])
def test_other_formats_are_named(start, name):
    refused(start + bytes(60), f"it is .*{name}")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "BMP", "JPEG"])
def test_leave_to_read_truncated_files_is_not_taken(monkeypatch, kind):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = encoded(Image.fromarray(RGB), kind)
    refused(whole[: len(whole) * 2 // 3], "damaged|truncated|not a picture")


def test_all_ordinary_kinds_of_photos_are_read(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    grey, colour = Image.fromarray(RGB[..., 0]), Image.fromarray(RGB)
    for name, image, options, shape in [
        ("grey.jpg", grey, {}, (23, 29)),
        ("cmyk.jpg", colour.convert("CMYK"), {}, (23, 29)),
        ("wide.png", Image.fromarray(WIDE[..., 0]), {}, (23, 29)),
        ("alpha.png", colour.convert("RGBA"), {}, (23, 29)),
        ("alpha.webp", colour.convert("RGBA"), {}, (23, 29)),
        ("turned.jpg", colour, {"exif": exif}, (29, 23)),
        ("pixel.png", Image.new("RGB", (1, 1)), {}, (1, 1)),
        ("pixel.jpg", Image.new("L", (1, 1)), {}, (1, 1)),
        ("long.png", Image.new("RGB", (20_000, 30)), {}, (30, 20_000)),
        ("long.jpg", Image.new("RGB", (20_000, 30)), {}, (30, 20_000)),
        ("long.tif", Image.new("RGB", (20_000, 30)), {"compression": "tiff_lzw"}, (30, 20_000)),
        ("palette.gif", colour.convert("P"), {}, (23, 29)),
        ("small.bmp", colour, {}, (23, 29)),
    ]:
        image.save(tmp_path / name, **options)
        first, second = read_image(tmp_path / name), read_image(str(tmp_path / name))
        assert first.shape == (*shape, 3) and first.flags.c_contiguous, name
        np.testing.assert_array_equal(first, second)


# --------------------------------------------------------------------------------------------- special and large files
def special(folder, kind):
    path = folder / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a pipe":
        os.mkfifo(folder / "pipe")
        path.symlink_to("pipe")
    elif kind == "link to itself":
        path.symlink_to(kind)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        return f"/dev/{kind}"
    return path


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("pipe", "named pipe"),
        ("socket", "a socket"),
        ("folder", "a directory"),
        ("link to a pipe", "named pipe"),
        ("link to itself", "symbolic links"),
        ("dangling link", "does not exist"),
        ("zero", "a device"),
        ("null", "a device"),
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, monkeypatch, kind, reason):
    monkeypatch.chdir(tmp_path)
    path = special(tmp_path, kind)
    with pytest.raises(ImageReadError, match=reason):
        read_image(path)
    with pytest.raises(MaskReadError, match=reason):
        read_mask(path)


def test_no_handle_stays_open(tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(RGB).save(good)
    bad.write_bytes(good.read_bytes()[:-20])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read_image(good)
        with pytest.raises(ImageReadError):
            read_image(bad)
        with pytest.raises(MaskReadError):
            read_mask(good)
    assert len(os.listdir("/proc/self/fd")) == before


def in_process(code, memory, timeout=120):
    """What ``code`` prints, run with at most ``memory`` bytes above what the imports take."""
    head = f"""
    import resource, sys
    import numpy as np
    from ovseg.datasets import ImageReadError, MaskReadError, read_image, read_mask
    start = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (start + {memory},) * 2)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


STARTS = {
    "PNG": png(RGB, 8, 2)[:-12] + struct.pack(">I", 3 * 2**30)[:4] + b"tEXt",
    "JPEG": encoded(Image.fromarray(RGB), "JPEG"),
    "TIFF": tiff(RGB, 2),
    "WEBP": encoded(Image.fromarray(RGB), "WEBP"),
    "GIF": encoded(Image.fromarray(RGB), "GIF"),
    "BMP": encoded(Image.fromarray(RGB), "BMP"),
    "PPM": b"P6\n29 23\n255\n" + RGB.tobytes(),
    "P3": b"P3\n29 23\n255\n" + b"0 " * 9,
    "nothing": b"",
    "large header": struct.pack(">8sI4sIIBBBBB", b"\x89PNG\r\n\x1a\n", 13, b"IHDR", 30000, 30000, 8, 2, 0, 0, 0)
    + struct.pack(">I", zlib.crc32(struct.pack(">4sIIBBBBB", b"IHDR", 30000, 30000, 8, 2, 0, 0, 0))),
}


def test_files_of_3_gb_are_not_read_whole(tmp_path):
    for name, start in STARTS.items():
        with open(tmp_path / name, "wb") as file:
            file.write(start)
            file.truncate(3 * 2**30)  # a sparse file: takes no room
    code = f"""
    import pathlib
    for path in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()):
        for reader, error in ((read_image, ImageReadError), (read_mask, MaskReadError)):
            try:
                reader(path)
            except error as caught:
                print(path.name, reader.__name__, caught.reason)
            else:
                print(path.name, reader.__name__, "read")
    """
    lines = in_process(code, 2**28).splitlines()
    assert len(lines) == 2 * len(STARTS)
    read = {line.split()[0] for line in lines if line.endswith(" read")}
    assert read <= {"TIFF", "GIF", "BMP", "PPM"}  # which are read piece by piece: what follows the picture is not
    assert not any("MemoryError" in line for line in lines)


def test_memory_of_a_16_bit_photo_is_bounded(tmp_path):
    row = np.arange(3000 * 3, dtype=np.uint16).reshape(1, 3000, 3) * 3
    samples = np.broadcast_to(row, (3000, 3000, 3))
    cv2.imwrite(str(tmp_path / "x.png"), samples[..., ::-1].copy())
    (tmp_path / "x.tif").write_bytes(tiff(samples, 2, compression=8, strip_rows=250))
    # 54 MB of samples, 27 MB of result, the file and bands of 4 million pixels; a float64 copy alone would be 216 MB
    code = f"print([read_image({str(tmp_path)!r} + '/x.' + kind)[7, 1234].tolist() for kind in ('png', 'tif')])"
    assert in_process(code, 200 * 2**20) == str([to_8(row[0, 1234]).tolist()] * 2)
