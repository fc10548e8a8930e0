"""Arguments that describe a folder of photos and one of label maps, shared by commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from ovseg.errors import SetupError


def add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    """``--images --masks --classes`` and how labels are read."""
    group = parser.add_argument_group("a folder as data set")
    group.add_argument("--images", type=Path, help="folder of photos; sub-folders are looked through")
    group.add_argument("--masks", type=Path, help="folder of label maps or annotation files, or a COCO file")
    group.add_argument("--classes", help="class file, or a packaged list such as voc21 (not needed for COCO, colours)")
    group.add_argument("--img-suffix", nargs="+", help="what photos end in (default: seen from the files)")
    group.add_argument("--mask-suffix", nargs="+", help="what label maps end in, e.g. _gt.png")
    group.add_argument("--split", type=Path, help="text file with the names to use")
    group.add_argument("--pairs", type=Path, help="text file: a photo and its label map per line")
    kinds = ("labels", "colours", "coco", "labelme", "supervisely")
    group.add_argument("--annotations", choices=kinds, help="how labels are kept (default: seen from the files)")
    group.add_argument("--colours", help="table of colours: labelmap.txt, a CSV, or voc")
    group.add_argument("--unlabelled", help="class of pixels without annotation, or ignore")
    group.add_argument("--reduce-zero-label", action="store_true", help="label 0 is ignored, k means class k - 1")
    group.add_argument("--ignore-index", type=int, help="label that does not count (default 255, or 65535)")
    group.add_argument("--label-map", nargs="+", metavar="LABEL=CLASS", help="labels in the files to classes: 255=1")


def is_folder(args: argparse.Namespace) -> bool:
    """Whether a folder was described.

    Raises:
        SetupError: if only half of it was.
    """
    images, masks, classes = (getattr(args, name) is not None for name in ("images", "masks", "classes"))
    if images != masks or (classes and not images):
        missing = "--masks" if images else "--images"
        raise SetupError(f"a folder as data set needs --images, --masks and mostly --classes; {missing} is missing")
    return images


def folder_config(args: argparse.Namespace) -> dict[str, object]:
    """Config of the data set that the arguments describe.

    Raises:
        SetupError: for a label map that is none.
        DatasetNotFound: see :func:`ovseg.datasets.folder.folder_dataset`.
    """
    from ovseg.datasets.folder import folder_dataset

    try:
        pairs = [item.split("=") for item in args.label_map or ()]
        label_map = {int(label): int(target) for label, target in pairs}
    except ValueError:
        raise SetupError(f"--label-map {' '.join(args.label_map)}: write LABEL=CLASS, e.g. 255=1") from None
    try:
        return folder_dataset(
            args.images,
            args.masks,
            args.classes,
            img_suffix=args.img_suffix,
            mask_suffix=args.mask_suffix,
            split=args.split,
            pairs=args.pairs,
            annotations=args.annotations,
            colours=args.colours,
            unlabelled=args.unlabelled,
            reduce_zero_label=args.reduce_zero_label,
            ignore_index=args.ignore_index,
            label_map=label_map or None,
        )
    except ValueError as error:
        raise SetupError(str(error)) from error
