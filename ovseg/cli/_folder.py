"""Arguments that describe a folder of photos and one of label maps, or files that hold both, shared by commands."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ovseg.errors import SetupError


def add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    """``--images --masks --classes``, ``--packed --classes``, and how labels are read."""
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
    group = parser.add_argument_group("tars and tables as data set")
    group.add_argument("--packed", metavar="SOURCE", help="webdataset's tars, parquet or arrow: file, folder, 'glob'")
    group.add_argument("--image", help="column of the photos, or their ending in tars (default: found)")
    group.add_argument("--mask", help="column of the label maps, or their ending in tars, e.g. seg.png")
    group.add_argument("--key", help="column of the samples' names (default: file and number)")


def is_folder(args: argparse.Namespace) -> bool:
    """Whether a folder, or tars and tables, were described.

    Raises:
        SetupError: if only half of it was, or both.
    """
    images, masks, classes = (getattr(args, name) is not None for name in ("images", "masks", "classes"))
    if args.packed is not None:
        _refuse_with_packed(args)
        return True
    if images != masks or (classes and not images):
        missing = "--masks" if images else "--images"
        raise SetupError(
            f"a folder as data set needs --images, --masks and mostly --classes (tars and tables: --packed); {missing} "
            "is missing"
        )
    return images


def _refuse_with_packed(args: argparse.Namespace) -> None:
    given = [
        name for name in ("images", "masks", "img_suffix", "mask_suffix", "pairs", "unlabelled") if getattr(args, name)
    ]
    if given:
        option = given[0].replace("_", "-")
        raise SetupError(f"--{option} is for folders: leave it out with --packed (there are --image, --mask and --key)")
    if args.annotations not in (None, "labels", "colours"):
        raise SetupError(f"--annotations {args.annotations} is for folders; packed label maps are labels or colours")
    if args.annotations == "colours" and args.colours is None:
        raise SetupError("--annotations colours needs the table of colours: --colours")


def folder_name(args: argparse.Namespace) -> str:
    """What the data are called among results: the last two parts of their path."""
    if args.packed is None:
        return "_".join(args.images.resolve().parts[-2:])
    plain = args.packed.rpartition("://")[2].rstrip("/")
    parts = Path(plain if "://" in args.packed else Path(plain).absolute()).parts[-2:]
    return "_".join(re.sub(r"[^\w.-]+", "-", part) for part in parts if part != "/")


def folder_config(args: argparse.Namespace) -> dict[str, object]:
    """Config of the data set that the arguments describe.

    Raises:
        SetupError: for a label map that is none.
        DatasetNotFound: see :func:`ovseg.datasets.folder.folder_dataset`.
    """
    from ovseg.datasets.folder import folder_dataset
    from ovseg.datasets.packed import packed_dataset

    try:
        pairs = [item.split("=") for item in args.label_map or ()]
        label_map = {int(label): int(target) for label, target in pairs}
    except ValueError:
        raise SetupError(f"--label-map {' '.join(args.label_map)}: write LABEL=CLASS, e.g. 255=1") from None
    shared = dict(
        split=args.split,
        colours=args.colours,
        reduce_zero_label=args.reduce_zero_label,
        ignore_index=args.ignore_index,
        label_map=label_map or None,
    )
    try:
        if args.packed is not None:
            return packed_dataset(args.packed, args.classes, image=args.image, mask=args.mask, key=args.key, **shared)
        return folder_dataset(
            args.images,
            args.masks,
            args.classes,
            img_suffix=args.img_suffix,
            mask_suffix=args.mask_suffix,
            pairs=args.pairs,
            annotations=args.annotations,
            unlabelled=args.unlabelled,
            **shared,
        )
    except ValueError as error:
        raise SetupError(str(error)) from error
