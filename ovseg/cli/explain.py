"""``ovseg explain``: why a photo is labelled as it is, in pictures and tables.

    ovseg explain photo.jpg --classes "cat, sofa; couch, grass" --at 210,140 --out why
    ovseg explain photo.jpg --classes voc21 --truth mask.png --methods clip sclip naclip trident

Writes into OUT: pca.png (main directions of the patch embeddings as colours) and heat.png (probabilities of classes);
with --at attention.png (what that pixel's patch attends to in CLIP's last block) and tables of the words and templates
that decide there; with --truth errors.png and a table of the worst confusions; with --methods methods.png (each
method's overlay). The truth is a label map (PNG) whose numbers are the words in their order, 255: ignored.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ovseg.cli._model import add_model_options, load_model
from ovseg.cli._output import console, emit, say
from ovseg.cli._status import DONE, PART
from ovseg.errors import SetupError

if TYPE_CHECKING:
    import numpy as np

    from ovseg import EncodedImage


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "explain",
        help="why a photo is labelled as it is: attention, embeddings, heat maps, words, errors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photo", help="file or address")
    add_model_options(parser)
    parser.add_argument("--at", type=pixel, metavar="X,Y", help="a pixel to look behind, from 0,0 at the top left")
    parser.add_argument("--truth", type=Path, help="label map (PNG) of the photo: class numbers, 255 ignored")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="compare these methods (with --model)")
    parser.add_argument("--heat", nargs="+", metavar="CLASS", help="heat maps of these classes (default: the largest)")
    parser.add_argument(
        "--out", type=Path, default=Path("explained"), help="folder for the pictures (default: explained)"
    )
    parser.set_defaults(run=run)


def pixel(text: str) -> tuple[int, int]:
    """``X,Y``, as argparse's ``type``.

    >>> pixel("210,140")
    (210, 140)
    """
    x, comma, y = text.partition(",")
    if not comma or not x.strip().isdecimal() or not y.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no pixel: write X,Y, e.g. 210,140")
    return int(x), int(y)


def run(args: argparse.Namespace) -> int:
    """Explain; returns the exit status: 1 where a part does not apply to this method."""
    from ovseg import explain
    from ovseg.results.images import write_image

    if args.out.is_file():
        raise SetupError(f"--out {args.out}: a folder is needed, this is a file")
    model = load_model(args)
    encoded, missing = model.encode(args.photo), []
    try:
        if args.at is not None:
            explain.check_inside(args.at, encoded.size)
        truth = None if args.truth is None else read_truth(args.truth, encoded.size)
    except ValueError as error:
        raise SetupError(str(error)) from error

    def write(what: str, picture: np.ndarray) -> None:
        path = args.out / f"{what}.png"
        write_image(path, picture)
        say(f"{what}: {path}", stderr=False)
        emit("picture", what=what, path=path)

    def attempt(what: str, part: Callable[[], None]) -> None:
        try:
            part()
        except SetupError:
            raise
        except ValueError as error:  # of these, each says which method it does not fit
            missing.append(what)
            say(f"{what}: {error}", "yellow")
            emit("left_out", what=what, reason=str(error))

    names = model.model.require_vocabulary().display_names
    if unknown := [name for name in args.heat or () if name not in names]:
        raise SetupError(f"--heat {unknown[0]!r} is not among the classes: {', '.join(names)}")
    attempt("pca", lambda: write("pca", pca(encoded)))
    attempt(
        "heat",
        lambda: write("heat", explain.draw_heat_maps(encoded.image, explain.heat_maps(encoded, None, args.heat))),
    )
    if args.at is not None:
        attempt("attention", lambda: write("attention", attention(encoded, args.at)))
        attempt("words", lambda: words(encoded, args.at))
    if truth is not None:
        attempt("errors", lambda: write("errors", errors(encoded, truth)))
    if args.methods:
        attempt("methods", lambda: write("methods", methods(encoded, args, truth)))
    return PART if missing else DONE


def read_truth(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A label map of the photo's size.

    Raises:
        SetupError: for another size.
        ImageReadError: for a file that is no label map.
    """
    from ovseg.datasets.io import read_mask

    truth = read_mask(path)
    if truth.shape != size:
        raise SetupError(
            f"--truth {path} has {truth.shape[1]} x {truth.shape[0]} pixels, the photo {size[1]} x {size[0]}"
        )
    return truth


def pca(encoded: EncodedImage) -> np.ndarray:
    """The picture of the patch embeddings' main directions."""
    from ovseg import explain

    return explain.draw_embeddings(encoded.image, explain.embedding_colours(encoded))


def attention(encoded: EncodedImage, at: tuple[int, int]) -> np.ndarray:
    """The picture of what a pixel's patch attends to."""
    from ovseg import explain

    found = explain.attention_at(encoded, at)
    emit(
        "attention",
        at=found.at,
        attention=found.attention,
        patch=found.patch,
        windows=found.windows,
        total=found.total,
        prefix=float(found.prefix.sum()),
        weights=found.weights.round(6),
    )
    return explain.draw_attention(encoded.image, found)


def words(encoded: EncodedImage, at: tuple[int, int]) -> None:
    """Tables of the words and the templates that decide at a pixel."""
    from ovseg import explain

    found = explain.words_at(encoded, at)
    classes = Table("class", "nearest word", "cosine", "next word", "cosine", title=f"at {at[0]},{at[1]}")
    for row in found.table():
        after = "" if row["next score"] is None else f"{row['next score']:.4f}"
        cells = (row["class"], row["word"], f"{row['score']:.4f}", row["next word"], after)
        classes.add_row(*(Text(str(cell)) for cell in cells))
    out = console()
    out.print(classes)
    say(f"in the end it is labelled {found.label!r}", stderr=False)
    if found.templates:
        first, second = found.classes[0].word, found.classes[1].word
        speaking = Table("template", first, second, f"speaks for {first!r} by")
        shown = found.templates if len(found.templates) <= 6 else (*found.templates[:3], *found.templates[-3:])
        for one in shown:
            speaking.add_row(Text(one.template), f"{one.first:.5f}", f"{one.second:.5f}", f"{one.margin:+.5f}")
        out.print(speaking)
        say(f"{found.votes} of {len(found.templates)} templates alone would put {first!r} first", stderr=False)
    emit(
        "words",
        at=found.at,
        label=found.label,
        classes=[{"name": c.name, "word": c.word, "score": c.score, "words": c.words} for c in found.classes],
        templates=[{"template": t.template, "first": t.first, "second": t.second} for t in found.templates],
        votes=found.votes,
    )


def errors(encoded: EncodedImage, truth: np.ndarray) -> np.ndarray:
    """The picture of errors; prints the table of confusions."""
    from ovseg import explain

    result = encoded.segment()
    found = explain.error_map(result.labels, truth, result.names)
    table = Table("truth", "taken for", "pixels", "of truth", "near boundary")
    for one in found.confusions[:10]:
        table.add_row(
            Text(one.truth), Text(one.predicted), f"{one.pixels}", f"{one.share:.1%}", f"{one.near_boundary:.0%}"
        )
    console().print(table)
    emit(
        "errors",
        miou=found.miou,
        accuracy=found.accuracy,
        near_boundary=found.near_boundary,
        confusions=[vars(one) for one in found.confusions],
    )
    return explain.draw_errors(encoded.image, result.labels, truth, result.names, found)


def methods(encoded: EncodedImage, args: argparse.Namespace, truth: np.ndarray | None) -> np.ndarray:
    """The grid of methods."""
    from ovseg import Vocabulary, explain

    if args.config is not None or args.checkpoint is not None:
        raise SetupError("--methods compares methods by name: leave --config and --checkpoint away")
    found = []
    for one in explain.by_methods(
        args.photo,
        Vocabulary.from_argument(args.classes),
        args.methods,
        args.model,
        truth,
        background=args.background,
        device=args.device,
    ):
        found.append(one)
        say(one.method + ("" if one.miou is None else f": mIoU {one.miou:.1f}"), stderr=False)
        emit("method", method=one.method, miou=one.miou, areas=one.result.areas())
    return explain.draw_methods(encoded.image, found, truth)
