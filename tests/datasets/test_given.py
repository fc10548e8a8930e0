"""Pictures as callers hand them over give the pixels of the one reader, or are refused by name."""

import io
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.datasets import read_image
from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.given import as_list, as_rgb

RGB = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
RGBA = np.random.default_rng(1).integers(0, 256, (13, 17, 4), dtype=np.uint8)
GREY = RGB[..., 0]


def same(image, expected=RGB, **options):
    found = as_rgb(image, **options)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pictures() -> dict[str, bytes]:
    """Files of many modes."""
    rgb = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[274] = 6
    palette = rgb.quantize(16)
    return {
        "rgb.png": encoded(rgb, "PNG"),
        "grey.png": encoded(rgb.convert("L"), "PNG"),
        "alpha.png": encoded(Image.fromarray(RGBA), "PNG"),
        "grey_alpha.png": encoded(Image.fromarray(RGBA).convert("LA"), "PNG"),
        "palette.png": encoded(palette, "PNG"),
        "transparent_palette.png": encoded(palette, "PNG", transparency=3),
        "transparent_colour.png": encoded(rgb, "PNG", transparency=tuple(map(int, RGB[0, 0]))),
        "bits.png": encoded(rgb.convert("1"), "PNG"),
        "grey16.png": encoded(Image.fromarray(GREY.astype(np.uint16) * 257 + 100), "PNG"),
        "turned.png": encoded(rgb, "PNG", exif=exif),
        "photo.jpg": encoded(rgb, "JPEG"),
        "grey.jpg": encoded(rgb.convert("L"), "JPEG"),
        "turned.jpg": encoded(rgb, "JPEG", exif=exif),
        "inks.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "inks.tif": encoded(rgb.convert("CMYK"), "TIFF"),
        "photo.tif": encoded(rgb, "TIFF"),
        "turned.tif": encoded(rgb, "TIFF", exif=exif),
        "photo.webp": encoded(rgb, "WEBP", lossless=True),
        "moving.gif": encoded(rgb, "GIF", save_all=True, append_images=[Image.new("RGB", rgb.size)]),
    }


@pytest.mark.parametrize("name", pictures())
def test_all_ways_to_hand_over_a_file(name, tmp_path):
    data = pictures()[name]
    path = tmp_path / name
    path.write_bytes(data)
    expected = read_image(path)
    same(path, expected)
    same(str(path), expected)
    same(data, expected)
    same(bytearray(data), expected)
    same(memoryview(data), expected)
    same(io.BytesIO(data), expected)
    with open(path, "rb") as file:
        same(file, expected)
    with tempfile.SpooledTemporaryFile() as upload:
        upload.write(data)
        upload.seek(0)
        same(upload, expected)
    with Image.open(path) as image:
        same(image, expected)
        same(image, expected)  # and again
    with Image.open(io.BytesIO(data)) as image:
        same(image, expected)


@pytest.mark.parametrize("name", [name for name in pictures() if name != "grey16.png"])
def test_decoded_pillow_images_follow_the_readers_rules(name):
    data = pictures()[name]
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        found, expected = as_rgb(image).astype(int), read_image(data).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= (2 if name.endswith(".jpg") else 0)  # JPEG decoders round differently


def test_pillow_images_that_were_changed_or_made():
    with Image.open(io.BytesIO(pictures()["rgb.png"])) as image:
        image.paste((1, 2, 3), (0, 0, 5, 5))
        assert (as_rgb(image)[:5, :5] == (1, 2, 3)).all()
    same(Image.fromarray(RGB))
    same(Image.fromarray(GREY), np.repeat(GREY[..., None], 3, axis=2))
    sixteen = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert sixteen.mode == "I;16"
    same(sixteen, np.repeat(GREY[..., None], 3, axis=2))
    same(Image.fromarray(RGB).convert("HSV"), np.asarray(Image.fromarray(RGB).convert("HSV").convert("RGB")))
    with Image.open(io.BytesIO(pictures()["moving.gif"])) as image:
        image.seek(1)
        assert not as_rgb(image).any(), "the frame that was asked for"
    with Image.open(io.BytesIO(encoded(Image.new("RGB", (640, 480)), "JPEG"))) as image:
        image.draft("RGB", (160, 120))
        assert as_rgb(image).shape[:2] == image.size[::-1]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pillow_images_without_clear_pixels(mode):
    with pytest.raises(ImageReadError, match=f"Pillow image {mode} 4 x 3"):
        as_rgb(Image.new(mode, (4, 3)))


def test_pillow_images_that_cannot_be_decoded(tmp_path):
    (tmp_path / "cut.png").write_bytes(pictures()["rgb.png"][:-60])
    with Image.open(tmp_path / "cut.png") as image:
        with pytest.raises(ImageReadError, match="cut.png"):
            as_rgb(image)
    image = Image.open(io.BytesIO(pictures()["rgb.png"]))
    image.close()
    with pytest.raises(ImageReadError):
        as_rgb(image)


def test_arrays():
    same(RGB)
    same(RGB[..., ::-1], channel_order="bgr")
    same(RGB[:, ::-1][:, ::-1])  # strides that run backwards
    same(np.asfortranarray(RGB))
    same(GREY, np.repeat(GREY[..., None], 3, axis=2))
    same(GREY[..., None], np.repeat(GREY[..., None], 3, axis=2))
    on_white = read_image(pictures()["alpha.png"])
    same(RGBA, on_white)
    same(cv2.cvtColor(RGBA, cv2.COLOR_RGBA2BGRA), on_white, channel_order="bgr")
    same(RGB.transpose(2, 0, 1), layout="chw")
    for kind in (np.float16, np.float32, np.float64, ">f4"):
        same((RGB / 255).astype(kind), RGB)
    same(np.zeros((2, 2, 3)), np.zeros((2, 2, 3), np.uint8))
    readonly = RGB.copy()
    readonly.flags.writeable = False
    same(readonly)


def test_cv2_and_files_agree(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(pictures()["photo.jpg"])
    same(cv2.imread(str(tmp_path / "photo.jpg")), read_image(tmp_path / "photo.jpg"), channel_order="bgr")


def test_tensors():
    tensor = torch.from_numpy(RGB.copy())
    same(tensor)
    same(tensor.permute(2, 0, 1))
    same(tensor.permute(2, 0, 1), layout="chw")
    same(tensor.flip(2), channel_order="bgr")
    same(tensor.permute(2, 0, 1).flip(0), channel_order="bgr")
    same(tensor.permute(2, 0, 1) / 255)
    same((tensor / 255).requires_grad_())
    same((tensor.double() / 255).half(), RGB)
    same(torch.from_numpy(GREY.copy()), np.repeat(GREY[..., None], 3, axis=2))
    same(torch.from_numpy(RGBA.copy()).permute(2, 0, 1), read_image(pictures()["alpha.png"]))
    square = torch.zeros(3, 5, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="say layout='chw' or layout='hwc'"):
        as_rgb(square)
    assert as_rgb(square, layout="chw").shape == (5, 3, 3) and as_rgb(square, layout="hwc").shape == (3, 5, 3)


@pytest.mark.parametrize(
    "image, message",
    [
        (RGB.astype(np.float32), "values from 0 to 255: floats are read as 0"),
        (RGB / 127.5 - 1, "values from -1 to 1"),
        (np.full((2, 2, 3), np.nan), "nan"),
        (np.full((2, 2, 3), np.inf), "inf"),
        (RGB.astype(np.uint16), "give uint8"),
        (RGB.astype(np.int64), "give uint8"),
        (RGB > 100, "give uint8"),
        (RGB.astype(object), "give uint8"),
        (RGB.transpose(2, 0, 1), "layout='chw'"),
        (RGB[None], "give one picture"),
        (RGB[:0], "0, 17, 3"),
        (RGB[..., :2], "1, 3 or 4 channels"),
        (RGB[0, 0], "shape .3."),
        (np.uint8(3), "shape "),
        (torch.zeros(1, 3, 4, 4), "give one picture"),
        (torch.zeros(5, 4, 6), "1, 3 or 4 channels"),
        (torch.full((3, 4, 6), 255.0), "values from 255 to 255"),
        (torch.zeros(3, 4, 6, dtype=torch.int32), "give uint8"),
    ],
)
def test_arrays_that_are_not_clear(image, message):
    with pytest.raises(ValueError, match=message):
        as_rgb(image)


@pytest.mark.parametrize("image", [None, 3, 2.5, {"image": RGB}, [RGB], (1, 2), object(), io.StringIO("text")])
def test_what_is_no_picture(image):
    with pytest.raises(TypeError):
        as_rgb(image)


def test_options_that_do_not_fit(tmp_path):
    (tmp_path / "a.png").write_bytes(pictures()["rgb.png"])
    for image in (tmp_path / "a.png", pictures()["rgb.png"], Image.fromarray(RGB), io.BytesIO(pictures()["rgb.png"])):
        with pytest.raises(ValueError, match="channel_order='bgr' is for arrays and tensors"):
            as_rgb(image, channel_order="bgr")
    with pytest.raises(ValueError, match="channel_order is 'BGR'; choose 'rgb' or 'bgr'"):
        as_rgb(RGB, channel_order="BGR")
    with pytest.raises(ValueError, match="layout is 'nchw'"):
        as_rgb(RGB, layout="nchw")


def test_file_objects_that_give_nothing(tmp_path):
    used = io.BytesIO(pictures()["rgb.png"])
    used.read()
    with pytest.raises(ImageReadError, match="seek"):
        as_rgb(used)
    used.close()
    with pytest.raises(ImageReadError, match="closed"):
        as_rgb(used)
    (tmp_path / "page.png").write_text("<html>")
    with open(tmp_path / "page.png", "rb") as file, pytest.raises(ImageReadError, match="page.png"):
        as_rgb(file)
    with open(tmp_path / "page.png") as file, pytest.raises(TypeError, match="open it as bytes"):
        as_rgb(file)


@pytest.mark.parametrize(
    "images",
    ["photo.jpg", Path("photo.jpg"), b"abc", RGB, GREY, Image.fromarray(RGB), torch.zeros(3, 4, 4), io.BytesIO(b"x")]
    + [{"a": RGB}, 3, None],
    ids=lambda x: type(x).__name__,
)
def test_a_batch_is_no_single_picture(images):
    with pytest.raises(TypeError, match="a batch is a list of pictures"):
        as_list(images)


def test_batches():
    assert as_list([]) == [] and as_list(("a", "b")) == ["a", "b"] and as_list(x for x in "ab") == ["a", "b"]
    assert len(as_list(np.stack([RGB, RGB]))) == 2 and len(as_list(torch.zeros(3, 3, 4, 4))) == 3
