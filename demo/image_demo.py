"""Segment photos with your own words.

    python demo/image_demo.py photo.jpg --classes "cat, sofa, background" --model nano --out out.png
    python demo/image_demo.py photos/ --classes words.txt --out results/
    python demo/image_demo.py "trip/*.jpg" --classes "tree, road" --method sclip --model openai/ViT-B-16 --out results/

IMAGE is one file, a folder or a quoted glob. Words are separated by commas, synonyms of one class by semicolons
("sofa; couch, cat"); or a class file (one class per line, CVAT's labelmap.txt, JSON, YAML, CSV, ...), or the name of a
packaged vocabulary ("ade20k").
"""

from __future__ import annotations

import argparse
import glob
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", help="file, folder or quoted glob")
    parser.add_argument(
        "--classes", required=True, help="comma-separated words, a class file, or the name of a packaged vocabulary"
    )
    parser.add_argument("--model", default="nano", help="CLIP weights by catalogue name (default: nano, embedded)")
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
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"])
    return parser.parse_args()


def find_images(pattern: str) -> list[Path]:
    """Files that ``pattern`` names; a folder gives the images in it.

    Raises:
        FileNotFoundError: if there are none.
    """
    path = Path(pattern)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    elif path.is_file():
        found = [path]
    else:
        found = sorted(Path(p) for p in glob.glob(pattern, recursive=True) if Path(p).is_file())
    if not found:
        raise FileNotFoundError(f"no image found at {pattern!r}; give a file, a folder with images or a quoted glob")
    return found


def targets(images: list[Path], out: str | None, several: bool) -> list[Path]:
    """Where the overlay of each image goes; no two, and none of their label files, share a name.

    >>> targets([Path("a.jpg")], "b.png", several=False)
    [PosixPath('b.png')]
    >>> targets([Path("x/a.jpg"), Path("x/a.png"), Path("x/y/a.jpg")], "out", several=True)
    [PosixPath('out/a.png'), PosixPath('out/a_png.png'), PosixPath('out/y/a.png')]
    """
    folder = Path(out or ("out" if several else "out.png"))
    if not several and not folder.is_dir() and folder.suffix and not (out or "").endswith(("/", "\\")):
        return [folder]
    top = Path(os.path.commonpath([os.path.abspath(p.parent) for p in images]))
    found, used = [], set()
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


def main() -> int:
    args = parse_args()
    console = Console(stderr=True)
    from ovseg import Segmenter, Vocabulary
    from ovseg.engine.memory import keep_freed_memory
    from ovseg.weights import WeightsError

    keep_freed_memory()
    try:
        images, classes = find_images(args.image), Vocabulary.from_argument(args.classes)
        model = Segmenter(
            args.model,
            args.method,
            config=args.config,
            checkpoint=args.checkpoint,
            device=args.device,
            short_side=args.short_side,
            precision=args.precision,
        )
        model.set_vocabulary(classes, background=args.background)
    except (OSError, ValueError, WeightsError) as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True, highlight=False)
        return 2

    several = len(images) > 1 or Path(args.image).is_dir()
    jobs = list(zip(images, targets(images, args.out, several), strict=True))
    failed = 0
    for path, target in track(jobs, description="segmenting", console=console, disable=not several):
        try:
            result = model.segment(path)
            result.save(target, alpha=args.alpha)
            if args.labels:
                result.save_labels(label_file(target))
        except (OSError, ValueError) as error:
            failed += 1
            console.print(f"[red]skipped:[/] {error}", soft_wrap=True, highlight=False)
            continue
        table = Table("class", "share", title=f"{path.name} -> {target}")
        for name, share in result.areas().items():
            table.add_row(name, f"{share:.1%}")
        Console().print(table)
    if failed:
        console.print(f"{failed} of {len(images)} images skipped", style="red")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
