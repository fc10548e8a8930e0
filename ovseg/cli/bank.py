"""``ovseg bank``: build a memory bank of regions from unlabelled photos (CorrCLIPv2).

    ovseg bank CONFIG --images "photos/*.jpg" --out my_bank
    ovseg bank CONFIG --images list.txt --out my_bank        # a text file names one photo a line

The config is a method's with a guide of the whole photo and regions (``configs/corrclipv2``): its guide makes the keys,
its CLIP the values. As in the official code the values' attention is led by another guide, which sees the windows:
``--value-guide``. The same command again goes on where a killed one stopped, and leaves out photos that the bank knows
by their content.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from ovseg.cli._arguments import add_cfg_options
from ovseg.cli._output import emit, say
from ovseg.cli._status import DONE, PART

if TYPE_CHECKING:
    from mmengine.config import Config

    from ovseg.segmentors.bank import RegionReader


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "bank",
        help="build a memory bank of regions from photos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="config with model.guide = dict(type='PhotoGuide', ...) and model.regions")
    parser.add_argument("--images", required=True, help="quoted glob of photos, or a .txt file of paths")
    parser.add_argument("--out", required=True, help="folder of the bank")
    parser.add_argument("--store", default="main", help="name of the values (default: main)")
    parser.add_argument("--short-side", type=int, default=448, help="photos are resized to it for the values")
    parser.add_argument(
        "--value-guide", default="dino/vitb8", help="weights of the values' guide (default: dino/vitb8, q + k)"
    )
    parser.add_argument("--shard", type=int, default=256, help="photos of one shard (default: 256)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    add_cfg_options(parser)
    parser.set_defaults(run=run)


def photos(images: str) -> list[Path]:
    """Paths of the photos, in the order of their names without ending, as the official builder's.

    Raises:
        FileNotFoundError: if there are none.
    """
    from ovseg.datasets.files import find_files

    if images.endswith(".txt"):
        folder = Path(images).parent
        lines = Path(images).read_text(encoding="utf-8").splitlines()
        found = [folder / line.strip() for line in lines if line.strip()]
    else:
        found = list(find_files(images).files)
    if not found:
        raise FileNotFoundError(f"no photo matches {images!r}")
    return sorted(found, key=lambda path: (path.stem, str(path)))


def reader(config: Config, value_guide: str, device: str) -> RegionReader:
    """The parts that make keys and values.

    Raises:
        SetupError: for a config without a guide of the whole photo, or without regions.
    """
    from ovseg.errors import SetupError
    from ovseg.registry import GUIDES, MODELS
    from ovseg.segmentors.bank import RegionReader
    from ovseg.structures import resolve_device

    model = config.model.copy()
    if (model.get("guide") or {}).get("type") != "PhotoGuide" or not model.get("regions"):
        raise SetupError(
            f"config {config.filename} needs model.guide of type PhotoGuide and model.regions to make a bank"
        )
    guide = GUIDES.build(model.pop("guide"))
    model.update(
        guide=dict(type="DinoBackbone", weights=value_guide, feature="q+k", pos_embed="scale"),
        vocabulary=None,
        stitch=None,
    )
    place = resolve_device(device)
    return RegionReader(guide.to(place).eval(), MODELS.build(model).to(place).eval())


def run(args: argparse.Namespace) -> int:
    """Add what the bank does not hold; returns the exit status."""
    import torch
    from mmengine.registry import init_default_scope

    from ovseg.datasets.errors import ImageReadError
    from ovseg.datasets.io import read_image
    from ovseg.datasets.transforms import resize_short_side
    from ovseg.engine import load_config
    from ovseg.engine.runner import named_setup_errors
    from ovseg.retrieval import BankWriter

    config = load_config(args.config, args.cfg_options)
    init_default_scope(config.get("default_scope", "ovseg"))
    paths = photos(args.images)
    with named_setup_errors(config):
        regions = reader(config, args.value_guide, args.device)
    width, values = regions.guide.source.tower.width, regions.segmentor.backbone.tower.embed_dim
    provenance = {**regions.provenance(), "short_side": args.short_side}
    writer = BankWriter(args.out, width, {args.store: values}, provenance, args.shard)
    failed = added = 0
    for path in track(paths, description="bank", console=Console(stderr=True)):
        try:
            image = read_image(str(path))
        except ImageReadError as error:
            failed += 1
            say(f"skipped: {error}", "red")
            continue
        content = hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()
        if writer.has(content):
            continue
        original = torch.from_numpy(image).permute(2, 0, 1)
        resized = torch.from_numpy(resize_short_side(image, args.short_side)).permute(2, 0, 1)
        photo = regions.segmentor.prepare(resized, tuple(image.shape[:2]), original)
        keys, rows = regions.read(photo)
        writer.add(content, keys, {args.store: rows})
        added += 1
    writer.flush()
    emit("bank", folder=args.out, added=added, failed=failed, known=len(paths) - added - failed)
    say(f"{added} photos added, {failed} could not be read; bank {args.out}")
    return PART if failed else DONE
