"""Masks on disk: made once per photo and settings, shared by runs and processes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import torch

from ovseg.content import Fingerprint
from ovseg.datasets.files import cache_folder
from ovseg.describing import describe
from ovseg.regions.base import RegionSource
from ovseg.registry import REGIONS
from ovseg.rle import decode_rle, encode_mask

VERSION = 2
"""Part of every key: raise it when a change to a source changes its masks."""
_building = Lock()


@REGIONS.register_module()
class CachedRegions(RegionSource):
    """Another source with its masks kept on disk (COCO's run-length code).

    The key is the photo's pixels together with the source's settings as the config has them, weights by the hash of
    their file (and by their content once they were changed after loading): a renamed photo is found again, a changed
    setting or a new training is not mistaken. The painting order
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
        self._writable = True
        # in a list: no part of this module's state, which must not depend on whether a mask was missing
        self._built: list[RegionSource] = []
        self._content = Fingerprint()
        self._loaded: str | None = None  # content of the source's weights when it was built
        self.register_buffer("_place", torch.empty(0), persistent=False)  # on the model's device, also without a source

    @property
    def source(self) -> RegionSource:
        """The source itself, built at first use."""
        with _building:
            if not self._built:
                self.__dict__.pop("_key", None)  # of the files as they are now
                source = REGIONS.build(dict(self.config)).eval().to(self._place.device)
                self._loaded = self._content(source.weights())
                self._built.append(source)
        return self._built[0]

    def _apply(self, fn: Callable, recurse: bool = True) -> CachedRegions:
        for source in self._built:  # moves with the model
            source._apply(fn)
        return super()._apply(fn)

    @cached_property
    def _key(self) -> dict[str, object]:
        return REGIONS.get(self.config["type"]).cache_key(self.config)

    def key(self) -> dict[str, object]:
        """What masks are kept under, besides the pixels: the settings, and the weights once they were changed."""
        content = self._content(self._built[0].weights()) if self._built else None
        return self._key if content == self._loaded else {**self._key, "content": content}

    def path_of(self, image: np.ndarray) -> Path:
        """File of a uint8 RGB photo ``[H, W, 3]``."""
        context = json.dumps([VERSION, self.key(), list(image.shape)], sort_keys=True, default=describe)
        key = hashlib.sha256(context.encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
        return self.folder / key[:2] / f"{key[2:]}.rle"

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        path = self.path_of(image)
        found = read_masks(path, image.shape[:2])
        if found is None:
            source = self.source
            path = self.path_of(image)  # of the source that makes them
            found = source.masks(image)
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
        return {**self.config, **self.key(), "order": self.order}


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
