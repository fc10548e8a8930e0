"""``ovseg nano``, ``tools/eval_nano.py``: every method with the embedded models on the embedded mini benchmarks.

    ovseg nano --out nano_out                       # all methods, the first 40 images of both splits, table, overlays
    ovseg nano --out nano_out --full                # all images
    ovseg nano --out nano_out --full --guided       # the methods guided by nano's DINO and SAM as well
    ovseg nano --out nano_out --full --trained      # and those trained on scenes, 43 of 172 object words held out
    ovseg nano --out nano_out --methods clip sclip --limit 20
    ovseg nano --out nano_out --splits photos       # nano-photo on 26 photographs
    ovseg nano --out nano_out --resume              # go on after an interruption; what is finished stays

Writes ``OUT/summary.json`` ({split: {method: mIoU in percent}}), one result per run below ``OUT/runs`` and pictures
below ``OUT/overlays``. Scenes are evaluated with nano, photographs with nano-photo (``--model`` takes the other). The
numbers are those of small models on small benchmarks: never compare them with VOC or ADE.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovseg.cli._arguments import count
from ovseg.cli._output import emit, say
from ovseg.cli._status import DONE

if TYPE_CHECKING:
    from mmengine.config import Config

METHODS = ("clip", "maskclip", "sclip", "clearclip", "naclip", "naclip_pamr")
FIRST = 40
"""Images of each split without --full; docs/evaluation.md says how far their mIoU lies from that of all images."""
GUIDED = ("proxyclip", "clip_dinoiser", "trident", "corrclip", "sam_clip")
TRAINED = {name: f"nano/{name}_nano_scenes.py" for name in ("catseg", "san", "ovseg_mpt", "declip", "maskclip_plus")}
"""Methods that were trained on scenes, and their configs; words of ``unseen.txt`` were held out."""
SPLITS = {
    "scenes": "held-out compositions of the sprites nano was trained on",
    "scenes_noto": "the same concepts drawn by another artist (domain gap)",
    "photos": "26 photographs with VOC's 21 names, which are few: the range holds 90 % of draws of 26 of them",
    "coco100_voc21": "100 real photos of ../shared with VOC's 21 names (not VOC results)",
    "coco100_voc20": "the same without their background",
}
PHOTOS = ("photos", "coco100_voc21", "coco100_voc20")
"""Splits of photographs, for nano-photo."""
MODELS = ("nano", "nano-photo")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "nano",
        help="evaluate every method with the embedded nano model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for the summary, runs and overlays")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help=f"default: {' '.join(METHODS)}")
    parser.add_argument("--guided", action="store_true", help=f"add {' '.join(GUIDED)}")
    parser.add_argument(
        "--trained",
        action="store_true",
        help=f"add {' '.join(TRAINED)}, and the mIoU of seen and unseen words apart for all methods (scenes only)",
    )
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=["scenes", "scenes_noto"])
    parser.add_argument("--model", choices=MODELS, help="default: nano on scenes, nano-photo on photographs")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--limit", type=count, default=FIRST, metavar="N", help=f"the first N images of each split (default: {FIRST})"
    )
    size.add_argument("--full", dest="limit", action="store_const", const=None, help="all images of each split")
    parser.add_argument("--overlays", type=int, default=8, help="pictures per method and split (default: 8)")
    parser.add_argument("--workers", type=int, default=1, help="data loader processes (default: 1)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted evaluation")
    parser.set_defaults(run=run)


def evaluation_config(
    method: str,
    split: str,
    work_dir: Path,
    limit: int | None,
    workers: int,
    resume: bool = False,
    model: str | None = None,
    unseen: bool = False,
) -> Config:
    """The config of one run: the method's config for ``model`` with the data set of ``split``.

    Args:
        unseen: judge the words that trained methods have not seen apart.
    """
    from mmengine.config import Config

    from ovseg.apis import config_root, method_config
    from ovseg.engine import load_config

    model = model or ("nano-photo" if split in PHOTOS else "nano")
    config = load_config(config_root() / TRAINED[method]) if method in TRAINED else method_config(method, model)
    data = Config.fromfile(config_root() / "_base_" / "datasets" / f"{split}.py")
    pipeline = config.get("test_dataloader", data.test_dataloader).dataset.pipeline
    asked_for = pipeline[-1]  # a method may want the original photo as well
    for key in ("test_dataloader", "test_evaluator", "num_classes"):
        config[key] = data[key]
    config.test_dataloader.dataset.pipeline[-1] = asked_for
    if split in PHOTOS:
        words = "voc20" if split.endswith("voc20") else "voc21"
        named = f"{words}_photo" if model == "nano-photo" else words
        config.model.vocabulary = dict(file=named, background=None if words == "voc20" else 0)
        if words == "voc20":
            config.model.head.update(threshold=0.0, area_threshold=0.0)
    if unseen:
        held_out = Path(data.test_dataloader.dataset.classes).with_name("unseen.txt")
        config.test_evaluator = dict(type="SplitMetric", unseen=str(held_out))
    config.test_dataloader.num_workers = workers
    if limit is not None:
        config.test_dataloader.dataset.indices = limit
    config.test_cfg.resume = resume
    config.work_dir = str(work_dir)
    return config


@dataclass(frozen=True)
class Evaluated:
    """What the table shows of one method on one split.

    Attributes:
        miou: percent.
        seconds: that it took, interrupted parts included.
        images: their number.
        spread: bounds of the mIoU over draws of the photos, for photographs.
        seen, unseen, harmonic: mIoU of the words that trained methods have seen and not, and their harmonic mean.
    """

    miou: float
    seconds: float
    images: int
    spread: tuple[float, float] | None = None
    seen: float | None = None
    unseen: float | None = None
    harmonic: float | None = None

    def __str__(self) -> str:
        if self.seen is not None:
            return f"{self.miou:.1f} ({self.seen:.1f}, {self.unseen:.1f}, {self.harmonic:.1f})"
        return f"{self.miou:.1f}" + ("" if self.spread is None else " ({:.0f}-{:.0f})".format(*self.spread))

    def summary(self, method: str) -> dict[str, float]:
        """What goes into ``summary.json``."""
        apart = {"": self.miou, "_seen": self.seen, "_unseen": self.unseen}
        return {method + name: round(value, 2) for name, value in apart.items() if value is not None}


def evaluate(method: str, split: str, args: argparse.Namespace) -> Evaluated:
    """One method on one split."""
    from ovseg.engine import EvalRunner, SpreadHook, VisualizationHook

    work_dir = args.out / "runs" / split / method
    apart = args.trained and split not in PHOTOS
    config = evaluation_config(method, split, work_dir, args.limit, args.workers, args.resume, args.model, apart)
    runner = EvalRunner.from_cfg(config)
    runner.register_hook(VisualizationHook(args.out / "overlays" / split / method, first=args.overlays))
    spread = SpreadHook() if split in PHOTOS else None
    if spread is not None:
        runner.register_hook(spread)
    found = runner.test()
    return Evaluated(
        found["mIoU"],
        runner.test_loop.seconds,
        len(runner.test_dataloader.dataset),
        None if spread is None else spread.spread(),
        *(found.get(name) for name in ("mIoU_seen", "mIoU_unseen", "hIoU")),
    )


def print_table(console: Console, found: dict[str, dict[str, Evaluated]], images: dict[str, str]) -> None:
    """One row per method, one column per split with the images it is of, the best of each split in bold.

    Args:
        console: where.
        found: what was evaluated, by split and method.
        images: a line for the head of each split's column.
    """
    table = Table(title="mIoU in percent (mmseg's rule: mean over classes with non-empty union)")
    table.add_column("method")
    for split in found:
        table.add_column(f"{split}\n{images[split]}", justify="right")
    table.add_column("seconds", justify="right")
    best = {split: max(one.miou for one in row.values()) for split, row in found.items()}
    for method in dict.fromkeys(method for row in found.values() for method in row):
        cells = []
        for split, row in found.items():
            one = row.get(method)
            cells.append(Text("-") if one is None else Text(str(one), "bold" if one.miou == best[split] else ""))
        seconds = sum(row[method].seconds for row in found.values() if method in row)
        table.add_row(Text(method), *cells, f"{seconds:.0f}")
    console.print(table)


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns the exit status."""
    from ovseg.apis import has_own_config
    from ovseg.datasets.files import write_json
    from ovseg.engine import SetupError, hold_work_dir

    more = [*(GUIDED if args.guided else ()), *(TRAINED if args.trained else ())]
    methods = list(dict.fromkeys([*args.methods, *more]))
    found: dict[str, dict[str, Evaluated]] = {split: {} for split in args.splits}
    images: dict[str, str] = {}
    with hold_work_dir(args.out):
        for split in args.splits:
            for method in methods:
                say(f"{split} · {method}", "bold")
                model = args.model or ("nano-photo" if split in PHOTOS else "nano")
                unfit = method in GUIDED and not has_own_config(method, model)
                if unfit or (method in TRAINED and (model != "nano" or split in PHOTOS)):
                    say(f"left out: {model} has no parts for {method}", "yellow")
                    continue
                try:
                    one = evaluate(method, split, args)
                except ValueError as error:
                    if type(error) is ValueError:  # e.g. no such method
                        raise SetupError(str(error)) from error
                    raise
                found[split][method] = one
                emit("result", split=split, method=method, model=model, **vars(one))
                images[split] = f"{'first' if one.images == args.limit else 'all'} {one.images} images"
                if split in PHOTOS:
                    images[split] = images[split].replace("images", "photos")
                summary = {
                    name: {key: value for m, o in row.items() for key, value in o.summary(m).items()}
                    for name, row in found.items()
                }
                write_json(args.out / "summary.json", summary)  # nothing finished is lost
    print_table(Console(), {split: row for split, row in found.items() if row}, images)
    if args.trained:
        say("in brackets: words seen with masks, words held out, their harmonic mean", stderr=False)
    for split in args.splits:
        say(f"  {split}: {SPLITS[split]}", stderr=False)
    emit("summary", summary=args.out / "summary.json", overlays=args.out / "overlays")
    say(f"summary {args.out / 'summary.json'}, pictures {args.out / 'overlays'}", stderr=False)
    return DONE
