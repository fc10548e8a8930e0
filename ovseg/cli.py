"""Command line of ovseg: ``python -m ovseg`` or ``ovseg``.

Exit status: 0 done, 1 failed with a message, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ovseg import __version__

if TYPE_CHECKING:
    from ovseg.weights import WeightCard

# ovseg.weights imports torch, open_clip and timm, which takes seconds: `--help` must not wait for them.

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmsegmentation",
    "timm",
    "open_clip_torch",
    "segment-anything",
    "safetensors",
    "opencv-python",
    "pycocotools",
    "transformers",
    "cupy-cuda13x",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status; expected errors are printed without a traceback."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        sys.stdout = None
        return 0
    except Exception as error:
        if not _expected(error):
            raise
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
        return 1


def _expected(error: Exception) -> bool:
    from ovseg.weights.errors import WeightsError

    return isinstance(error, (WeightsError, OSError))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ovseg", description="Open-vocabulary semantic segmentation.")
    parser.add_argument("--version", action="version", version=f"ovseg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    env = commands.add_parser("env", help="versions, threads, GPUs and back-ends, for bug reports")
    env.set_defaults(run=_env)

    weights = commands.add_parser("weights", help="list, fetch and check weights")
    verbs = weights.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="the catalogue")
    listing.add_argument("--kind", choices=("clip", "dino", "sam", "heads"), help="only models of one kind")
    listing.add_argument("--here", action="store_true", help="only what is on this machine")
    listing.set_defaults(run=_weights_list)
    show = verbs.add_parser("show", help="everything about one entry")
    show.add_argument("name")
    show.set_defaults(run=_weights_show)
    fetch = verbs.add_parser("fetch", help="download what is not on this machine")
    fetch.add_argument("names", nargs="+", metavar="NAME")
    fetch.set_defaults(run=_weights_fetch)
    verify = verbs.add_parser("verify", help="compare hashes, read files, fit them into their models")
    verify.add_argument("targets", nargs="*", metavar="NAME|PATH", help="default: all that is on this machine")
    verify.set_defaults(run=_weights_verify)
    docs = verbs.add_parser("docs", help="the catalogue as a Markdown page")
    docs.add_argument("--output", type=Path, help="file to write (default: standard output)")
    docs.set_defaults(run=_weights_docs)
    return parser


def _weights_list(args: argparse.Namespace) -> int:
    from ovseg.weights import catalogue
    from ovseg.weights.resolve import find_local

    table = Table(box=None, header_style="bold")
    for column in ("name", "family", "licence", "commercial", "pixels", "here"):
        table.add_column(column, no_wrap=column == "name", justify="right" if column == "pixels" else "left")
    colours = {"yes": "green", "no": "red", "ask": "yellow"}
    for card in catalogue().values():
        here = find_local(card) is not None
        if (args.kind and card.kind != args.kind) or (args.here and not here):
            continue
        colour = colours[card.commercial]
        row = (card.name, card.family, card.licence, f"[{colour}]{card.commercial}[/]", str(card.image_size))
        table.add_row(*row, "yes" if here else "")
    _console().print(table)
    return 0


def _weights_show(args: argparse.Namespace) -> int:
    from ovseg.weights import get_card
    from ovseg.weights.hashes import cache_dir
    from ovseg.weights.resolve import find_local

    card = get_card(args.name)
    found = find_local(card)
    _print_pairs(
        (
            ("name", card.name),
            ("family", f"{card.family}, loaded with ovseg.weights.load_{card.kind}"),
            ("architecture", card.arch),
            ("activation", "QuickGELU" if card.quickgelu else "GELU"),
            ("image size", f"{card.image_size} pixels"),
            ("mean", card.mean),
            ("std", card.std),
            ("licence", f"{card.licence} (commercial use: {card.commercial})"),
            *(("source", source.url) for source in card.sources),
            ("SHA-256", next((s.sha256 for s in card.sources if s.sha256), "not stated in the catalogue")),
            ("size", _size(card)),
            ("page", card.home or "-"),
            ("notes", card.notes or "-"),
            ("here", found[0] if found else f"no; would be put at {cache_dir() / card.filename}"),
        )
    )
    return 0


def _size(card: WeightCard) -> str:
    return f"{card.size:,} bytes" if card.size else "not stated in the catalogue"


def _weights_fetch(args: argparse.Namespace) -> int:
    from ovseg.weights import file_sha256, get_card, resolve

    cards = [get_card(name) for name in args.names]  # all names are checked before the first download
    for card in cards:
        path = resolve(card.name)
        print(f"{card.name}  {path}  sha256 {file_sha256(path)}")
    return 0


def _weights_verify(args: argparse.Namespace) -> int:
    from ovseg.weights import WeightsError, catalogue
    from ovseg.weights.resolve import find_local

    targets = args.targets or [card.name for card in catalogue().values() if find_local(card)]
    failed = 0
    for target in targets:
        try:
            print(f"ok      {_verify_one(target)}", flush=True)
        except WeightsError as error:
            failed += 1
            print(f"FAILED  {target}: {error}", flush=True)
    if not targets:
        print("no weights of the catalogue are on this machine")
    return 1 if failed else 0


def _verify_one(target: str) -> str:
    """One line about a name of the catalogue or a file. Raises WeightsError."""
    from ovseg.weights import catalogue, file_sha256, load_state_dict, resolve
    from ovseg.weights.load import build_model
    from ovseg.weights.resolve import find_local, verify_hash
    from ovseg.weights.signatures import describe

    card = catalogue().get(target)
    if card is None:
        weights = load_state_dict(target)
        return f"{target}: {describe(weights)}, {len(weights)} tensors, sha256 {file_sha256(target)}"
    path = resolve(target, fetch=False)
    found = find_local(card)
    compared = verify_hash(path, found[1] if found else None)
    build_model(card, path)
    against = "as published" if compared else "nothing published to compare with"
    return f"{target}: {path} fits {card.arch}, sha256 {file_sha256(path)} ({against})"


def _weights_docs(args: argparse.Namespace) -> int:
    from ovseg.weights.docs import render

    if args.output is None:
        print(render(), end="")
    else:
        args.output.write_text(render(), encoding="utf-8")
    return 0


def _env(args: argparse.Namespace) -> int:
    import torch

    from ovseg.weights.hashes import cache_dir

    pairs = [("ovseg", __version__), ("python", platform.python_version()), ("platform", platform.platform())]
    pairs += [(name, _version(name)) for name in _PACKAGES]
    pairs += [
        ("threads", f"{torch.get_num_threads()} (inter-op {torch.get_num_interop_threads()})"),
        ("CPU", torch.backends.cpu.get_cpu_capability()),
        ("CUDA", _cuda()),
        ("CuPy", _cupy()),
        ("weights", cache_dir()),
    ]
    _print_pairs(pairs)
    if importlib.util.find_spec("ovseg.ops") is not None:
        report = getattr(importlib.import_module("ovseg.ops"), "backend_report", None)
        if report is not None:
            _print_operators(report())
    return 0


def _print_operators(rows: Iterable[Mapping[str, str]]) -> None:
    table = Table(box=None, header_style="bold", title="operators", title_justify="left")
    for column in ("operator", "backend", "reasons"):
        table.add_column("why not a faster one" if column == "reasons" else column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(row[column]) for column in ("operator", "backend", "reasons")))
    _console().print(table)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"not available (torch built for {torch.version.cuda or 'the CPU only'})"
    devices = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return f"{torch.version.cuda}: {', '.join(devices)}"


def _cupy() -> str:
    if importlib.util.find_spec("cupy") is None:
        return "not installed: the CUDA operators are not available"
    cupy = importlib.import_module("cupy")
    return f"{cupy.__version__}, " + ("available" if cupy.is_available() else "installed, but sees no GPU")


def _print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in pairs:
        table.add_row(key, escape(str(value)))
    _console().print(table)


def _console() -> Console:
    """Full lines when the output goes into a file or another program, where 80 columns would cut names and hashes."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)
