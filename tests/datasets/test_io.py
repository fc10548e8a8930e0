"""Reading photos and masks: same pixels as the official pipeline, every odd kind of file, every way to be broken."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from ovseg.datasets import ImageReadError, MaskReadError, read_image, read_mask
from ovseg.datasets.io import IMAGE_FORMATS, _orient
from tests.datasets.fixtures import photo

RNG = np.random.default_rng(0)
RGB = photo(RNG, (37, 53))
GREY = RGB[..., 0].copy()


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("array", [RGB, GREY], ids=["rgb", "grey"])
def test_ordinary_files_have_the_pixels_of_cv2(tmp_path, kind, array):
    path = tmp_path / f"x.{kind.lower()}"
    Image.fromarray(array).save(path, kind)
    ours = read_image(path)
    assert ours.dtype == np.uint8 and ours.flags.c_contiguous
    np.testing.assert_array_equal(ours, cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])
    np.testing.assert_array_equal(read_image(path.read_bytes()), ours)


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0, "quality": 95}, {"optimize": True}])
def test_jpeg_variants_have_the_pixels_of_cv2(options):
    data = encoded(Image.fromarray(RGB), "JPEG", **options)
    np.testing.assert_array_equal(read_image(data), cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1])


def test_real_photos_have_the_pixels_of_cv2(shared_data):
    for path in sorted((shared_data / "real_mini/coco100/images").glob("*.jpg"))[:5]:
        np.testing.assert_array_equal(read_image(path), cv2.imread(str(path))[..., ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_cv2_does(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), "JPEG", exif=exif)
    ours = read_image(data)
    np.testing.assert_array_equal(ours, cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1])
    assert ours.shape[:2] == ((53, 37) if orientation >= 5 else (37, 53))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_16_bit_tiff_is_applied_once(orientation):
    grey = Image.fromarray(GREY.astype(np.uint16) * 257)
    ours = read_image(encoded(grey, "TIFF", tiffinfo={0x0112: orientation}))
    np.testing.assert_array_equal(ours[..., 0], _orient(GREY[..., None], orientation)[..., 0])


def test_pictures_beyond_pillows_own_limit_are_read(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # 37 x 53 is more than twice that
    for kind in ("PNG", "TIFF", "JPEG"):
        assert read_image(encoded(Image.fromarray(RGB), kind)).shape == RGB.shape
    assert Image.MAX_IMAGE_PIXELS == 400


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_label_maps_beyond_a_limit_are_refused_before_they_are_decoded(tmp_path, monkeypatch, kind):
    (tmp_path / "mask").write_bytes(encoded(Image.fromarray(GREY), kind))
    with pytest.raises(MaskReadError, match="53 x 37 pixels are more than the limit 100"):
        read_mask(tmp_path / "mask", max_pixels=100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask"), GREY)


def test_exif_orientation_of_a_small_example():
    array = np.arange(6).reshape(2, 3, 1)
    np.testing.assert_array_equal(_orient(array, 6)[..., 0], [[3, 0], [4, 1], [5, 2]])  # turned clockwise


def test_palette_and_one_bit():
    image = Image.fromarray(RGB).quantize(16)
    np.testing.assert_array_equal(read_image(encoded(image, "PNG")), np.asarray(image.convert("RGB")))
    one_bit = Image.fromarray(GREY > 128)
    assert set(np.unique(read_image(encoded(one_bit, "PNG")))) == {0, 255}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_composited_on_white(kind):
    alpha = np.full((37, 53, 1), 255, np.uint8)
    alpha[:10] = 0
    alpha[10:20] = 128
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    ours = read_image(encoded(Image.fromarray(np.dstack([RGB, alpha])), kind, **options))
    assert (ours[:10] == 255).all()
    np.testing.assert_array_equal(ours[20:], RGB[20:])
    np.testing.assert_allclose(ours[10:20], RGB[10:20] * (128 / 255) + 255 * (127 / 255), atol=1)


def test_transparent_palette_entry_is_white():
    image = Image.fromarray(GREY).convert("P")
    index = image.getpixel((0, 0))
    ours = read_image(encoded(image, "PNG", transparency=index))
    assert (ours[np.asarray(image) == index] == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_cut(kind):
    values = np.linspace(0, 65535, 37 * 53).astype(np.uint16).reshape(37, 53)
    ours = read_image(encoded(Image.fromarray(values), kind))
    expected = np.round(values * (255 / 65535)).astype(np.uint8)
    np.testing.assert_array_equal(ours, np.dstack([expected] * 3))


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour(channels):
    colours = RNG.integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    ours = read_image(cv2.imencode(".png", colours)[1].tobytes())
    rgb = colours[..., 2::-1] * (255 / 65535)
    alpha = colours[..., 3:] / 65535 if channels == 4 else 1.0
    np.testing.assert_allclose(ours, rgb * alpha + 255 * (1 - alpha), atol=0.51)


def test_cmyk_with_and_without_adobe_marker():
    red = Image.new("CMYK", (20, 10), (0, 255, 255, 0))
    data = encoded(red, "JPEG", quality=100)
    np.testing.assert_allclose(read_image(data)[5, 5], [255, 0, 0], atol=3)  # Pillow writes it inverted, with a marker
    start = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[start + 2 : start + 4])[0]
    without = data[:start] + data[start + 2 + length :]
    np.testing.assert_allclose(
        read_image(without)[5, 5], [0, 0, 0], atol=3
    )  # same numbers, taken as ink: c + k = black
    assert read_image(encoded(red, "TIFF"))[5, 5].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "lime")]
    data = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert read_image(data)[0, 0].tolist() == [255, 0, 0]


def test_one_pixel():
    np.testing.assert_array_equal(read_image(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")), [[[1, 2, 3]]])


def broken_files():
    jpeg, png = encoded(Image.fromarray(RGB), "JPEG"), encoded(Image.fromarray(RGB), "PNG")
    thumbnail = Image.Exif()
    thumbnail[0x010E] = "x" * 50
    with_exif = encoded(Image.fromarray(RGB), "JPEG", exif=thumbnail)
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 0xFF
    floats = encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF")
    return {
        "empty": (b"", "empty"),
        "text": (b"<html>not found</html>", "not a picture"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        "cut jpeg": (jpeg[:-50], "truncated"),
        "cut jpeg with exif": (with_exif[:-200], "truncated"),
        "jpeg header only": (jpeg[:200], "damaged header"),
        "cut png": (png[: len(png) // 2], "damaged or truncated"),
        "damaged png": (bytes(damaged), "damaged or truncated"),
        "cut gif": (encoded(Image.fromarray(GREY), "GIF")[:900], "damaged or truncated"),
        "cut webp": (encoded(Image.fromarray(RGB), "WEBP")[:100], "damaged|not a picture"),
        "cut tiff": (encoded(Image.fromarray(RGB), "TIFF")[:500], "damaged|not a picture"),
        "floats": (floats, "float"),
    }


@pytest.mark.parametrize("case", broken_files())
def test_broken_files_give_one_error_with_path_and_reason(tmp_path, case):
    data, reason = broken_files()[case]
    path = tmp_path / "broken.bin"
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF"]


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind in IMAGE_FORMATS])
def test_damaged_files_never_raise_anything_else(kind):
    whole = encoded(Image.fromarray(RGB), kind)
    rng = np.random.default_rng(7)
    for _ in range(60):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else whole)
        for position in rng.integers(0, len(data), rng.integers(1, 20)):
            data[position] = rng.integers(256)
        try:
            image = read_image(bytes(data), max_pixels=10**6)
        except ImageReadError:
            continue
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def test_damaged_exif_does_not_hide_the_photo():
    data = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(data).shape == RGB.shape


@pytest.mark.parametrize("where, reason", [("nowhere.jpg", "no such file"), (".", "directory"), ("a\0b", "null")])
def test_paths_that_cannot_be_read(tmp_path, where, reason):
    with pytest.raises(ImageReadError, match=reason):
        read_image(str(tmp_path / where))


def test_size_limit_is_checked_before_decoding(tmp_path):
    # the header says 30,000 x 30,000; there are no pixels behind it
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ImageReadError, match="30000 x 30000 is 900,000,000 pixels, the limit is 268,435,456"):
        read_image(header + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    with pytest.raises(ImageReadError, match="max_pixels"):
        read_image(encoded(Image.fromarray(RGB), "PNG"), max_pixels=100)


def test_the_error_survives_a_worker_process():
    import pickle

    error = pickle.loads(pickle.dumps(ImageReadError("a.jpg", "empty")))
    assert str(error) == "cannot read image a.jpg: empty"


# ------------------------------------------------------------------------------------------------------------- masks
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_mask_keeps_labels_above_255(tmp_path, suffix):
    labels = RNG.integers(0, 847, (20, 30)).astype(np.uint16)
    labels[0, 0] = 65535
    Image.fromarray(labels).save(tmp_path / f"m.{suffix}")
    ours = read_mask(tmp_path / f"m.{suffix}")
    assert ours.dtype == np.int32
    np.testing.assert_array_equal(ours, labels)


def test_palette_mask_gives_indices_not_colours(tmp_path):
    labels = RNG.integers(0, 21, (20, 30)).astype(np.uint8)
    image = Image.fromarray(labels, "L").convert("P")
    image.putdata(labels.ravel())
    image.putpalette(RNG.integers(0, 256, 768).astype(np.uint8).tobytes())
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), labels)


def test_masks_that_cannot_be_used(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "colours.png")
    Image.fromarray(GREY).save(tmp_path / "lossy.png", "JPEG")
    data = encoded(Image.fromarray(GREY), "PNG")
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    for name, reason in [
        ("colours.png", "class indices"),
        ("lossy.png", "lossy"),
        ("cut.png", "damaged or truncated"),
        ("missing.png", "no such file"),
    ]:
        with pytest.raises(MaskReadError, match=reason) as caught:
            read_mask(tmp_path / name)
        assert name in str(caught.value)
