"""``ovseg methods``: the methods there are, with paper, weights, licences and what they cost.

    ovseg methods
    ovseg methods trident

What is said comes from the methods' configs (configs/_base_/models, and their papers' protocol for VOC21) and the
weights catalogue. Windows and operations are those of a photo of 500 x 375 pixels.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ovseg.cli._output import console, emit, print_pairs, say
from ovseg.cli._status import DONE
from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg.weights import WeightCard

PHOTO = (375, 500)
"""(H, W) in pixels of the photo whose windows are counted: VOC's usual size."""
PARTS = ("attention", "guide", "regions", "photo_encoder", "views", "stitch", "head")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "methods",
        help="the methods: paper, weights, licences, cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("method", nargs="?", help="everything about one of them")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Method:
    """Facts about a method as published.

    Attributes:
        name: as ``--method`` takes it.
        about: paper and idea, the words at the head of its config.
        config: of its protocol for VOC21.
        weights: all it is built from.
        windows, side: number of windows of :data:`PHOTO`, and the longer side of each in pixels.
        gflop: billions of multiplications and additions of CLIP's blocks for these, all views included; guides and SAM
            are not counted.
        parts: the registered components it consists of.
        embedded: embedded weights that it has settings for.
    """

    name: str
    about: str
    config: str
    weights: tuple[WeightCard, ...]
    windows: int
    side: int
    gflop: float
    parts: dict[str, str]
    embedded: tuple[str, ...]

    @property
    def commercial(self) -> str:
        """What all weights' licences let a company do: yes, no, or ask."""
        said = {card.commercial for card in self.weights}
        return next((answer for answer in ("no", "ask") if answer in said), "yes")

    @property
    def licences(self) -> str:
        """The weights' licences, each once."""
        return ", ".join(dict.fromkeys(card.licence for card in self.weights))


def describe_method(name: str) -> Method:
    """Read a method's configs.

    Raises:
        SetupError: for an unknown method.
    """
    from mmengine.config import Config

    from ovseg.apis import OWN_WEIGHTS, config_root, has_own_config, method_config
    from ovseg.registry import VIEWS
    from ovseg.weights import get_card
    from ovseg.weights.needed import needs_of
    from ovseg.windows import SlidingWindows

    base = config_root() / "_base_" / "models" / f"{name}.py"
    published = Config.fromfile(base).model.backbone.weights if base.is_file() else "nano"
    config = method_config(name, published)
    model, short = config.model, config.get("short_side") or min(PHOTO)
    long = round(short * max(PHOTO) / min(PHOTO))
    layout = SlidingWindows(**model.get("windows", {})).layout(short, long, patch_size=16)
    views = VIEWS.get(model.views.type).variants if model.get("views") else 1
    parts = {key: model[key].type for key in PARTS if model.get(key)}
    refiners = [part.type for key in ("refiners", "label_refiners") for part in model.get(key, ())]
    return Method(
        name,
        head_comment(base),
        str(Path(config.filename).relative_to(config_root())),
        tuple(need.card for need in needs_of(model)),
        len(layout),
        max(layout.padded),
        len(layout) * views * encoder_gflop(get_card(published).arch, layout.padded),
        {**parts, **({"refiners": ", ".join(refiners)} if refiners else {})},
        tuple(weights for weights in OWN_WEIGHTS if has_own_config(name, weights)),
    )


def encoder_gflop(arch: str, window: tuple[int, int]) -> float:
    """Billions of multiplications and additions that the blocks of a ViT of open_clip or timm make of a window.

    Per block 24 n d^2 for its linear layers (a feed-forward of four times the width) and 4 n^2 d for the attention,
    with n tokens of width d.

    Args:
        arch: name of the model.
        window: ``(H, W)`` in pixels.
    """
    import open_clip

    config = open_clip.get_model_config(arch)
    if config is None:
        import timm
        import torch

        with torch.device("meta"):
            trunk: Any = timm.create_model(arch, pretrained=False)
        layers, width, patch = len(trunk.blocks), trunk.embed_dim, trunk.patch_embed.patch_size[0]
        prefix = trunk.num_prefix_tokens
    else:
        layers, width, patch = (config["vision_cfg"][key] for key in ("layers", "width", "patch_size"))
        prefix = 1
    tokens = prefix + (window[0] // patch) * (window[1] // patch)
    return layers * (24 * tokens * width**2 + 4 * tokens**2 * width) / 1e9


def head_comment(file: Path) -> str:
    """The comment at the head of a config, as one line."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    return " ".join(line.lstrip("# ").strip() for line in lines)


def run(args: argparse.Namespace) -> int:
    """Print the table, or all about one method."""
    from ovseg.apis import available_methods
    from ovseg.arguments import suggestion

    known = available_methods()
    if args.method is not None and args.method not in known:
        raise SetupError(
            f"unknown method {args.method!r}{suggestion(args.method, known)}; there are {', '.join(known)}"
        )
    found = [describe_method(name) for name in known if args.method in (None, name)]
    for one in found:
        emit(
            "method",
            name=one.name,
            about=one.about,
            config=one.config,
            weights=[card.name for card in one.weights],
            licences=[card.licence for card in one.weights],
            commercial=one.commercial,
            windows=one.windows,
            window_side=one.side,
            gflop=one.gflop,
            parts=one.parts,
            embedded=one.embedded,
        )
    if args.method is not None:
        _print_one(found[0])
    else:
        _print_table(found)
    return DONE


def _print_one(one: Method) -> None:
    weights = [f"{card.name} ({card.licence}, commercial use: {card.commercial})" for card in one.weights]
    print_pairs(
        (
            ("name", one.name),
            ("about", one.about),
            ("config", one.config),
            ("weights", "\n".join(weights)),
            ("windows", f"{one.windows} of {one.side} px for a photo of {PHOTO[1]} x {PHOTO[0]}"),
            ("operations", f"{one.gflop:,.0f} GFLOP in CLIP's blocks for that photo; guides and SAM are not counted"),
            *one.parts.items(),
            ("embedded", ", ".join(one.embedded) or "no settings for embedded weights"),
        )
    )


def _print_table(found: list[Method]) -> None:
    table = Table(box=None, header_style="bold")
    for column in ("method", "paper", "weights", "licences", "commercial", "windows", "GFLOP", "embedded"):
        table.add_column(
            column, no_wrap=column == "method", justify="right" if column in ("windows", "GFLOP") else "left"
        )
    for one in found:
        paper = one.about.partition(":")[0]
        names, windows = ", ".join(card.name for card in one.weights), f"{one.windows} x {one.side} px"
        row = (
            one.name,
            paper,
            names,
            one.licences,
            one.commercial,
            windows,
            f"{one.gflop:,.0f}",
            ", ".join(one.embedded),
        )
        table.add_row(*map(Text, row))
    console().print(table)
    say(
        f"windows and GFLOP (CLIP's blocks) are those of a photo of {PHOTO[1]} x {PHOTO[0]} pixels", "dim", stderr=False
    )
