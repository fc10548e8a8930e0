"""``ovseg bench``: how long a method takes for your photo on this machine, stage by stage.

    ovseg bench photo.jpg --classes "cat, sofa; couch, grass"
    ovseg bench photo.jpg --classes ade20k --method trident --model openai/ViT-B-16 --precision bf16 --repeats 10

Without a photo one of 500 x 375 random pixels is taken (--size gives another). Methods are compared with the
straightforward way of running them by tools/benchmark.py of a checkout, whose figures stand in docs/benchmark.md.
"""

from __future__ import annotations

import argparse
import statistics

from rich.table import Table
from rich.text import Text

from ovseg.cli._arguments import count
from ovseg.cli._model import add_model_options, load_model
from ovseg.cli._output import console, emit, print_pairs
from ovseg.cli._status import DONE


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "bench",
        help="how long a method takes for your photo on this machine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photo", nargs="?", help="file or address (default: random pixels)")
    add_model_options(parser)
    parser.add_argument(
        "--size", type=pixels, default=(500, 375), help="WIDTHxHEIGHT of random pixels (default: 500x375)"
    )
    parser.add_argument("--repeats", type=count, default=5, help="photos measured after a first one (default: 5)")
    parser.add_argument("--threads", type=count, help="of torch on the CPU (default: torch's own)")
    parser.set_defaults(run=run)


def pixels(text: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT``, as argparse's ``type``.

    >>> pixels("500x375")
    (500, 375)
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write WIDTHxHEIGHT, e.g. 500x375")
    return int(width), int(height)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    import numpy as np
    import torch

    from ovseg.engine.memory import keep_freed_memory
    from ovseg.timing import time_stages

    keep_freed_memory()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    model = load_model(args)
    width, height = args.size
    random = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = time_stages(model, random if args.photo is None else args.photo, args.repeats)
    classes = len(model.model.require_vocabulary())
    total = statistics.median(found.total_ms)
    table = Table(box=None, header_style="bold")
    for column in ("stage", "ms", "share"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    whole = sum(found.stages.values())
    for name, ms in found.stages.items():
        table.add_row(Text(name), f"{ms:.1f}", f"{ms / whole:.0%}")
    console().print(table)
    shape = f"{found.size[1]} x {found.size[0]}"
    print_pairs(
        (
            ("photo", f"{shape} pixels, {found.windows} windows, {classes} classes"),
            ("a photo", f"{total:.1f} ms (median of {len(found.total_ms)}; least {min(found.total_ms):.1f})"),
            ("the first", f"{found.first_ms:.1f} ms"),
            ("the words", f"{found.words_ms:.1f} ms, once per vocabulary"),
            ("memory", f"{found.peak_mib:.0f} MiB at most"),
            ("precision", found.precision),
            ("device", f"{found.device}, {found.threads} threads"),
        )
    )
    emit(
        "bench",
        photo=args.photo,
        height=found.size[0],
        width=found.size[1],
        windows=found.windows,
        classes=classes,
        stages=found.stages,
        median_ms=total,
        total_ms=found.total_ms,
        first_ms=found.first_ms,
        words_ms=found.words_ms,
        peak_mib=found.peak_mib,
        precision=found.precision,
        device=found.device,
        threads=found.threads,
        protocol=model.protocol,
    )
    return DONE
