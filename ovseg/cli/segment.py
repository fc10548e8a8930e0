"""``ovseg segment``, ``demo/image_demo.py``: segment photos and films with your own words.

    ovseg segment photo.jpg --classes "cat, sofa, background" --model nano --out out.png
    ovseg segment photos/ --classes words.txt --out results/ --format overlay,coco,csv
    ovseg segment trip/*.jpg extra.png --classes "tree, road" --method sclip --model openai/ViT-B-16 --out results/
    ovseg segment film.mp4 --classes "road; street, car, sky" --out seen.mp4
    ovseg segment scene.tif --bands 4,3,2 --stretch 2,98 --classes "water, forest, field" --out labels.tif

IMAGE is a file, a folder or a quoted glob; any number of them. A film is segmented frame by frame: its overlays become
a film again, with one legend and colours that stay; other formats get a file per frame, or a row. A GeoTIFF of any size
is read in tiles when bands, a stretch or a tile's size are given, and gives a GeoTIFF of class indices.

Words are separated by commas, synonyms of one class by semicolons ("sofa; couch, cat"); or a class file (one class per
line, CVAT's labelmap.txt, JSON, YAML, CSV, ...), or the name of a packaged vocabulary ("ade20k").
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from ovseg.cli._formats import FORMATS, Source, Writer, label_file, parse_formats, writers_of
from ovseg.cli._model import add_model_options, load_model
from ovseg.cli._output import emit, say
from ovseg.cli._scene import add_scene_arguments, is_scene, run_scene
from ovseg.cli._status import DONE, PART
from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg import SegmentationResult, Segmenter

# Photos that no reader here opens: they are tried all the same, so that the error says what to do about them.
_FOREIGN = (".heic", ".heif", ".avif", ".jp2", ".jxl")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "segment",
        help="segment photos with your own words",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="file, folder or quoted glob")
    add_model_options(parser)
    parser.add_argument(
        "--out", help="file for one photo (default: out.png) or film (out.mp4), folder for several (default: out)"
    )
    parser.add_argument(
        "--format", default="overlay", help=f"what to write, with commas: {', '.join(FORMATS)} (default: overlay)"
    )
    parser.add_argument("--labels", action="store_true", help="as --format overlay,labels")
    parser.add_argument("--alpha", type=float, default=0.5, help="opacity of the colours, 0 to 1")
    add_scene_arguments(parser)
    parser.set_defaults(run=run)


def find_images(patterns: Sequence[str]) -> tuple[list[Path], str]:
    """Files that ``patterns`` name, each once; a folder gives the photos in it.

    Hidden files are taken only by their full name.

    Returns:
        the files, and one line about what lies in the folders and was left out (empty: nothing).

    Raises:
        SetupError: for a pattern without a photo.
    """
    from ovseg.datasets.files import dangling, find_files

    found: dict[Path, None] = {}
    left_out: Counter[str] = Counter()
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            files = [p for p in sorted(path.iterdir()) if not p.name.startswith(".")]
            # a link that leads nowhere is taken too: reading it fails and says so
            here = [p for p in files if (p.is_file() or dangling(p)) and p.suffix.lower() in image_suffixes()]
            left_out.update("folder" if p.is_dir() else (p.suffix.lower() or "without suffix") for p in files)
            left_out.subtract(p.suffix.lower() for p in here)
        else:
            here = find_files(pattern).files
        if not here:
            raise SetupError(f"no image found at {pattern!r}; give a file, a folder with images or a quoted glob")
        found.update(dict.fromkeys(here))
    kinds = ", ".join(f"{n} x {kind}" for kind, n in sorted(left_out.items()) if n > 0)
    return list(found), f"left out, no photos by their names: {kinds}" if kinds else ""


def image_suffixes() -> set[str]:
    """Endings of the names of photos, lower case: what the reader opens, and other kinds that it tells about."""
    from PIL import Image

    from ovseg.datasets.io import IMAGE_FORMATS

    Image.init()
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in IMAGE_FORMATS} | {*_FOREIGN}


def targets(images: list[Path], out: str | None, several: bool) -> list[Path]:
    """Where the overlay of each photo or film goes; no two, and none of their label files, share a name.

    Raises:
        SetupError: if ``out`` is a file, but a folder is needed.

    >>> targets([Path("a.jpg")], "b.png", several=False)
    [PosixPath('b.png')]
    >>> targets([Path("x/a.jpg"), Path("x/a.png"), Path("x/y/a.jpg")], "out", several=True)
    [PosixPath('out/a.png'), PosixPath('out/a_png.png'), PosixPath('out/y/a.png')]
    """
    folder = Path(out or ("out" if several else "out.png"))
    if several and (folder.is_file() or folder.suffix.lower() in (".png", ".jpg", ".jpeg")):
        raise SetupError(f"--out {out}: a folder is needed for several photos, this names a file")
    if not several and not folder.is_dir() and folder.suffix and not (out or "").endswith(("/", "\\")):
        return [folder]
    top = Path(os.path.commonpath([os.path.abspath(p.parent) for p in images]))
    found: list[Path] = []
    used: set[Path] = set()
    for image in images:
        target = folder / Path(os.path.abspath(image)).relative_to(top).with_suffix(".png")
        number = 0
        while used & {target, label_file(target)}:
            number += 1
            ending = image.suffix[1:] if number == 1 else f"{image.suffix[1:]}_{number}"
            target = target.with_name(f"{image.stem}_{ending}.png")
        used |= {target, label_file(target)}
        found.append(target)
    return found


def run(args: argparse.Namespace) -> int:
    """Segment; returns the exit status."""
    from ovseg.cli import _film
    from ovseg.datasets.io import HOW_TO_READ_LARGER
    from ovseg.engine.memory import keep_freed_memory

    keep_freed_memory()
    if is_scene(args):
        return run_scene(args)
    if not 0 <= args.alpha <= 1:
        raise SetupError(f"--alpha {args.alpha}: give a number from 0 to 1")
    formats = parse_formats(args.format)
    if args.labels:
        formats = tuple(dict.fromkeys((*formats, "labels")))
    images, left_out = find_images(args.images)
    several = len(images) > 1 or Path(args.images[0]).is_dir()
    is_film = [image.suffix.lower() in _film.SUFFIXES for image in images]
    out = args.out or ("out" if several else "out.mp4" if is_film[0] else "out.png")
    places = targets(images, out, several)
    named = zip(places, is_film, strict=True)
    places = [p.with_suffix(".mp4") if film and p.suffix.lower() == ".png" else p for p, film in named]
    together = Path(out) if several else places[0]
    model = load_model(args)
    writers = writers_of(formats, model.model.require_vocabulary().display_names, args.alpha, together, several)
    if left_out:
        say(left_out, "yellow")
    names = relative_names(images)
    jobs = list(zip(images, names, places, is_film, strict=True))
    failed = 0
    try:
        for path, name, target, film in track(
            jobs, description="segmenting", console=Console(stderr=True), disable=not several or any(is_film)
        ):
            try:
                if film:
                    segment_film(model, path, name, target, writers, args.alpha)
                else:
                    segment_photo(model, path, Source(name, target), writers)
            except (OSError, ValueError) as error:
                failed += 1
                why = str(error).replace(HOW_TO_READ_LARGER, _in_tiles(path))
                say(f"skipped: {why}", "red")
                emit("failed", photo=path, error=why)
    finally:
        closed = {kind: writer.close() for kind, writer in writers.items()}
    files = {kind: file for kind, file in closed.items() if file is not None}
    for kind, file in files.items():
        say(f"{kind}: {file}", stderr=False)
    if failed:
        say(f"{failed} of {len(images)} images skipped", "red")
    emit("summary", photos=len(images), failed=failed, files=files, protocol=model.protocol)
    return PART if failed else DONE


def _in_tiles(path: Path) -> str:
    """What to do with a picture that is too large to be segmented whole."""
    return ", or have it read in tiles: --tile 640" if path.suffix.lower() in (".tif", ".tiff") else ""


def relative_names(images: Sequence[Path]) -> list[str]:
    """Names of files below the folder that holds them all, with forward slashes.

    >>> relative_names([Path("x/a.jpg"), Path("x/y/b.jpg")])
    ['a.jpg', 'y/b.jpg']
    """
    top = os.path.commonpath([os.path.abspath(p.parent) for p in images])
    return [Path(os.path.abspath(p)).relative_to(top).as_posix() for p in images]


def segment_photo(model: Segmenter, path: Path, source: Source, writers: dict[str, Writer]) -> None:
    """One photo: segment, write, print a table."""
    result = model.segment(path, confidence=True)
    files = write_all(writers, source, result)
    shown = files.get("overlay") or next(iter(files.values()), None)
    title = path.name if shown is None else f"{path.name} -> {shown}"
    table = Table("class", "share", "confidence", title=Text(title))
    for row in result.table():
        table.add_row(Text(str(row["name"])), f"{row['share']:.1%}", f"{row['confidence']:.2f}")
    Console().print(table)
    height, width = result.labels.shape
    emit("photo", photo=path, height=height, width=width, classes=result.table(), files=files)


def write_all(writers: dict[str, Writer], source: Source, result: SegmentationResult) -> dict[str, Path]:
    """Write a result in all formats; returns the files that are its own."""
    written = {kind: writer.write(source, result) for kind, writer in writers.items()}
    return {kind: path for kind, path in written.items() if path is not None}


def segment_film(
    model: Segmenter, path: Path, name: str, target: Path, writers: dict[str, Writer], alpha: float
) -> None:
    """A film frame by frame: overlays to ``target``, other formats per frame in a folder of its name.

    Raises:
        FilmError: for a film that is broken; what was read before is written.
    """
    from ovseg import FailedPhoto
    from ovseg.cli._film import FilmReader, FilmWriter

    reader = FilmReader(path)
    others = {kind: writer for kind, writer in writers.items() if kind != "overlay"}
    out = (
        FilmWriter(target, reader.fps, model.model.require_vocabulary().display_names, alpha)
        if "overlay" in writers
        else None
    )
    pixels: Counter[str] = Counter()
    number, shape = 0, (0, 0)
    outcomes: Iterable = model.stream(reader, channel_order="bgr", confidence=bool(others))
    try:
        for result in track(outcomes, path.name, total=reader.frames or None, console=Console(stderr=True)):
            if isinstance(result, FailedPhoto):
                raise result.error
            if out is not None:
                out.write(result.image, result.labels)
            frame = target.with_suffix("") / f"{number:06d}.png"
            source = Source(f"{name}/{number:06d}.png", frame, number, number / reader.fps)
            write_all(others, source, result)
            pixels.update({row["name"]: row["pixels"] for row in result.table()})
            number, shape = number + 1, result.labels.shape
    finally:
        if out is not None:
            out.close()
    shares = [{"name": n, "share": count / pixels.total()} for n, count in pixels.most_common()]
    table = Table("class", "share", title=Text(f"{path.name}: {number} frames" + (f" -> {target}" if out else "")))
    for row in shares:
        table.add_row(Text(str(row["name"])), f"{row['share']:.1%}")
    Console().print(table)
    files = {"overlay": target} if out is not None and number else {}
    emit("film", film=path, frames=number, fps=reader.fps, height=shape[0], width=shape[1], classes=shares, files=files)
    reader.check()
