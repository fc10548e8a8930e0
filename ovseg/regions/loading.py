"""Region maps that were made elsewhere, as a step of the data pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform

from ovseg.datasets.io import read_mask
from ovseg.errors import DAMAGED_ARRAYS
from ovseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadRegions(BaseTransform):
    """Read the region map of a photo; adds ``regions``, int32 ``[H, W]`` at the photo's original size.

    The file has the photo's name without suffix: ``NAME.npz`` (its first array) or ``NAME.png`` (8 or 16 bit). The
    smallest id means "no region". Follow it with ``PackInputs(keys=('original', 'regions'))``.

    Args:
        folder: where the files lie.

    Raises:
        FileNotFoundError: from :meth:`transform`: naming the files that were looked for.
        ValueError: from :meth:`transform`: for an unreadable file or one of another size than the photo.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def transform(self, results: dict) -> dict:
        stem = Path(results["img_path"]).stem
        path = next((p for s in (".npz", ".png") if (p := self.folder / f"{stem}{s}").is_file()), None)
        if path is None:
            raise FileNotFoundError(f"no region map {stem}.npz or {stem}.png in {self.folder}")
        try:
            if path.suffix == ".npz":
                with np.load(path) as file:
                    ids = file[file.files[0]]
            else:
                ids = read_mask(path)
        except DAMAGED_ARRAYS as error:
            raise ValueError(f"region map {path} cannot be read: {error}") from error
        limits = np.iinfo(np.int32)
        if ids.dtype.kind not in "iu" or (ids.size and (ids.min() < limits.min or ids.max() > limits.max)):
            raise ValueError(f"region map {path} holds {ids.dtype}; ids are whole numbers that fit 32 bits")
        if ids.shape != tuple(results["ori_shape"]):
            raise ValueError(f"region map {path} is {ids.shape}, its photo {tuple(results['ori_shape'])}")
        results["regions"] = ids.astype(np.int32)
        return results
