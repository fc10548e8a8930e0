"""``ovseg data convert``: any annotations as label PNGs and a class file; photos out of tars and tables.

    ovseg data convert --images photos --masks coco.json --out converted
    ovseg data convert --images photos --masks coloured --colours labelmap.txt --out converted
    ovseg data convert data/train-*.parquet --mask annotation --out unpacked     # Hugging Face, bytes in columns
    ovseg data convert shards --out unpacked                                     # webdataset's tars
    ovseg data convert --packed shards --colours labelmap.txt --out converted    # their label maps as class indices

COCO, LabelMe, Supervisely and masks of colours become PNGs of class indices (8 bits, 16 above 255 classes), with the
classes in classes.txt. Tars, parquet and arrow files are unpacked: their pictures are written as they are.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console

from ovseg.cli._arguments import count
from ovseg.cli._folder import add_folder_arguments, folder_config, is_folder
from ovseg.cli._output import emit, say
from ovseg.cli._status import DONE, PART
from ovseg.errors import SetupError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "convert",
        help="annotations of any tool to label PNGs; tars and parquet to files",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="*", type=Path, metavar="FILE", help="tar, parquet or arrow files, or folders")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; existing files are written anew")
    parser.add_argument("--workers", type=count, default=min(4, os.cpu_count() or 1), help="threads")
    add_folder_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert; returns the exit status."""
    from ovseg.datasets.convert import ConversionError

    folder = is_folder(args)
    if folder == bool(args.sources):
        raise SetupError(
            "convert a folder by --images and --masks, label maps by --packed, or unpack tar, parquet and arrow files: "
            "one of them"
        )
    try:
        return _convert(args) if folder else _unpack(args)
    except ConversionError as error:
        raise SetupError(str(error)) from error


def _convert(args: argparse.Namespace) -> int:
    from ovseg.cli._data_check import _build
    from ovseg.datasets.convert.folder import convert_dataset

    pipeline = [dict(type="LoadImage"), dict(type="LoadMask")]
    dataset = _build({**folder_config(args), "pipeline": pipeline})
    if (
        args.images is not None
        and (args.out / "masks").resolve() == (dataset.root / (dataset.mask_dir or "")).resolve()
    ):
        raise SetupError(f"--out {args.out}: its masks are what is to be converted")
    for note in dataset.notes:
        say(note, "yellow")
    classes, failures = convert_dataset(dataset, args.out, Console(stderr=True), args.workers)
    return _told(args, len(dataset) - len(failures), failures, args.images or args.packed, classes)


def _unpack(args: argparse.Namespace) -> int:
    from ovseg.datasets.convert.records import unpack

    done = unpack(args.sources, args.out, args.image, args.mask, args.key)
    return _told(args, done.samples, dict(done.failures), args.out / "images", None)


def _told(
    args: argparse.Namespace, samples: int, failures: dict[str, str], images: Path | str, classes: Path | None
) -> int:
    for source, reason in failures.items():
        say(f"not converted: {source}: {reason}", "red", stderr=False)
    masks = args.out / "masks"
    say(f"{samples} label maps in {masks}", "green" if samples else None, stderr=False)
    if samples and args.packed is None:
        say(f"ovseg data check --images {images} --masks {masks} --classes {classes or 'FILE'}", "dim", stderr=False)
    emit("converted", samples=samples, images=images, masks=masks, classes=classes, failures=failures)
    return PART if failures or not samples else DONE
