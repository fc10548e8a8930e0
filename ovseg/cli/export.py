"""``ovseg export``: write a method as one ONNX file whose classes stay open.

    ovseg export --method sclip --out sclip.onnx
    ovseg export --method naclip --model openai/ViT-B-16 --out naclip.onnx --int8 --classes "cat, sofa; couch, grass"
    ovseg export --method sclip --out sclip.pt2

A name that ends in .pt2 gets a torch.export program. With --classes the words' embeddings are written beside the file
(OUT.words.json: text, word_to_class, names, settings): what demo/onnx_numpy.py and the page in
demo/onnx_web need to run without torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ovseg.cli._output import emit, print_pairs
from ovseg.cli._status import DONE
from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg import Segmenter
    from ovseg.export import Check


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "export",
        help="write a method as an ONNX file or a torch.export program",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        default="nano-photo",
        help="CLIP weights by catalogue name (default: nano-photo, embedded, sees photographs)",
    )
    parser.add_argument("--method", default="naclip", help="segmentation method (default: naclip)")
    parser.add_argument("--config", help="config file to use instead of --model and --method")
    parser.add_argument("--checkpoint", help="file with the CLIP weights")
    parser.add_argument("--out", required=True, type=Path, help="file to write: .onnx or .pt2")
    parser.add_argument("--int8", action="store_true", help="also write OUT with .int8.onnx: a quarter of the size")
    parser.add_argument("--classes", help="words whose embeddings are written beside the file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export; returns the exit status."""
    if args.out.suffix not in (".onnx", ".pt2"):
        raise SetupError(f"--out {args.out}: the name ends in .onnx or .pt2")
    if args.int8 and args.out.suffix != ".onnx":
        raise SetupError(f"--int8 goes with a name that ends in .onnx, not {args.out}")
    import torch

    from ovseg import Segmenter
    from ovseg.datasets.files import atomic_path
    from ovseg.export import check_onnx, export_program, quantise_onnx, write_onnx

    try:
        segmenter = Segmenter(
            args.model,
            args.method,
            config=args.config,
            checkpoint=args.checkpoint,
            device="cpu",
            precision="fp32",
        )
    except ValueError as error:  # methods and weights that do not exist
        raise SetupError(str(error)) from error
    model, rows = segmenter.model, []
    if args.out.suffix == ".pt2":
        with atomic_path(args.out) as temporary:
            torch.export.save(export_program(model), temporary)
        rows.append(_row(args.out, None))
    else:
        rows.append(_row(args.out, write_onnx(model, args.out)))
    if args.int8:
        small = args.out.with_suffix(".int8.onnx")
        quantise_onnx(args.out, small)
        rows.append(_row(small, check_onnx(model, small)))
    if args.classes:
        rows.append(_write_words(segmenter, args))
    print_pairs(rows)
    return DONE


def _row(path: Path, check: Check | None) -> tuple[str, str]:
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    found = {"difference": None, "labels": None} if check is None else vars(check)
    emit("export", file=path, bytes=path.stat().st_size, **found)
    if check is None:
        return str(path), size
    return str(path), f"{size}, cosines within {check.difference:.1g} of torch, {check.labels:.1%} of best words equal"


def _write_words(segmenter: Segmenter, args: argparse.Namespace) -> tuple[str, str]:
    from ovseg import Vocabulary
    from ovseg.datasets.files import write_json
    from ovseg.export.onnx import settings_of

    try:
        vocabulary = Vocabulary.from_argument(args.classes)
        segmenter.set_vocabulary(vocabulary)
    except ValueError as error:
        raise SetupError(str(error)) from error
    model = segmenter.model
    path = args.out.with_name(args.out.name + ".words.json")
    words = {
        "names": list(vocabulary.display_names),
        "word_to_class": model.query_to_class.tolist(),
        "text": model.text.tolist(),
        "settings": {**settings_of(model), "short_side": segmenter.short_side},
    }
    write_json(path, words)
    emit("words", file=path, names=words["names"], words=len(model.text))
    return str(path), f"{len(model.text)} words"
