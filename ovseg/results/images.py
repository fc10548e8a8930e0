"""Image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np


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
