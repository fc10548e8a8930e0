"""``ovseg masks``, ``tools/make_masks.py``: fill the mask cache ahead of an evaluation.

    ovseg masks CONFIG
    ovseg masks CONFIG --images "photos/*.jpg" --part 1/4

The masks are those that the config's ``model.regions`` (a ``CachedRegions``) will ask for, of the photos of the
config's test data set or of the given files. Photos that are in the cache already cost only their reading. Start it
several times with ``--part 1/4`` ... ``--part 4/4`` to share the work between processes or machines with a common
folder.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from ovseg.cli._arguments import add_cfg_options
from ovseg.cli._output import emit, say
from ovseg.cli._status import DONE, PART

if TYPE_CHECKING:
    from mmengine.config import Config


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "masks",
        help="make the region masks of photos ahead of an evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="config with model.regions = dict(type='CachedRegions', ...)")
    parser.add_argument("--images", help="quoted glob of photos, instead of the config's data set")
    parser.add_argument("--part", default="1/1", help="I/N: only every N-th photo, beginning with the I-th")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    add_cfg_options(parser)
    parser.set_defaults(run=run)


def photos(config: Config, pattern: str | None) -> list[str]:
    """Paths of the photos.

    Raises:
        FileNotFoundError: if the pattern matches nothing.
        SetupError: if the config has no test data set.
    """
    from ovseg.datasets.files import find_files
    from ovseg.errors import SetupError
    from ovseg.registry import DATASETS

    if pattern is None:
        if config.get("test_dataloader") is None:
            raise SetupError(f"config {config.filename} has no test_dataloader: give the photos with --images")
        dataset = DATASETS.build(config.test_dataloader.dataset)
        return [dataset.get_data_info(i)["img_path"] for i in range(len(dataset))]
    found = [str(path) for path in find_files(pattern).files]  # links that lead nowhere fail by name when read
    if not found:
        raise FileNotFoundError(f"no photo matches {pattern!r}")
    return found


def share(paths: list[str], part: str) -> list[str]:
    """The photos of one process.

    Raises:
        SetupError: for a part that is not I/N with 1 <= I <= N.

    >>> share(["a", "b", "c"], "2/2")
    ['b']
    """
    from ovseg.errors import SetupError

    index, _, count = part.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise SetupError(f"--part {part!r}: write I/N with 1 <= I <= N, e.g. 1/4")
    return paths[int(index) - 1 :: int(count)]


def run(args: argparse.Namespace) -> int:
    """Make what is missing; returns the exit status."""
    from mmengine.registry import init_default_scope

    from ovseg.datasets.errors import ImageReadError
    from ovseg.datasets.io import read_image
    from ovseg.engine import SetupError, load_config
    from ovseg.engine.runner import named_setup_errors
    from ovseg.registry import REGIONS
    from ovseg.structures import resolve_device

    config = load_config(args.config, args.cfg_options)
    settings = (config.get("model") or {}).get("regions")
    if not settings or settings.get("type") != "CachedRegions":
        raise SetupError(f"config {args.config} has no model.regions of type CachedRegions: nothing to cache")
    init_default_scope(config.get("default_scope", "ovseg"))
    with named_setup_errors(config):
        paths = share(photos(config, args.images), args.part)
        cache = REGIONS.build(settings).to(resolve_device(args.device))
    failed = made = 0
    for path in track(paths, description="masks", console=Console(stderr=True)):
        try:
            image = read_image(path)
        except ImageReadError as error:
            failed += 1
            say(f"skipped: {error}", "red")
            continue
        if not cache.path_of(image).is_file():
            cache.masks(image)
            made += 1
    emit("masks", photos=len(paths), made=made, failed=failed, folder=cache.folder)
    say(f"{made} new, {failed} photos could not be read; folder {cache.folder}")
    return PART if failed else DONE
