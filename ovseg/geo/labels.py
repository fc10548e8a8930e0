"""A scene segmented tile by tile into one GeoTIFF of class indices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovseg.datasets.files import atomic_path
from ovseg.errors import SetupError
from ovseg.geo.scene import Scene, import_rasterio
from ovseg.visualization import palette_for

_CACHE = 64 << 20  # bytes of GDAL's own cache of blocks
_BLOCK = 256  # side of the written file's blocks


@dataclass(frozen=True)
class Tile:
    """A part of a scene: what is read, and which part of that is written; all in pixels.

    Attributes:
        top, left: of what is read, which is a square of the tiling's side; it may reach over small scenes' edges.
        rows, columns: of the scene that are written.
    """

    top: int
    left: int
    rows: slice
    columns: slice


@dataclass(frozen=True)
class Tiling:
    """How a scene is cut.

    Every tile has the same size, so that all parts of a scene are seen at one scale; tiles at the edges are moved
    inwards. Of each only the middle is written, the margin gives its pixels surroundings.

    Attributes:
        side: of a tile in pixels.
        margin: pixels of a tile on each side that another one writes, except at the scene's edges.

    Raises:
        SetupError: for sizes that leave nothing to write.
    """

    side: int = 640
    margin: int = 64

    def __post_init__(self) -> None:
        if self.side < 16 or self.margin < 0 or self.side - 2 * self.margin < 16:
            raise SetupError(
                f"tiles of {self.side} pixels with a margin of {self.margin}: at least 16 must remain between margins"
            )

    def tiles(self, height: int, width: int) -> Iterator[Tile]:
        """The tiles of a scene, row by row; together they write every pixel once."""
        step = self.side - 2 * self.margin
        for y in range(0, height, step):
            for x in range(0, width, step):
                top, left = (max(0, min(at - self.margin, n - self.side)) for at, n in ((y, height), (x, width)))
                yield Tile(top, left, slice(y, min(y + step, height)), slice(x, min(x + step, width)))

    def count(self, height: int, width: int) -> int:
        """Number of tiles of a scene."""
        step = self.side - 2 * self.margin
        return -(-height // step) * -(-width // step)


def segment_scene(
    segment: Callable[[np.ndarray], np.ndarray],
    scene: Scene,
    out: str | Path,
    names: Sequence[str],
    tiling: Tiling | None = None,
    tell: Callable[[int], object] = lambda done: None,
) -> np.ndarray:
    """Segment a scene of any size into a GeoTIFF with the scene's place, in memory that does not grow with it.

    The file holds class indices, 8 bits up to 255 classes, else 16, with the largest number where the scene has no
    data (the file's nodata value), the classes' names as tags (``CLASS_0``, ...) and, with 8 bits, their colours.

    Args:
        segment: uint8 RGB ``[s, s, 3]`` of a tile to class indices ``[s, s]``.
        scene: what is read.
        out: file to write; it appears when it is whole.
        names: of the classes.
        tiling: how it is cut; ``None``: the default.
        tell: called with the number of tiles done.

    Returns:
        int64 ``[C]``: pixels per class.

    Raises:
        SetupError: for more classes than 16 bits hold.
        OSError: for a damaged scene, or a file that cannot be written.
    """
    rasterio, tiling = import_rasterio(), tiling or Tiling()
    if len(names) > 65535:
        raise SetupError(f"{len(names)} classes: a label map holds at most 65535")
    kind, nodata = (np.uint8, 255) if len(names) <= 255 else (np.uint16, 65535)
    pixels = np.zeros(len(names), np.int64)
    profile = dict(
        driver="GTiff",
        height=scene.height,
        width=scene.width,
        count=1,
        dtype=np.dtype(kind).name,
        nodata=nodata,
        crs=scene.file.crs,
        transform=scene.file.transform,
        compress="deflate",
        tiled=True,
        blockxsize=_BLOCK,
        blockysize=_BLOCK,
        bigtiff="if_safer",
    )
    with rasterio.Env(GDAL_CACHEMAX=_CACHE), atomic_path(out) as temporary:
        try:
            with rasterio.open(temporary, "w", **profile) as file:
                gcps, gcps_crs = scene.file.gcps
                if gcps:
                    file.gcps = (gcps, gcps_crs)
                file.update_tags(**{f"CLASS_{i}": name for i, name in enumerate(names)})
                if kind is np.uint8:
                    colours = {i: (*map(int, colour), 255) for i, colour in enumerate(palette_for(names))}
                    file.write_colormap(1, colours)
                for number, tile in enumerate(tiling.tiles(scene.height, scene.width)):
                    labels = _tile_labels(segment, scene, tile, tiling.side, nodata).astype(kind)
                    pixels += np.bincount(labels[labels != nodata].ravel(), minlength=len(names))
                    height, width = labels.shape
                    place = rasterio.windows.Window(tile.columns.start, tile.rows.start, width, height)
                    file.write(labels, 1, window=place)
                    tell(number + 1)
        except rasterio.errors.RasterioIOError as error:
            raise OSError(f"{out}: {error}") from error
    return pixels


def _tile_labels(
    segment: Callable[[np.ndarray], np.ndarray], scene: Scene, tile: Tile, side: int, nodata: int
) -> np.ndarray:
    """What is written of a tile."""
    height, width = min(side, scene.height - tile.top), min(side, scene.width - tile.left)
    rgb, valid = scene.read(tile.top, tile.left, height, width)
    rows = slice(tile.rows.start - tile.top, tile.rows.stop - tile.top)
    columns = slice(tile.columns.start - tile.left, tile.columns.stop - tile.left)
    valid = valid[rows, columns]
    if not valid.any():  # borders without data are large
        return np.full(valid.shape, nodata, np.int64)
    if rgb.shape[:2] != (side, side):  # of a scene smaller than a tile: the scale stays that of the others
        rgb = np.pad(rgb, ((0, side - height), (0, side - width), (0, 0)), mode="edge")
    return np.where(valid, segment(rgb)[rows, columns], nodata)
