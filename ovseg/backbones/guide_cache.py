"""Guide features on disk: an ablation of what comes after them does not encode every window again."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ovseg.content import Fingerprint, weights_of
from ovseg.datasets.files import atomic_path, cache_folder
from ovseg.errors import DAMAGED_ARRAYS
from ovseg.registry import GUIDES
from ovseg.structures import FeatureMap

VERSION = 1
"""Part of every key: raise it when a change to a guide changes its features."""
DTYPES = {"float32": torch.float32, "float16": torch.float16}


@GUIDES.register_module()
class CachedGuide(nn.Module):
    """Another guide with its features kept on disk, a file per window.

    The key is the window's pixels together with what the guide says of itself (feature, block, precision) and the
    content of its weights, so a renamed photo is found again, other settings are not mistaken, and a guide that was
    trained on is another one. Only windows that are missing
    are encoded. A damaged file counts as absent; a folder that cannot be written, or is full, costs one warning.
    Features are large (a window of 448 px with DINO ViT-B/8: 9.6 MB), hence the limit. Hashing reads the window on
    the CPU, so on a GPU every batch waits for the device.

    Args:
        source: config of a registered guide.
        folder: where the files go; ``None``: ``$OVSEG_CACHE/guides``.
        dtype: ``'float32'``: as computed. ``'float16'``: half the space; features are rounded also when they are not
            found, so that a result does not depend on what the cache holds.
        limit_gb: nothing more is written once the files in the folder take so many 1e9 bytes.

    Raises:
        ValueError: unknown dtype.
    """

    def __init__(
        self, source: dict, folder: str | Path | None = None, dtype: str = "float32", limit_gb: float = 50.0
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")
        self.source = GUIDES.build(source)
        self.supervision = self.source.supervision
        self.folder = Path(folder) if folder is not None else cache_folder("guides")
        self.dtype, self.limit = DTYPES[dtype], limit_gb * 1e9
        self._content = Fingerprint()
        self._used: float | None = None
        self._writable = True

    @property
    def patch_size(self) -> int:
        return self.source.patch_size

    def describe(self) -> dict[str, object]:
        """What travels with a result: the guide's own description, and the rounding where there is one."""
        rounding = {} if self.dtype == torch.float32 else {"stored_as": "float16"}
        return {**self.source.describe(), **rounding}

    def forward(self, windows: Tensor, mean: Tensor, std: Tensor) -> FeatureMap:
        """As :meth:`ovseg.backbones.dino.DinoBackbone.forward`: ``[B, 3, H, W]`` to unit features ``[B, N, C]``."""
        context = json.dumps(
            [
                VERSION,
                self.describe(),
                self._content(self._weights()),
                mean.flatten().tolist(),
                std.flatten().tolist(),
                list(windows.shape[1:]),
            ],
            sort_keys=True,
        ).encode()
        pixels = windows.float().cpu().contiguous().numpy()
        paths = [self.path_of(hashlib.sha256(context + window.tobytes()).hexdigest()) for window in pixels]
        found = [read_features(path) for path in paths]
        missing = [i for i, features in enumerate(found) if features is None]
        if missing:
            made = self.source(windows[missing], mean, std)
            for i, features in zip(missing, made.tokens, strict=True):
                found[i] = features.to(self.dtype).cpu().unflatten(0, made.grid)
                self._write(paths[i], found[i])
        tokens = torch.stack([features.flatten(0, 1) for features in found]).to(windows.device).float()
        return FeatureMap(tokens, tuple(found[0].shape[:2]))

    def _weights(self) -> dict[str, Tensor]:
        return weights_of(self.source)  # asked each time: the source may be replaced

    def path_of(self, key: str) -> Path:
        """The file of a key."""
        return self.folder / key[:2] / f"{key[2:]}.npy"

    def _write(self, path: Path, features: Tensor) -> None:
        if not self._writable:
            return
        if self._used is None:
            self._used = sum(file.stat().st_size for file in self.folder.glob("*/*.npy"))
        if self._used + features.nbytes > self.limit:
            self._stop(f"{self.folder} holds {self._used / 1e9:.1f} GB; raise limit_gb or empty the folder")
            return
        try:
            with atomic_path(path) as part:
                np.save(part, features.numpy(), allow_pickle=False)
            self._used += features.nbytes
        except OSError as error:
            self._stop(f"cannot write {path}: {error}")

    def _stop(self, reason: str) -> None:
        self._writable = False
        warnings.warn(f"guide features are no longer cached: {reason}", stacklevel=4)


def read_features(path: Path) -> Tensor | None:
    """Features ``[h, w, C]`` of a file, or ``None`` where it is absent or damaged."""
    try:
        features = np.load(path, allow_pickle=False)
    except DAMAGED_ARRAYS:
        return None
    return torch.from_numpy(features) if features.ndim == 3 and features.dtype in (np.float32, np.float16) else None
