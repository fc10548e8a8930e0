"""Scenes in tiles: what is read, how it is cut, what is written, and that memory stays flat."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ovseg.cli import main
from ovseg.errors import SetupError
from ovseg.geo import Scene, Tiling, segment_scene
from tests.cli.json_lines import run

rasterio = pytest.importorskip("rasterio", reason="pip install 'ovseg[geo]'")
ROOT = Path(__file__).parents[2]
NAMES = ["dark", "middle", "light"]


def write(path: Path, bands: np.ndarray, **options) -> Path:
    options = dict(crs="EPSG:32633", transform=rasterio.Affine(10, 0, 500000, 0, -10, 4600000)) | options
    count, height, width = bands.shape
    kind = dict(driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype)
    with rasterio.open(path, "w", **kind, **options) as file:
        file.write(bands)
    return path


def by_brightness(rgb: np.ndarray) -> np.ndarray:
    return rgb[:, :, 0].astype(int) * 3 // 256


def test_bands_and_stretch(tmp_path):
    ramp = np.linspace(1000, 2000, 101).astype(np.uint16)
    bands = np.stack([np.tile(ramp * k, (50, 1)) for k in (1, 2, 3, 4)])
    with Scene(write(tmp_path / "a.tif", bands), (4, 3, 2), (10, 90)) as scene:
        rgb, valid = scene.read(0, 0, 50, 101)
        assert scene.limits == [pytest.approx((1100 * k, 1900 * k)) for k in (4, 3, 2)]
        want = np.round(((ramp.astype(float) - 1100) / 800 * 255).clip(0, 255))
        assert valid.all() and np.abs(rgb[0, :, 0] - want).max() <= 1 and (rgb[..., 0] == rgb[..., 2]).all()
        part, _ = scene.read(10, 20, 5, 7)
        assert np.array_equal(part, rgb[10:15, 20:27])
    with Scene(write(tmp_path / "b.tif", (bands // 256).astype(np.uint8)), (2,)) as scene:
        rgb, _ = scene.read(0, 0, 50, 101)
        assert np.array_equal(rgb, np.repeat((bands[1] // 256)[..., None], 3, 2)), "8 bits are taken as they are"


def test_a_near_infrared_band_that_gdal_takes_for_alpha(tmp_path):
    bands = np.stack([np.full((20, 20), k, np.uint8) for k in (10, 20, 30, 40)])
    bands[3, :5] = 0
    path = write(tmp_path / "a.tif", bands, photometric="RGB", alpha="yes")
    with Scene(path, (4, 3, 2)) as scene:
        rgb, valid = scene.read(0, 0, 20, 20)
        assert valid.all() and rgb[10, 10].tolist() == [40, 30, 20] and rgb[0, 0].tolist() == [0, 30, 20]
    with Scene(path) as scene:
        rgb, valid = scene.read(0, 0, 20, 20)
        assert not valid[:5].any() and valid[5:].all(), "as colours without it: alpha"


def test_what_makes_no_sense_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((4, 20, 20), np.uint16))
    for settings, message in (
        (((5, 2, 1), (2, 98)), "no band 5: they are numbered 1 to 4"),
        (((1, 2), (2, 98)), "2 bands given"),
        (((1, 2, 3), (98, 2)), "98 to 2 is none"),
        (((1, 2, 3), None), "bands of uint16; say with --stretch"),
    ):
        with pytest.raises(SetupError, match=message):
            Scene(path, *settings)
    nothing = write(tmp_path / "b.tif", np.zeros((3, 20, 20), np.uint16), nodata=0)
    with pytest.raises(SetupError, match="band 1 holds no data"):
        Scene(nothing, None, (2, 98))
    (tmp_path / "c.tif").write_bytes(b"II*\0 no raster")
    with pytest.raises(OSError, match="c.tif"):
        Scene(tmp_path / "c.tif")
    with pytest.raises(SetupError, match="at least 16"):
        Tiling(64, 30)


@pytest.mark.parametrize("size", [(1, 1), (63, 64), (64, 65), (200, 333), (32, 500)])
@pytest.mark.parametrize("margin", [0, 8])
def test_every_pixel_is_written_once_from_within_its_tile(size, margin):
    tiling = Tiling(64, margin)
    seen, tiles = np.zeros(size, int), list(tiling.tiles(*size))
    for tile in tiles:
        seen[tile.rows, tile.columns] += 1
        for begin, part, n in ((tile.top, tile.rows, size[0]), (tile.left, tile.columns, size[1])):
            assert 0 <= begin and (begin + 64 <= n or begin == 0) and begin <= part.start and part.stop <= begin + 64
            assert part.start - begin >= margin or begin == 0
            assert begin + 64 - part.stop >= margin or part.stop == n or begin + 64 == n
    assert (seen == 1).all() and len(tiles) == tiling.count(*size)


def test_stitched_as_in_one_piece_with_its_place(tmp_path):
    rng = np.random.default_rng(0)
    bands = rng.integers(1, 256, (3, 150, 210), np.uint8)
    bands[:, :20, :30] = 0
    bands[0, 100, 100] = 0  # in one band only: data
    path = write(tmp_path / "a.tif", bands, nodata=0)
    seen = []

    def segment(rgb):
        seen.append(rgb.shape)
        return by_brightness(rgb)

    with Scene(path) as scene:
        pixels = segment_scene(segment, scene, tmp_path / "out.tif", NAMES, Tiling(64, 8))
        place = scene.file.crs, scene.file.transform
    want = bands[0].astype(int) * 3 // 256
    empty = (bands == 0).all(0)
    with rasterio.open(tmp_path / "out.tif") as file:
        labels = file.read(1)
        assert (file.crs, file.transform) == place and file.nodata == 255 and file.tags()["CLASS_2"] == "light"
        assert file.dtypes == ("uint8",) and len({file.colormap(1)[i] for i in range(3)}) == 3
    assert (labels[empty] == 255).all() and np.array_equal(labels[~empty], want[~empty])
    assert pixels.tolist() == np.bincount(want[~empty], minlength=3).tolist()
    assert set(seen) == {(64, 64, 3)}, "one scale everywhere"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "out.tif"]


def test_small_scenes_empty_tiles_and_many_classes(tmp_path):
    bands = np.full((1, 10, 20), 200, np.uint8)
    shapes = []
    with Scene(write(tmp_path / "a.tif", bands)) as scene:
        pixels = segment_scene(
            lambda rgb: shapes.append(rgb.shape) or np.full(rgb.shape[:2], 299), scene, tmp_path / "o.tif",
            [str(i) for i in range(300)], Tiling(32, 0),
        )  # fmt: skip
    assert shapes == [(32, 32, 3)] and pixels[299] == 200
    with rasterio.open(tmp_path / "o.tif") as file:
        assert file.dtypes == ("uint16",) and file.nodata == 65535 and (file.read(1) == 299).all()
    with Scene(write(tmp_path / "b.tif", bands * 0, nodata=0)) as scene:
        empty = segment_scene(lambda rgb: 1 / 0, scene, tmp_path / "e.tif", NAMES, Tiling(32, 0))
    assert not empty.any(), "tiles without data are not looked at"


def test_a_failure_leaves_no_file(tmp_path):
    with Scene(write(tmp_path / "a.tif", np.ones((3, 40, 40), np.uint8))) as scene, pytest.raises(ZeroDivisionError):
        segment_scene(lambda rgb: 1 / 0, scene, tmp_path / "o.tif", NAMES, Tiling(32, 0))
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    bands = np.random.default_rng(0).integers(0, 4000, (4, 12, 16), np.uint16).repeat(16, 1).repeat(16, 2)
    path, out = write(tmp_path / "a.tif", bands), tmp_path / "labels.tif"
    words = ("--classes", "grass, water, road", "--tile", 128, "--margin", 16)
    (line,) = run(capsys, "segment", path, "--bands", "4,3,2", "--stretch", "2,98", *words, "--out", out)
    assert (line["height"], line["width"], line["tiles"], line["empty"]) == (192, 256, 6, 0)
    with rasterio.open(out) as file:
        assert (
            np.bincount(file.read(1).ravel(), minlength=3)[line["classes"][0]["class"]] == line["classes"][0]["pixels"]
        )


def test_the_command_refuses(tmp_path, capsys):
    path = write(tmp_path / "a.tif", np.ones((3, 40, 40), np.uint8))
    for options, message in (
        (["--bands", "1,x,2"], "--bands 1,x,2: give numbers"),
        (["--stretch", "2"], "give two percentiles"),
        (["--bands", "1,2,3", "--out", "a.png"], "name it .tif"),
        (["--bands", "1,2,3", "--out", str(path)], "is the scene itself"),
        (["--tile", "640", "--format", "coco"], "only labels"),
    ):
        assert main(["segment", str(path), "--classes", "a, b", *options]) == 2
        assert message in capsys.readouterr().err
    assert main(["segment", str(path), str(path), "--classes", "a, b", "--tile", "64"]) == 2
    assert "one file at a time" in capsys.readouterr().err


_LARGE = """
import resource, sys
import numpy as np, rasterio
from ovseg.geo import Scene, Tiling, segment_scene
side, folder = int(sys.argv[1]), sys.argv[2]
kind = dict(driver="GTiff", count=4, height=side, width=side, dtype="uint16", compress="deflate", tiled=True,
            blockxsize=512, blockysize=512, crs="EPSG:32633", transform=rasterio.Affine(10, 0, 500000, 0, -10, 4600000))
with rasterio.Env(GDAL_CACHEMAX=64 << 20), rasterio.open(f"{folder}/{side}.tif", "w", **kind) as file:
    for y in range(0, side, 512):
        for x in range(0, side, 512):
            h, w = min(512, side - y), min(512, side - x)
            block = np.empty((4, h, w), np.uint16)
            block[:] = 1000 + (x + y) // 512 * 37 % 3000
            file.write(block, window=rasterio.windows.Window(x, y, w, h))
with rasterio.Env(GDAL_CACHEMAX=64 << 20), Scene(f"{folder}/{side}.tif", (4, 3, 2), (2, 98)) as scene:
    label = lambda rgb: rgb[:, :, 0].astype(np.int64) * 3 // 256
    pixels = segment_scene(label, scene, f"{folder}/{side}_labels.tif", ["a", "b", "c"], Tiling())
assert pixels.sum() == side * side and (pixels > 0).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_twenty_thousand_pixels_square_in_flat_memory(tmp_path):
    peaks = []
    for side in (4000, 20000):
        command = [sys.executable, "-c", _LARGE, str(side), str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-2000:]
        peaks.append(int(done.stdout))
    print("peak MiB at 4000 and 20000 pixels:", peaks)
    assert peaks[1] < peaks[0] + 100
    with rasterio.open(tmp_path / "20000_labels.tif") as file:
        assert file.shape == (20000, 20000) and file.transform.c == 500000 and file.crs.to_epsg() == 32633
