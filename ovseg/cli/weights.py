"""``ovseg weights``: list, fetch and check weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ovseg.cli._output import console, emit, print_pairs
from ovseg.cli._status import PART

if TYPE_CHECKING:
    from ovseg.weights import WeightCard
    from ovseg.weights.needed import Need


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    weights = commands.add_parser("weights", help="list, fetch and check weights")
    weights.set_defaults(status_of_errors=PART)
    verbs = weights.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="the catalogue")
    listing.add_argument(
        "--kind", choices=("clip", "dino", "sam", "heads", "decoder", "masks"), help="only models of one kind"
    )
    listing.add_argument("--here", action="store_true", help="only what is on this machine")
    listing.set_defaults(run=run_list)
    show = verbs.add_parser("show", help="everything about one entry")
    show.add_argument("name")
    show.set_defaults(run=run_show)
    fetch = verbs.add_parser("fetch", help="download what is not on this machine")
    fetch.add_argument("names", nargs="*", metavar="NAME")
    fetch.add_argument("--method", help="all that a method needs, masks and guides included, e.g. trident")
    fetch.add_argument("--weights", metavar="NAME", help="with --method: the CLIP weights (default: the method's own)")
    fetch.add_argument("--again", action="store_true", help="put a fresh copy into ovseg's cache")
    fetch.set_defaults(run=run_fetch)
    verify = verbs.add_parser("verify", help="compare hashes, read files, fit them into their models")
    verify.add_argument("targets", nargs="*", metavar="NAME|PATH", help="default: all that is on this machine")
    verify.set_defaults(run=run_verify)
    docs = verbs.add_parser("docs", help="the catalogue as a Markdown page")
    docs.add_argument("--output", type=Path, help="file to write (default: standard output)")
    docs.set_defaults(run=run_docs)


def run_list(args: argparse.Namespace) -> int:
    """The catalogue."""
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
        emit("weights", **_facts(card), here=here)
        row: tuple[str | Text, ...] = (
            *map(Text, (card.name, card.family, card.licence)),
            Text(card.commercial, colour),
            str(card.image_size or ""),
        )
        table.add_row(*row, "yes" if here else "")
    console().print(table)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Everything about one entry."""
    from ovseg.weights import get_card
    from ovseg.weights.resolve import find_local, target_of

    card = get_card(args.name)
    found = find_local(card)
    emit("weights", **_facts(card), here=found is not None)
    print_pairs(
        (
            ("name", card.name),
            ("family", _loader(card)),
            ("architecture", card.arch),
            ("activation", "QuickGELU" if card.quickgelu else "GELU"),
            ("image size", f"{card.image_size} pixels" if card.image_size else "as the model states"),
            ("mean", card.mean),
            ("std", card.std),
            ("licence", f"{card.licence} (commercial use: {card.commercial})"),
            *(("source", source.url) for source in card.sources),
            ("SHA-256", next((s.sha256 for s in card.sources if s.sha256), "not stated in the catalogue")),
            ("size", _size(card)),
            ("page", card.home or "-"),
            ("notes", card.notes or "-"),
            ("here", found[0] if found else f"no; would be put at {target_of(card)}"),
        )
    )
    return 0


def _facts(card: WeightCard) -> dict[str, object]:
    """What ``--json`` says of an entry."""
    names = ("name", "family", "arch", "licence", "commercial", "image_size", "size", "home", "notes")
    sources = [{"url": source.url, "sha256": source.sha256} for source in card.sources]
    return {**{name: getattr(card, name) for name in names}, "kind_of_model": card.kind, "sources": sources}


def _loader(card: WeightCard) -> str:
    by = "by transformers" if card.hub_model else f"with ovseg.weights.load_{card.kind}"
    return f"{card.family}, loaded {by}"


def _size(card: WeightCard) -> str:
    return f"{card.size:,} bytes" if card.size else "not stated in the catalogue"


def run_fetch(args: argparse.Namespace) -> int:
    """Download what is not on this machine."""
    from ovseg.weights import WeightsNotFound, file_sha256, get_card, resolve
    from ovseg.weights.needed import Need, missing_message
    from ovseg.weights.resolve import fetch_again

    if not args.names and args.method is None:
        print("weights fetch: give names, or --method METHOD", file=sys.stderr)
        return 2
    needs = [
        Need("the command line", get_card(name)) for name in args.names
    ]  # all are checked before the first download
    needs += _needs_of_method(args.method, args.weights) if args.method is not None else []
    missing, reason = [], ""
    for need in needs:
        name = need.card.name
        try:
            path = fetch_again(name) if args.again and need.card.packaged is None else resolve(name)
            digest = file_sha256(path)
            print(f"{name}  {path}  sha256 {digest}", flush=True)
            emit("fetched", name=name, file=path, sha256=digest)
        except WeightsNotFound as error:
            missing.append(need)
            reason = reason or str(error).splitlines()[0].partition("could not be had: ")[2].rstrip(".") or str(error)
    if missing:
        raise WeightsNotFound(missing_message(missing, reason))
    return 0


def _needs_of_method(method: str, weights: str | None) -> list[Need]:
    """What a method is built from, its mask source included."""
    from mmengine.config import Config

    from ovseg.apis import config_root, method_config
    from ovseg.weights import get_card
    from ovseg.weights.needed import needs_of

    if weights is None:
        base = config_root() / "_base_" / "models" / f"{method}.py"
        weights = Config.fromfile(base).model.backbone.weights if base.is_file() else "nano"
    get_card(weights)
    return needs_of(method_config(method, weights).model)


def run_verify(args: argparse.Namespace) -> int:
    """Compare hashes, read files, fit them into their models."""
    from ovseg.weights import WeightsError, catalogue
    from ovseg.weights.resolve import find_local

    targets = args.targets or [card.name for card in catalogue().values() if find_local(card)]
    failed = 0
    for target in targets:
        try:
            message = _verify_one(target)
            print(f"ok      {message}", flush=True)
            emit("verified", target=target, ok=True, message=message)
        except WeightsError as error:
            failed += 1
            print(f"FAILED  {target}: {error}", flush=True)
            emit("verified", target=target, ok=False, message=str(error))
    if not targets:
        print("no weights of the catalogue are on this machine")
    return 1 if failed else 0


def _verify_one(target: str) -> str:
    """One line about a name of the catalogue or a file. Raises WeightsError."""
    from ovseg.weights import catalogue, file_sha256, load_state_dict, resolve
    from ovseg.weights.identity import check_identity
    from ovseg.weights.load import build_model
    from ovseg.weights.resolve import find_local, verify_hash
    from ovseg.weights.signatures import describe

    card = catalogue().get(target)
    if card is None:
        weights = load_state_dict(target)
        return f"{target}: {describe(weights)}, {len(weights)} tensors, sha256 {file_sha256(target)}"
    path = resolve(target, fetch=False)
    found = find_local(card)
    compared = verify_hash(path, found[1] if found else None, card.name)
    if card.hub_model:
        weights = load_state_dict(path)
        return f"{target}: {path}, {len(weights)} tensors, sha256 {file_sha256(path)} (transformers fits them)"
    if card.packaged is None:
        check_identity(card.name, path)
    build_model(card, path)
    against = "as published" if compared else "nothing published to compare with"
    return f"{target}: {path} fits {card.arch}, sha256 {file_sha256(path)} ({against})"


def run_docs(args: argparse.Namespace) -> int:
    """The catalogue as a Markdown page."""
    from ovseg.weights.docs import render

    page = render()
    emit("page", file=args.output, text=page if args.output is None else None)
    if args.output is None:
        print(page, end="")
    else:
        args.output.write_text(page, encoding="utf-8")
    return 0
