"""Pictures as callers hand them over, in memory or as files, as one kind of array."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from typing import IO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.formats.photo import sixteen_bit
from ovseg.datasets.formats.pillow import DECODER_ERRORS, rgb_on_white, strict_pillow
from ovseg.datasets.io import read_image
from ovseg.datasets.web import fetch, is_url, without_password

Picture = str | os.PathLike | bytes | IO[bytes] | Image.Image | np.ndarray | Tensor
ChannelOrder = Literal["rgb", "bgr"]
Layout = Literal["hwc", "chw"]
_CHANNELS = (1, 3, 4)


def as_rgb(image: Picture, channel_order: ChannelOrder | None = None, layout: Layout | None = None) -> np.ndarray:
    """A picture as uint8 RGB ``[H, W, 3]``, contiguous.

    - address (``http://``, ``https://``): fetched within the limits of :mod:`ovseg.datasets.web`;
    - path, encoded bytes, binary file object (from where it stands): :func:`ovseg.datasets.io.read_image`;
    - Pillow image: any mode, by the same rules (transparent parts on white, 16 bit rounded, EXIF orientation applied);
      one that was opened but not changed gives exactly the pixels of its file;
    - array or tensor: grey ``[H, W]``, or 1, 3 (colours) or 4 channels (and alpha, put on white). uint8, or floats from
      0 to 1, where 1 is white. Everything else is refused: 255.0 and a normalised tensor look alike.

    Args:
        image: the picture.
        channel_order: of arrays and tensors: ``'rgb'`` (``None`` means it too) or ``'bgr'``, as OpenCV gives them.
            Files and Pillow images say it themselves.
        layout: of arrays and tensors: ``'hwc'`` or ``'chw'``. ``None``: arrays are ``'hwc'``; of tensors it is seen
            from the shape.

    Raises:
        ImageReadError: naming the file or picture that cannot be read.
        TypeError: for anything that is no picture.
        ValueError: for an array or tensor of another shape, type or range, or a ``channel_order`` or ``layout`` that
            does not exist or is given with something that is no array.
    """
    _check_choice("channel_order", channel_order, ("rgb", "bgr"))
    _check_choice("layout", layout, ("hwc", "chw"))
    if isinstance(image, Tensor):
        return _from_tensor(image, channel_order, layout)
    if isinstance(image, np.ndarray) or _is_array(image):
        return _from_array(np.asarray(image), channel_order, layout or "hwc", "array")
    for name, value in (("channel_order", channel_order), ("layout", layout)):
        if value is not None:
            raise ValueError(f"{name}={value!r} is for arrays and tensors; a {type(image).__name__} says it itself")
    if isinstance(image, Image.Image):
        return _from_pillow(image)
    if is_url(image):
        return _from_url(image)
    if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
        return read_image(image)
    if callable(getattr(image, "read", None)):
        return _from_file(image)
    raise TypeError(
        f"{type(image).__name__} is no picture; give a path, encoded bytes, a binary file object, a Pillow image, a "
        "NumPy array [H, W, 3] or a torch tensor"
    )


def as_list(images: Iterable[Picture]) -> list[Picture]:
    """The pictures of a batch: a list, tuple, generator, or array or tensor of four dimensions.

    Raises:
        TypeError: see :func:`refuse_single`.
    """
    refuse_single(images)
    return list(images)


def refuse_single(images: Iterable[Picture]) -> None:
    """Nothing for what can be gone through picture by picture.

    Raises:
        TypeError: for a single picture, whose letters, rows or lines would be taken for pictures.
    """
    single = isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image | Mapping)
    single = single or callable(getattr(images, "read", None))
    if isinstance(images, np.ndarray | Tensor) or _is_array(images):
        single = images.ndim != 4
    if single or not isinstance(images, Iterable):
        raise TypeError(
            f"a batch is a list of pictures, not a single {type(images).__name__}; write segment_batch([picture]), or "
            "segment(picture)"
        )


def _from_url(url: str) -> np.ndarray:
    data = fetch(url)
    try:
        return read_image(data)
    except ImageReadError as error:  # it knows the bytes, not where they come from
        raise ImageReadError(without_password(url), error.reason) from error


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise ValueError(f"{name} is {value!r}; choose {' or '.join(map(repr, choices))}")


def _is_array(image: object) -> bool:
    """Arrays of other libraries."""
    if isinstance(image, Image.Image):  # asking Pillow for its interface would decode the file
        return False
    return hasattr(image, "__array_interface__") and hasattr(image, "ndim")


def _from_tensor(image: Tensor, order: ChannelOrder | None, layout: Layout | None) -> np.ndarray:
    if layout is None and image.ndim == 3:
        first, last = image.shape[0] in _CHANNELS, image.shape[2] in _CHANNELS
        if first and last:
            raise ValueError(f"tensor of shape {list(image.shape)}: say layout='chw' or layout='hwc', both would fit")
        layout = "chw" if first else "hwc"
    values = image.detach().cpu()
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    return _from_array(values.numpy(), order, layout or "hwc", "tensor")


def _from_array(image: np.ndarray, order: ChannelOrder | None, layout: Layout, kind: str) -> np.ndarray:
    what = f"{kind} of shape {list(image.shape)} and type {image.dtype}"
    if image.ndim == 4:
        raise ValueError(f"{what}: give one picture, or call segment_batch")
    if image.ndim == 3 and layout == "chw":
        image = image.transpose(1, 2, 0)
    if image.ndim not in (2, 3) or not image.size or (image.ndim == 3 and image.shape[2] not in _CHANNELS):
        hint = "; for channels first say layout='chw'" if image.ndim == 3 and layout == "hwc" else ""
        raise ValueError(f"{what}: give [H, W], or [H, W, C] with 1, 3 or 4 channels{hint}")
    pixels = _to_uint8(image, what)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    if order == "bgr":
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    pixels = np.ascontiguousarray(pixels)
    return pixels if pixels.shape[2] == 3 else rgb_on_white(Image.fromarray(pixels, "RGBA"))


def _to_uint8(image: np.ndarray, what: str) -> np.ndarray:
    if image.dtype == np.uint8:
        return np.asarray(image)
    if image.dtype.kind != "f":
        raise ValueError(f"{what}: give uint8 (0 to 255), or floats from 0 to 1; convert it first")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{what} with values from {low:g} to {high:g}: floats are read as 0 (black) to 1 (white). Divide by the "
            "largest value there can be, or undo the normalisation"
        )
    return np.round(np.asarray(image, np.float64) * 255).astype(np.uint8)


def _from_file(file: IO[bytes]) -> np.ndarray:
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else f"<{type(file).__name__}>"
    if isinstance(file, io.TextIOBase):
        raise TypeError(f"{name} is open as text; open it as bytes: open(path, 'rb')")
    try:
        data = file.read()
    except (OSError, ValueError) as error:
        raise ImageReadError(name, f"the file object cannot be read ({error})") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"{name} gives {type(data).__name__}, not bytes")
    if not len(data):
        raise ImageReadError(name, "the file object has no bytes left; was it read before? seek(0) goes to its start")
    try:
        return read_image(bytes(data))
    except ImageReadError as error:
        raise ImageReadError(name, error.reason) from error


def _from_pillow(image: Image.Image) -> np.ndarray:
    name = getattr(image, "filename", "") or f"<Pillow image {image.mode} {image.width} x {image.height}>"
    if not image.width * image.height:
        raise ImageReadError(name, "it has no pixels")
    try:
        data = _untouched_bytes(image)
        if data is not None:
            return read_image(data)
        with strict_pillow():
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                return sixteen_bit(np.asarray(upright).astype(np.uint16)[..., None])
            if upright.mode == "F" or upright.mode.startswith("I"):
                raise ImageReadError(name, f"{upright.mode} pixels have no known range; convert it to 8 bit first")
            inks = image.format == "JPEG" and upright.mode == "CMYK" and "adobe" not in image.info
            return rgb_on_white(upright, inks_as_they_are=inks)
    except ImageReadError as error:
        raise ImageReadError(name, error.reason) from error
    except DECODER_ERRORS as error:
        raise ImageReadError(name, f"its pixels cannot be had ({error})") from error


def _untouched_bytes(image: Image.Image) -> bytes | None:
    """The file of an image whose pixels were not decoded yet, so that they cannot have been changed either."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None) or image.tell() or not hasattr(file, "seek"):
        return None
    if getattr(image, "decoderconfig", ()):
        return None  # a smaller picture was asked for with draft()
    place = file.tell()
    try:
        file.seek(0)
        return file.read()
    finally:
        file.seek(place)
