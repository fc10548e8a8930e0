"""The options of commands that run a model on photos, and the model they name."""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING, Any

from ovseg.cli._output import say
from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg import Segmenter


def add_model_options(
    parser: argparse.ArgumentParser, method: bool = True, classes: bool = True, several: bool = False
) -> None:
    """Words, weights, method, config, device, precision.

    Args:
        parser: gets them.
        method: ``False``: leave ``--method`` to the command.
        classes: whether the words must be given.
        several: ``--classes`` may be given several times, with names, and is a list.
    """
    more: dict[str, Any] = {"action": "append", "metavar": "[NAME=]WORDS"} if several else {}
    parser.add_argument(
        "--classes",
        required=classes,
        help="comma-separated words, a class file, or the name of a packaged vocabulary"
        + ("; may be given several times" if several else ""),
        **more,
    )
    parser.add_argument(
        "--model", default="nano-photo", help="CLIP weights by catalogue name (default: nano-photo, embedded)"
    )
    if method:
        parser.add_argument("--method", default="naclip", help="segmentation method (default: naclip)")
    parser.add_argument("--config", help="config file to use instead of --model and --method")
    parser.add_argument("--checkpoint", help="file with the CLIP weights")
    parser.add_argument("--background", help="name of the class that takes uncertain pixels")
    parser.add_argument("--short-side", type=int, help="resize photos to this short side before segmenting")
    parser.add_argument("--device", help="cpu, cuda, ... (default: cuda where there is a GPU)")
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16", "int8"],
        help="number format of the encoders (default: as in the config, else auto: the fastest on this machine)",
    )


def load_model(args: argparse.Namespace) -> Segmenter:
    """The model with its words; what it warns of is said after all has gone well.

    Raises:
        SetupError: for words, devices, sides and methods that do not exist.
    """
    from ovseg import Segmenter, Vocabulary
    from ovseg.datasets.errors import DatasetNotFound

    try:
        model = Segmenter(
            args.model,
            args.method,
            config=args.config,
            checkpoint=args.checkpoint,
            device=args.device,
            short_side=args.short_side,
            precision=args.precision,
        )
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            if args.classes is not None:
                model.set_vocabulary(Vocabulary.from_argument(args.classes), background=args.background)
    except DatasetNotFound:
        raise
    except ValueError as error:
        raise SetupError(str(error)) from error
    say(model.protocol, "dim")
    for warning in told:
        say(warning.message, "yellow")
    return model
