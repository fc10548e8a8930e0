"""``ovseg nano``, ``tools/eval_nano.py``: every method with the embedded nano model on the embedded mini benchmark.

    ovseg nano --out nano_out                       # all methods, the first 40 images of both splits, table, overlays
    ovseg nano --out nano_out --full                # all images
    ovseg nano --out nano_out --full --guided       # the methods guided by nano's DINO and SAM as well
    ovseg nano --out nano_out --methods clip sclip --limit 20
    ovseg nano --out nano_out --resume              # go on after an interruption; what is finished stays

Writes ``OUT/summary.json`` ({split: {method: mIoU in percent}}), one result per run below ``OUT/runs`` and pictures
below ``OUT/overlays``. The numbers are nano's on its own small benchmark: never compare them with VOC or ADE.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovseg.cli._arguments import count
from ovseg.cli._output import say
from ovseg.cli._status import DONE

if TYPE_CHECKING:
    from mmengine.config import Config

METHODS = ("clip", "maskclip", "sclip", "clearclip", "naclip", "naclip_pamr")
FIRST = 40
"""Images of each split without --full; docs/evaluation.md says how far their mIoU lies from that of all images."""
GUIDED = ("proxyclip", "clip_dinoiser", "trident", "corrclip", "sam_clip")
SPLITS = {
    "scenes": "held-out compositions of the sprites nano was trained on",
    "scenes_noto": "the same concepts drawn by another artist (domain gap)",
    "coco100_voc21": "100 real photos of ../shared with VOC's 21 names (not VOC results)",
}


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
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=["scenes", "scenes_noto"])
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
    method: str, split: str, work_dir: Path, limit: int | None, workers: int, resume: bool = False
) -> Config:
    """The config of one run: the method's nano config with the data set of ``split``."""
    from mmengine.config import Config

    from ovseg.apis import config_root, method_config

    config = method_config(method, "nano")
    data = Config.fromfile(config_root() / "_base_" / "datasets" / f"{split}.py")
    asked_for = config.test_dataloader.dataset.pipeline[-1]  # a method may want the original photo as well
    for key in ("test_dataloader", "test_evaluator", "num_classes"):
        config[key] = data[key]
    config.test_dataloader.dataset.pipeline[-1] = asked_for
    if split == "coco100_voc21":
        config.model.vocabulary = dict(file="voc21", background=0)
    config.test_dataloader.num_workers = workers
    if limit is not None:
        config.test_dataloader.dataset.indices = limit
    config.test_cfg.resume = resume
    config.work_dir = str(work_dir)
    return config


def evaluate(method: str, split: str, args: argparse.Namespace) -> tuple[float, float, int]:
    """mIoU in percent of one method on one split, the seconds it took (interrupted parts included), and its images."""
    from ovseg.engine import EvalRunner, VisualizationHook

    work_dir = args.out / "runs" / split / method
    runner = EvalRunner.from_cfg(evaluation_config(method, split, work_dir, args.limit, args.workers, args.resume))
    runner.register_hook(VisualizationHook(args.out / "overlays" / split / method, first=args.overlays))
    return runner.test()["mIoU"], runner.test_loop.seconds, len(runner.test_dataloader.dataset)


def print_table(
    console: Console, summary: dict[str, dict[str, float]], seconds: dict[str, float], images: dict[str, str]
) -> None:
    """One row per method, one column per split with the images it is of, the best of each split in bold."""
    table = Table(title="nano on scenes: mIoU in percent (mmseg's rule: mean over classes with non-empty union)")
    table.add_column("method")
    for split in summary:
        table.add_column(f"{split}\n{images[split]}", justify="right")
    table.add_column("seconds", justify="right")
    best = {split: max(values.values()) for split, values in summary.items()}
    for method in seconds:
        cells = [
            Text(f"{values[method]:.1f}", "bold" if values[method] == best[split] else "")
            for split, values in summary.items()
        ]
        table.add_row(Text(method), *cells, f"{seconds[method]:.0f}")
    console.print(table)


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns the exit status."""
    from ovseg.datasets.files import write_json
    from ovseg.engine import SetupError, hold_work_dir

    methods = list(dict.fromkeys([*args.methods, *(GUIDED if args.guided else ())]))
    summary: dict[str, dict[str, float]] = {split: {} for split in args.splits}
    seconds: dict[str, float] = {}
    images: dict[str, str] = {}
    with hold_work_dir(args.out):
        for split in args.splits:
            for method in methods:
                say(f"{split} · {method}", "bold")
                try:
                    miou, took, number = evaluate(method, split, args)
                except ValueError as error:
                    if type(error) is ValueError:  # e.g. no such method
                        raise SetupError(str(error)) from error
                    raise
                summary[split][method] = round(miou, 2)
                images[split] = f"{'first' if number == args.limit else 'all'} {number} images"
                seconds[method] = seconds.get(method, 0.0) + took
                write_json(args.out / "summary.json", summary)  # nothing finished is lost
    print_table(Console(), summary, seconds, images)
    for split in args.splits:
        say(f"  {split}: {SPLITS[split]}", stderr=False)
    say(f"summary {args.out / 'summary.json'}, pictures {args.out / 'overlays'}", stderr=False)
    return DONE
