"""Masks on disk: made once per photo and settings, shared by runs and processes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ovseg.datasets.files import cache_folder
from ovseg.regions.base import RegionSource
from ovseg.registry import REGIONS
from ovseg.rle import decode_rle, encode_mask

VERSION = 2
"""Part of every key: raise it when a change to a source changes its masks."""


@REGIONS.register_module()
class CachedRegions(RegionSource):
    """Another source with its masks kept on disk (COCO's run-length code).

    The key is the photo's pixels together with the source's settings as the config has them, weights by the hash of
    their file: a renamed photo is found again, a changed setting or a new training is not mistaken. The painting order
    is applied afterwards and is not part of the key. Files are written aside and renamed, so that processes may share
    the folder. A damaged file counts as absent; an unwritable folder costs one warning. The source is built when the
    first photo is missing, so that a filled cache needs no SAM.

    Args:
        source: config of a registered region source.
        folder: where the files go; ``None``: ``$OVSEG_CACHE/masks``.
        order: painting order where masks overlap.

    Raises:
        KeyError: for a source that is not registered.
    """

    def __init__(self, source: dict, folder: str | Path | None = None, order: str = "ascending") -> None:
        super().__init__(order)
        self.config = dict(source)
        kind = REGIONS.get(self.config["type"])
        if kind is None:
            raise KeyError(
                f"no region source {self.config['type']!r}; there are {', '.join(sorted(REGIONS.module_dict))}"
            )
        self.supervision = kind.supervision_of(self.config)
        self.folder = Path(folder) if folder is not None else cache_folder("masks")
        self._source: RegionSource | None = None
        self._writable = True
        self.register_buffer("_place", torch.empty(0), persistent=False)  # on the model's device, also without a source

    @property
    def source(self) -> RegionSource:
        """The source itself, built at first use."""
        if self._source is None:
            self._source = REGIONS.build(dict(self.config)).eval().to(self._place.device)
        return self._source

    @cached_property
    def _key(self) -> dict[str, object]:
        return REGIONS.get(self.config["type"]).cache_key(self.config)

    def path_of(self, image: np.ndarray) -> Path:
        """File of a uint8 RGB photo ``[H, W, 3]``."""
        context = json.dumps([VERSION, self._key, list(image.shape)], sort_keys=True, default=str)
        key = hashlib.sha256(context.encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
        return self.folder / key[:2] / f"{key[2:]}.rle"

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        path = self.path_of(image)
        found = read_masks(path, image.shape[:2])
        if found is None:
            found = self.source.masks(image)
            self._write(path, found)
        return found

    def _write(self, path: Path, masks: list[np.ndarray]) -> None:
        if not self._writable:
            return
        try:
            write_masks(path, masks)
        except OSError as error:
            self._writable = False
            warnings.warn(f"masks are not cached: cannot write {path}: {error}", stacklevel=3)

    def describe(self) -> dict[str, object]:
        return {**self.config, **self._key, "order": self.order}


def write_masks(path: Path, masks: list[np.ndarray]) -> None:
    """Write bool masks ``[H, W]`` as compressed run-length code, all or nothing.

    Raises:
        OSError: where the file cannot be written.
    """
    data = [encode_mask(mask) for mask in masks]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(zlib.compress(json.dumps(data).encode()))
        os.replace(part, path)
    except OSError:
        Path(part).unlink(missing_ok=True)
        raise


def read_masks(path: Path, size: tuple[int, int]) -> list[np.ndarray] | None:
    """The bool masks ``[H, W]`` of a file, or ``None`` where it is absent, damaged or of another size."""
    try:
        if not path.is_file():
            return None
        codes = json.loads(zlib.decompress(path.read_bytes()))
        return [decode_rle(code, size) for code in codes] if isinstance(codes, list) else None
    except (OSError, ValueError, RecursionError, zlib.error):
        return None
