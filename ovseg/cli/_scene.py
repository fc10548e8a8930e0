"""``ovseg segment scene.tif --bands 4,3,2 --stretch 2,98``: a large scene in tiles, a GeoTIFF of labels out."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from ovseg.cli._model import load_model
from ovseg.cli._output import emit, say
from ovseg.cli._status import DONE
from ovseg.errors import SetupError


def add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    """``--bands --stretch --tile --margin``."""
    group = parser.add_argument_group("a large scene (GeoTIFF), read in tiles; any of these asks for it")
    group.add_argument("--bands", help="bands taken as red, green and blue, counted from 1: 4,3,2 (default: 1,2,3)")
    group.add_argument("--stretch", help="percentiles of each band that become black and white: 2,98")
    group.add_argument("--tile", type=int, help="side of a tile in pixels (default: 640)")
    group.add_argument("--margin", type=int, help="pixels around a tile that give it surroundings (default: 64)")


def is_scene(args: argparse.Namespace) -> bool:
    """Whether a scene was asked for."""
    return any(getattr(args, name) is not None for name in ("bands", "stretch", "tile", "margin"))


def run_scene(args: argparse.Namespace) -> int:
    """Segment one scene; returns the exit status.

    Raises:
        SetupError: for several files, options of photos, or what :class:`ovseg.geo.Scene` refuses.
        OSError: for a damaged file.
    """
    from ovseg.geo import Scene, Tiling, segment_scene

    if len(args.images) != 1 or not Path(args.images[0]).is_file():
        raise SetupError(f"{args.images[0]}: a scene is one file" + (" at a time" if len(args.images) > 1 else ""))
    if args.format not in ("overlay", "labels"):
        raise SetupError(f"--format {args.format}: of a scene only labels are written, as a GeoTIFF")
    path, out = Path(args.images[0]), Path(args.out or "labels.tif")
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise SetupError(f"--out {out}: labels of a scene are a GeoTIFF; name it .tif")
    if out.exists() and out.samefile(path):
        raise SetupError(f"--out {out} is the scene itself")
    given = {key: value for key, value in (("side", args.tile), ("margin", args.margin)) if value is not None}
    tiling = Tiling(**given)
    bands = None if args.bands is None else _numbers("--bands", args.bands, int)
    stretch = None if args.stretch is None else _numbers("--stretch", args.stretch, float)
    if stretch is not None and len(stretch) != 2:
        raise SetupError(f"--stretch {args.stretch}: give two percentiles, e.g. 2,98")
    with Scene(path, bands, None if stretch is None else (stretch[0], stretch[1])) as scene:
        args.short_side = args.short_side or tiling.side  # a pixel of the scene is a pixel of the model
        model = load_model(args)
        names = model.model.require_vocabulary().display_names
        total = tiling.count(scene.height, scene.width)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(path.name, total=total)
            pixels = segment_scene(
                lambda rgb: model.segment(rgb).labels,
                scene,
                out,
                names,
                tiling,
                lambda done: progress.update(task, completed=done),
            )
    shown = int(pixels.sum()) or 1
    order = sorted(range(len(names)), key=lambda i: -int(pixels[i]))
    rows = [
        {"name": names[i], "class": i, "pixels": int(pixels[i]), "share": int(pixels[i]) / shown}
        for i in order
        if pixels[i]
    ]
    for row in rows:
        say(f"{row['share']:6.1%}  {row['name']}", stderr=False)
    say(f"{path.name}: {scene.width} x {scene.height} pixels in {total} tiles -> {out}", stderr=False)
    empty = scene.height * scene.width - int(pixels.sum())
    emit(
        "scene",
        scene=path,
        file=out,
        height=scene.height,
        width=scene.width,
        tiles=total,
        empty=empty,
        bands=scene.bands,
        limits=scene.limits,
        classes=rows,
        protocol=model.protocol,
    )
    return DONE


def _numbers(option: str, text: str, kind: type) -> list:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise SetupError(f"{option} {text}: give numbers with commas between them") from None
