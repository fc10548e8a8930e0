"""``ovseg eval``, ``tools/test.py``: evaluate a method on a benchmark; prints mIoU and writes what travels with it.

    ovseg eval configs/naclip/naclip_pamr_vitb16_voc21.py
    ovseg eval CONFIG --images photos --masks masks --classes names.txt    # a folder in the place of the benchmark
    ovseg eval CONFIG --packed 'val-*.parquet' --classes names.txt         # or webdataset's tars
    ovseg eval --suite suite.yaml --work-dir OUT                           # methods x data sets, one table
    ovseg eval CONFIG --show-dir pictures --limit 20
    ovseg eval CONFIG --report report.html                                 # where it errs, as one page
    ovseg eval CONFIG --cfg-options short_side=448 model.head.logit_scale=50
    torchrun --nproc_per_node 8 tools/test.py CONFIG --launcher pytorch

The work directory gets ``result.json`` (everything, per class too), a row in ``results.csv`` and, where samples could
not be read, ``failures.json``. ``--resume`` goes on with an interrupted run; of a finished one it tries only what was
skipped, and without that prints the result again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ovseg.cli._arguments import add_cfg_options, add_launcher, count, is_first_process, set_local_rank
from ovseg.cli._folder import add_folder_arguments, folder_config, folder_name, is_folder
from ovseg.cli._output import emit, say
from ovseg.cli._status import DONE, SKIPPED

if TYPE_CHECKING:
    from mmengine.config import Config

    from ovseg.engine import EvalRunner


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "eval",
        help="evaluate a method on a benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", nargs="?", help="config file of a method on a benchmark")
    parser.add_argument("checkpoint", nargs="?", help="weights to load into the model, for trained methods")
    parser.add_argument("--suite", type=Path, help="file of methods, data sets and expected numbers, in CONFIG's place")
    parser.add_argument("--work-dir", help="where results go (default: work_dirs/NAME_OF_CONFIG)")
    parser.add_argument("--out", help="folder for the predicted label maps (PNG of class indices)")
    parser.add_argument("--show-dir", help="folder for pictures: photo, ground truth and prediction side by side")
    parser.add_argument("--report", type=Path, metavar="FILE", help="where it errs, as one HTML page; also of a suite")
    parser.add_argument("--limit", type=count, help="evaluate only the first N samples")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted evaluation")
    parser.add_argument("--per-class", action="store_true", help="print all classes, not only the best and worst")
    parser.add_argument("--vocabulary", help="words of the classes: a packaged vocabulary or a class file")
    add_folder_arguments(parser)
    add_cfg_options(parser)
    add_launcher(parser)
    parser.set_defaults(run=run)


def make_config(args: argparse.Namespace) -> Config:
    """The config file with what the command line adds.

    Raises:
        SetupError: for a missing or broken config file or a checkpoint that does not exist.
    """
    from ovseg.engine import SetupError, load_config

    if args.config is None:
        raise SetupError("give a config file, or --suite with a suite file")
    cfg = load_config(args.config, args.cfg_options)
    if args.checkpoint is not None and not Path(args.checkpoint).is_file():
        raise SetupError(f"checkpoint {args.checkpoint} does not exist; check the path")
    if args.launcher != "none":
        cfg.launcher = args.launcher
    name = Path(args.config).stem
    if is_folder(args):
        from ovseg.engine.own_data import use_dataset

        for told in use_dataset(cfg, folder_config(args), args.vocabulary):
            say(told, "yellow")
        name = f"{name}_{folder_name(args)}"
    elif args.vocabulary is not None:
        _switch_vocabulary(cfg, args.vocabulary)
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / name)
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


def _switch_vocabulary(cfg: Config, vocabulary: str) -> None:
    """Other words for the same classes; the background stays the class it is.

    Raises:
        SetupError: for a config without words.
    """
    from ovseg.engine import SetupError

    own = (cfg.get("model") or {}).get("vocabulary")
    if own is None:
        raise SetupError(f"config {cfg.filename} has no model.vocabulary that --vocabulary could replace")
    background = own.get("background") if isinstance(own, dict) else None
    cfg.model.pop("vocabulary")  # a merge would keep the other one's settings
    cfg.model.vocabulary = dict(file=vocabulary, background=background)


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns the exit status."""
    import torch
    from mmengine.dist import is_main_process

    from ovseg.engine import EvalRunner, hold_work_dir

    if args.suite is not None:
        from ovseg.cli._suite import run_suite

        return run_suite(args)
    set_local_rank(args)
    cfg = make_config(args)
    with hold_work_dir(cfg.work_dir, is_first_process(cfg.get("launcher", "none"))):
        runner = EvalRunner.from_cfg(cfg)
        if args.report is not None:
            from ovseg.report import ReportHook

            runner.register_hook(ReportHook(args.report))
        runner.test()
        status = report(runner, args.per_class) if is_main_process() else DONE
    if runner.test_loop.is_repeat and (args.out or args.show_dir) and is_main_process():
        say("this run had finished: nothing was evaluated, so no pictures or label maps were written", "yellow")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return status


def report(runner: EvalRunner, per_class: bool = False) -> int:
    """Print the tables of a finished run; returns the exit status."""
    from ovseg.engine import ResultHook
    from ovseg.evaluation import class_table, failure_table, summary_table

    console = Console() if sys.stdout.isatty() else Console(width=120)  # 80 columns would cut the table in a log
    hook = next((h for h in runner.hooks if isinstance(h, ResultHook)), None)
    failures = runner.test_loop.failures
    if hook is not None and hook.row is not None:
        console.print(class_table(hook.per_class, everything=per_class))
        console.print(summary_table(hook.row))
        say(f"everything about this run: {Path(runner.work_dir) / hook.json_name}", stderr=False)
    if failures:
        console.print(failure_table(failures))
    errors = next((h.facts for h in runner.hooks if hasattr(h, "facts")), None)
    if errors:
        say(f"error report: {errors['page']}", stderr=False)
        emit("errors", **errors)
    status = SKIPPED if failures else DONE
    found = {} if hook is None or hook.row is None else {"row": vars(hook.row), "per_class": hook.per_class}
    emit("result", work_dir=runner.work_dir, failures=failures, **{"row": None, "per_class": None, **found})
    return status
