"""Evaluate every method with the embedded nano model on the embedded mini benchmark.

    python tools/eval_nano.py --out nano_out                       # all methods, both splits, table, overlays
    python tools/eval_nano.py --out nano_out --guided              # the methods guided by nano's DINO and SAM as well
    python tools/eval_nano.py --out nano_out --methods clip sclip --limit 20

Writes ``OUT/summary.json`` ({split: {method: mIoU in percent}}), one result per run below ``OUT/runs`` and pictures
below ``OUT/overlays``. The numbers are nano's on its own small benchmark: never compare them with VOC or ADE.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from ovseg.apis import config_root, method_config
from ovseg.datasets.errors import DatasetNotFound
from ovseg.datasets.files import write_json
from ovseg.engine import EvalRunner, VisualizationHook
from ovseg.weights import WeightsError

METHODS = ("clip", "maskclip", "sclip", "clearclip", "naclip", "naclip_pamr")
GUIDED = ("proxyclip", "clip_dinoiser", "trident", "corrclip", "sam_clip")
SPLITS = {
    "scenes": "held-out compositions of the sprites nano was trained on",
    "scenes_noto": "the same concepts drawn by another artist (domain gap)",
    "coco100_voc21": "100 real photos of ../shared with VOC's 21 names (not VOC results)",
}


class FirstPictures(VisualizationHook):
    """Pictures of the first samples of a run only."""

    def __init__(self, show_dir: Path, count: int) -> None:
        super().__init__(show_dir)
        self.left = count

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=()) -> None:
        outputs = list(outputs)[: self.left]
        self.left -= len(outputs)
        super().after_test_iter(runner, batch_idx, data_batch, outputs)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="folder for the summary, runs and overlays")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help=f"default: {' '.join(METHODS)}")
    parser.add_argument("--guided", action="store_true", help=f"add {' '.join(GUIDED)}")
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=["scenes", "scenes_noto"])
    parser.add_argument("--limit", type=int, help="only the first N images of each split")
    parser.add_argument("--overlays", type=int, default=8, help="pictures per method and split (default: 8)")
    parser.add_argument("--workers", type=int, default=1, help="data loader processes (default: 1)")
    return parser.parse_args(argv)


def evaluation_config(method: str, split: str, work_dir: Path, limit: int | None, workers: int) -> Config:
    """The config of one run: the method's nano config with the data set of ``split``."""
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
    config.work_dir = str(work_dir)
    return config


def run(method: str, split: str, args: argparse.Namespace) -> float:
    """mIoU in percent of one method on one split."""
    config = evaluation_config(method, split, args.out / "runs" / split / method, args.limit, args.workers)
    runner = EvalRunner.from_cfg(config)
    runner.register_hook(FirstPictures(args.out / "overlays" / split / method, args.overlays))
    return runner.test()["mIoU"]


def print_table(console: Console, summary: dict[str, dict[str, float]], seconds: dict[str, float]) -> None:
    """One row per method, one column per split, the best of each split in bold."""
    table = Table(title="nano on scenes: mIoU in percent (mmseg's rule: mean over classes with non-empty union)")
    table.add_column("method")
    for split in summary:
        table.add_column(split, justify="right")
    table.add_column("seconds", justify="right")
    best = {split: max(values.values()) for split, values in summary.items()}
    for method in seconds:
        cells = [
            f"[bold]{values[method]:.1f}[/]" if values[method] == best[split] else f"{values[method]:.1f}"
            for split, values in summary.items()
        ]
        table.add_row(method, *cells, f"{seconds[method]:.0f}")
    console.print(table)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console, errors = Console(), Console(stderr=True)
    methods = list(dict.fromkeys([*args.methods, *(GUIDED if args.guided else ())]))
    summary: dict[str, dict[str, float]] = {split: {} for split in args.splits}
    seconds: dict[str, float] = {}
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for split in args.splits:
            for method in methods:
                errors.print(f"{split} · {method}", style="bold", highlight=False)
                start = time.perf_counter()
                summary[split][method] = round(run(method, split, args), 2)
                seconds[method] = seconds.get(method, 0.0) + time.perf_counter() - start
                write_json(args.out / "summary.json", summary)  # nothing finished is lost
    except (DatasetNotFound, WeightsError, OSError, ValueError) as error:
        errors.print(f"[red]error:[/] {error}", soft_wrap=True, highlight=False)
        return 2
    print_table(console, summary, seconds)
    for split in args.splits:
        console.print(f"  {split}: {SPLITS[split]}", highlight=False)
    console.print(f"summary {args.out / 'summary.json'}, pictures {args.out / 'overlays'}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
