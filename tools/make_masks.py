"""Fill the mask cache ahead of an evaluation: ``python tools/make_masks.py CONFIG [--images GLOB] [--part I/N]``.

The masks are those that the config's ``model.regions`` (a ``CachedRegions``) will ask for, of the photos of the
config's test data set or of the given files. Photos that are in the cache already cost only their reading. Start it
several times with ``--part 1/4`` ... ``--part 4/4`` to share the work between processes or machines with a common
folder.
"""

from __future__ import annotations

import argparse
import glob
import sys
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track

from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.io import read_image
from ovseg.registry import DATASETS, REGIONS
from ovseg.weights import WeightsError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config with model.regions = dict(type='CachedRegions', ...)")
    parser.add_argument("--images", help="quoted glob of photos, instead of the config's data set")
    parser.add_argument("--part", default="1/1", help="I/N: only every N-th photo, beginning with the I-th")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override config entries, key=value")
    return parser.parse_args(argv)


def photos(config: Config, pattern: str | None) -> list[str]:
    """Paths of the photos.

    Raises:
        FileNotFoundError: if the pattern matches nothing.
    """
    if pattern is None:
        dataset = DATASETS.build(config.test_dataloader.dataset)
        return [dataset.get_data_info(i)["img_path"] for i in range(len(dataset))]
    found = sorted(p for p in glob.glob(pattern, recursive=True) if Path(p).is_file())
    if not found:
        raise FileNotFoundError(f"no photo matches {pattern!r}")
    return found


def share(paths: list[str], part: str) -> list[str]:
    """The photos of one process.

    Raises:
        ValueError: for a part that is not I/N with 1 <= I <= N.

    >>> share(["a", "b", "c"], "2/2")
    ['b']
    """
    index, _, count = part.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise ValueError(f"--part {part!r}: write I/N with 1 <= I <= N, e.g. 1/4")
    return paths[int(index) - 1 :: int(count)]


def main(argv: list[str] | None = None) -> int:
    """Make what is missing; 1 if a photo could not be read, 2 if nothing could be begun."""
    args, console = parse_args(argv), Console(stderr=True)
    config = Config.fromfile(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    settings = config.model.get("regions")
    if not settings or settings.type != "CachedRegions":
        console.print(f"[red]error:[/] {args.config} has no model.regions of type CachedRegions: nothing to cache")
        return 2
    init_default_scope(config.get("default_scope", "ovseg"))
    try:
        paths = share(photos(config, args.images), args.part)
        cache = REGIONS.build(settings).to(args.device)
    except (OSError, ValueError, ImportError, WeightsError) as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True, highlight=False)
        return 2
    failed = made = 0
    for path in track(paths, description="masks", console=console):
        try:
            image = read_image(path)
        except ImageReadError as error:
            failed += 1
            console.print(f"[red]skipped:[/] {error}", soft_wrap=True, highlight=False)
            continue
        if not cache.path_of(image).is_file():
            cache.masks(image)
            made += 1
    console.print(f"{made} new, {failed} photos could not be read; folder {cache.folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
