"""Evaluate a method on a benchmark: prints mIoU and writes what travels with it.

    python tools/test.py configs/naclip/naclip_vitb16_voc21.py
    python tools/test.py CONFIG --show-dir pictures --limit 20
    python tools/test.py CONFIG --cfg-options short_side=448 model.head.logit_scale=50
    torchrun --nproc_per_node 8 tools/test.py CONFIG --launcher pytorch

The work directory gets ``result.json`` (everything, per class too), a row in ``results.csv`` and, where samples could
not be read, ``failures.json``.

Exit codes: 0 all samples evaluated; 1 an unexpected error (traceback); 2 something asked for is missing or does not fit
(one line says what); 3 finished, but samples were skipped; 130 interrupted (go on with --resume).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from rich.console import Console

from ovseg.datasets.errors import DatasetNotFound
from ovseg.engine import EvalRunner, ResultHook, SetupError
from ovseg.evaluation import class_table, failure_table, summary_table
from ovseg.weights import WeightsError

EXIT_SETUP, EXIT_SKIPPED, EXIT_INTERRUPTED = 2, 3, 130


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file of a method on a benchmark")
    parser.add_argument("checkpoint", nargs="?", help="weights to load into the model, for trained methods")
    parser.add_argument("--work-dir", help="where results go (default: work_dirs/NAME_OF_CONFIG)")
    parser.add_argument("--out", help="folder for the predicted label maps (PNG of class indices)")
    parser.add_argument("--show-dir", help="folder for pictures: photo, ground truth and prediction side by side")
    parser.add_argument("--limit", type=int, help="evaluate only the first N samples")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted evaluation")
    parser.add_argument("--per-class", action="store_true", help="print all classes, not only the best and worst")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override settings: key.of.setting=value")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    # torch.distributed.launch gives it as an argument, torchrun in the environment
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit {args.limit}: at least 1")
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def make_config(args: argparse.Namespace) -> Config:
    """The config file with what the command line adds.

    Raises:
        SetupError: for a missing or broken config file, or a checkpoint that does not exist.
    """
    try:
        cfg = Config.fromfile(args.config)
    except FileNotFoundError as error:
        raise SetupError(f"config {args.config}: {error}") from error
    except (SyntaxError, OSError, AttributeError, ValueError) as error:
        raise SetupError(f"config {args.config} cannot be read: {error}") from error
    if args.checkpoint is not None and not Path(args.checkpoint).is_file():
        raise SetupError(f"checkpoint {args.checkpoint} does not exist; check the path")
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(args.config).stem)
    if args.checkpoint is not None:
        cfg.load_from = args.checkpoint
    if args.limit is not None and "test_dataloader" in cfg:
        cfg.test_dataloader.dataset.indices = args.limit
    if args.resume:
        cfg.setdefault("test_cfg", {})["resume"] = True
    hooks = cfg.setdefault("default_hooks", {})
    if args.show_dir:
        hooks["show"] = dict(type="VisualizationHook", show_dir=args.show_dir)
    if args.out:
        hooks["predictions"] = dict(type="PredictionHook", out_dir=args.out)
    return cfg


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code (see the module's docstring)."""
    args = parse_args(argv)
    first = os.environ.get("RANK", "0") == "0"  # the others would say the same
    errors = Console(stderr=True, soft_wrap=True, quiet=not first)
    try:
        cfg = make_config(args)
        runner = EvalRunner.from_cfg(cfg)
        runner.test()
    except (SetupError, DatasetNotFound, WeightsError, FileNotFoundError) as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False)
        return EXIT_SETUP
    except KeyboardInterrupt:
        errors.print("interrupted; the same command with --resume goes on", style="yellow")
        return EXIT_INTERRUPTED
    code = report(runner, args.per_class) if is_main_process() else 0
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return code


def report(runner: EvalRunner, per_class: bool = False) -> int:
    """Print the tables of a finished run; returns the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=120)  # 80 columns would cut the table in a log
    hook = next((h for h in runner.hooks if isinstance(h, ResultHook)), None)
    failures = runner.test_loop.failures
    if hook is not None and hook.row is not None:
        console.print(class_table(hook.per_class, everything=per_class))
        console.print(summary_table(hook.row))
        console.print(f"everything about this run: {Path(runner.work_dir) / hook.json_name}", soft_wrap=True)
    if failures:
        console.print(failure_table(failures))
    return EXIT_SKIPPED if failures else 0


if __name__ == "__main__":
    sys.exit(main())
