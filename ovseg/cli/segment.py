"""``ovseg segment``, ``demo/image_demo.py``: segment photos with your own words.

    ovseg segment photo.jpg --classes "cat, sofa, background" --model nano --out out.png
    ovseg segment photos/ --classes words.txt --out results/
    ovseg segment trip/*.jpg extra.png --classes "tree, road" --method sclip --model openai/ViT-B-16 --out results/

IMAGE is a file, a folder or a quoted glob; any number of them. Words are separated by commas, synonyms of one class by
semicolons ("sofa; couch, cat"); or a class file (one class per line, CVAT's labelmap.txt, JSON, YAML, CSV, ...), or the
name of a packaged vocabulary ("ade20k").
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from ovseg.cli._output import say
from ovseg.cli._status import DONE, PART
from ovseg.errors import SetupError

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
    parser.add_argument(
        "--classes", required=True, help="comma-separated words, a class file, or the name of a packaged vocabulary"
    )
    parser.add_argument(
        "--model", default="nano-photo", help="CLIP weights by catalogue name (default: nano-photo, embedded)"
    )
    parser.add_argument("--method", default="naclip", help="segmentation method (default: naclip)")
    parser.add_argument("--config", help="config file to use instead of --model and --method")
    parser.add_argument("--checkpoint", help="file with the CLIP weights")
    parser.add_argument("--background", help="name of the class that takes uncertain pixels")
    parser.add_argument(
        "--out", help="overlay file for one photo (default: out.png), folder for several (default: out)"
    )
    parser.add_argument("--labels", action="store_true", help="also write the class indices as PNG beside the overlay")
    parser.add_argument("--alpha", type=float, default=0.5, help="opacity of the colours, 0 to 1")
    parser.add_argument("--short-side", type=int, help="resize photos to this short side before segmenting")
    parser.add_argument("--device", help="cpu, cuda, ... (default: cuda where there is a GPU)")
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16", "int8"],
        help="number format of the encoders (default: as in the config, else auto: the fastest on this machine)",
    )
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
    """Where the overlay of each image goes; no two, and none of their label files, share a name.

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


def label_file(target: Path) -> Path:
    """The file for ``--labels`` beside an overlay."""
    return target.with_name(f"{target.stem}_labels.png")


def run(args: argparse.Namespace) -> int:
    """Segment; returns the exit status."""
    from ovseg import Segmenter, Vocabulary
    from ovseg.datasets.errors import DatasetNotFound
    from ovseg.engine.memory import keep_freed_memory

    keep_freed_memory()
    try:
        if not 0 <= args.alpha <= 1:
            raise SetupError(f"--alpha {args.alpha}: give a number from 0 to 1")
        images, left_out = find_images(args.images)
        several = len(images) > 1 or Path(args.images[0]).is_dir()
        jobs = list(zip(images, targets(images, args.out, several), strict=True))
        model = Segmenter(
            args.model,
            args.method,
            config=args.config,
            checkpoint=args.checkpoint,
            device=args.device,
            short_side=args.short_side,
            precision=args.precision,
        )
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            model.set_vocabulary(Vocabulary.from_argument(args.classes), background=args.background)
    except DatasetNotFound:
        raise
    except ValueError as error:  # words, devices, sides and methods that do not exist
        raise SetupError(str(error)) from error
    say(model.protocol, "dim")
    for warning in told:
        say(warning.message, "yellow")
    if left_out:
        say(left_out, "yellow")
    failed = 0
    for path, target in track(jobs, description="segmenting", console=Console(stderr=True), disable=not several):
        try:
            result = model.segment(path, confidence=True)
            result.save(target, alpha=args.alpha)
            if args.labels:
                result.save_labels(label_file(target))
        except (OSError, ValueError) as error:
            failed += 1
            say(f"skipped: {error}", "red")
            continue
        table = Table("class", "share", title=Text(f"{path.name} -> {target}"))
        if result.confidence is not None:
            table.add_column("confidence")
        for name, share in result.areas().items():
            sure = () if result.confidence is None else (f"{result.confidence[result.mask(name)].mean():.2f}",)
            table.add_row(Text(name), f"{share:.1%}", *sure)
        Console().print(table)
    if failed:
        say(f"{failed} of {len(images)} images skipped", "red")
    return PART if failed else DONE
