"""``ovseg train``, ``tools/train.py``: train from a config.

ovseg train configs/nano/clip_nano_pretrain.py
ovseg train CONFIG --work-dir runs/first --cfg-options train_cfg.max_iters=100
ovseg train CONFIG --work-dir runs/first --resume
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ovseg.cli._arguments import add_cfg_options, add_launcher, is_first_process, set_local_rank
from ovseg.cli._output import emit
from ovseg.cli._status import DONE


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments, with the habits of mmsegmentation's tools/train.py."""
    parser = commands.add_parser(
        "train",
        help="train from a config",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="where logs and checkpoints go (default: work_dirs/<name of the config>)")
    parser.add_argument("--resume", action="store_true", help="go on from the latest checkpoint in the work dir")
    parser.add_argument("--amp", action="store_true", help="mixed precision through MMEngine's AmpOptimWrapper (GPU)")
    add_cfg_options(parser)
    add_launcher(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build the runner of the config and train; returns the exit status."""
    import torch

    from ovseg.engine import SetupError, TrainRunner, hold_work_dir, load_config

    set_local_rank(args)
    cfg = load_config(args.config, args.cfg_options)
    if args.launcher != "none":
        cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    cfg.setdefault("work_dir", str(Path("work_dirs") / Path(args.config).stem))
    if args.amp:
        if cfg.get("optim_wrapper") is None:
            raise SetupError(f"config {args.config} has no optim_wrapper: there is nothing for --amp to change")
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
    cfg.resume = args.resume or cfg.get("resume", False)
    with hold_work_dir(cfg.work_dir, is_first_process(cfg.get("launcher", "none"))):
        runner = TrainRunner.from_cfg(cfg)
        runner.train()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    checkpoint = Path(cfg.work_dir) / "last_checkpoint"
    last = checkpoint.read_text(encoding="utf-8").strip() if checkpoint.is_file() else None
    if is_first_process(cfg.get("launcher", "none")):
        emit("trained", work_dir=cfg.work_dir, iterations=runner.iter, checkpoint=last)
    return DONE
