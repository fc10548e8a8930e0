"""A raster file that is read part by part, three of its bands as colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from ovseg.errors import SetupError

_LOOKED_AT = 2048
"""Pixels of a side of the smaller picture that the stretch is told from."""


def import_rasterio() -> ModuleType:
    """rasterio.

    Raises:
        SetupError: if it is not installed.
    """
    try:
        import rasterio
        import rasterio.enums
        import rasterio.errors
        import rasterio.windows
    except ImportError as error:
        raise SetupError(f"scenes need rasterio ({error}): pip install 'ovseg[geo]'") from error
    return rasterio


class Scene:
    """An open raster file; a context manager.

    Args:
        path: of the file, GeoTIFF or whatever GDAL reads.
        bands: three numbers from 1, taken as red, green and blue, or one, taken as grey; ``None``: the first three, or
            the only one.
        stretch: percentiles of each band that become black and white, e.g. ``(2, 98)``; ``None``: values are taken as
            they are, which wants 8 bits.

    Attributes:
        height, width: in pixels.
        limits: per chosen band the values that become black and white; ``None`` without a stretch.

    Raises:
        SetupError: for bands or percentiles that make no sense, or values that are not 8 bits without a stretch.
        OSError: for a file that cannot be opened.
    """

    def __init__(
        self, path: str | Path, bands: Sequence[int] | None = None, stretch: tuple[float, float] | None = None
    ) -> None:
        rasterio = import_rasterio()
        self.path = Path(path)
        try:
            self.file = rasterio.open(path)
        except rasterio.errors.RasterioIOError as error:
            raise OSError(f"{path}: {error}") from error
        try:
            self.height, self.width = self.file.height, self.file.width
            self.bands = self._bands(bands)
            # GDAL takes the fourth of four 8-bit bands for alpha; who asks for it as a colour knows better
            alpha = [i for i, c in enumerate(self.file.colorinterp, 1) if c == rasterio.enums.ColorInterp.alpha]
            self._masked = not set(alpha) & set(self.bands)
            self.limits = None if stretch is None else self._limits(stretch)
            kinds = {self.file.dtypes[band - 1] for band in self.bands}
            if stretch is None and kinds != {"uint8"}:
                raise SetupError(f"{path}: bands of {', '.join(sorted(kinds))}; say with --stretch 2,98 what is black")
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def _bands(self, bands: Sequence[int] | None) -> tuple[int, ...]:
        count = self.file.count
        if bands is None:
            bands = (1, 2, 3) if count >= 3 else (1,)
        if len(bands) not in (1, 3):
            raise SetupError(f"{len(bands)} bands given; give three, for red, green and blue, or one")
        if wrong := [band for band in bands if not 1 <= band <= count]:
            raise SetupError(f"{self.path} has no band {wrong[0]}: they are numbered 1 to {count}")
        return tuple(bands)

    def _limits(self, stretch: tuple[float, float]) -> list[tuple[float, float]]:
        """Percentiles of each band, of every so many pixels; pixels without data do not count.

        Raises:
            SetupError: for percentiles that are none, or a band without data.
        """
        low, high = stretch
        if not 0 <= low < high <= 100:
            raise SetupError(f"a stretch from {low:g} to {high:g} is none: give two percentiles, e.g. 2,98")
        shape = (min(self.height, _LOOKED_AT), min(self.width, _LOOKED_AT))
        found = []
        for band in self.bands:
            values = self.file.read(band, out_shape=shape, masked=self._masked)
            values = np.ma.compressed(values)
            values = values[np.isfinite(values)]
            if not values.size:
                raise SetupError(f"{self.path}: band {band} holds no data")
            found.append(tuple(float(v) for v in np.percentile(values, stretch)))
        return found

    def read(self, top: int, left: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """A part of the scene.

        Returns:
            uint8 RGB ``[h, w, 3]``, black where there is no data, and where there is some, bool ``[h, w]``.

        Raises:
            OSError: if the file is damaged there.
        """
        rasterio = import_rasterio()
        window = rasterio.windows.Window(left, top, width, height)
        try:
            pixels = self.file.read(list(self.bands), window=window, masked=self._masked)
            valid = ~np.ma.getmaskarray(pixels).all(axis=0)
        except rasterio.errors.RasterioIOError as error:
            raise OSError(f"{self.path}: {error}") from error
        values = np.ma.filled(pixels, 0)
        values = values.astype(np.float32) if self.limits is not None else values
        if self.limits is not None:
            valid &= np.isfinite(values).all(axis=0)
            for band, (low, high) in zip(values, self.limits, strict=True):
                band -= low
                band *= 255 / max(high - low, 1e-12)
            values = np.nan_to_num(values).clip(0, 255).round().astype(np.uint8)
        rgb = np.repeat(values, 3, 0) if len(values) == 1 else values
        rgb = np.where(valid, rgb, 0).astype(np.uint8)
        return np.ascontiguousarray(rgb.transpose(1, 2, 0)), valid
