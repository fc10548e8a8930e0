"""Image files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np


def encode_png(array: np.ndarray) -> bytes:
    """A uint8 image as the bytes of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_image(path: str | Path, array: np.ndarray) -> None:
    """Write an image array, creating parent folders.

    Raises:
        OSError: naming the path and the reason, when it cannot be written.
    """
    from PIL import Image

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    except (OSError, ValueError) as error:
        raise OSError(f"cannot write image {path}: {error}. Check the folder's permissions and the suffix.") from error
