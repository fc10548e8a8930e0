"""Train from a config: ``python tools/train.py CONFIG [--work-dir DIR] [--resume] [--amp] [--cfg-options k=v ...]``."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction

import ovseg.registry  # noqa: F401  (the scope 'ovseg' must exist before a config names it)
from ovseg.engine.runner import TrainRunner


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line, with the habits of mmsegmentation's tools/train.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="where logs and checkpoints go (default: work_dirs/<name of the config>)")
    parser.add_argument("--resume", action="store_true", help="go on from the latest checkpoint in the work dir")
    parser.add_argument("--amp", action="store_true", help="mixed precision through MMEngine's AmpOptimWrapper (GPU)")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override config entries, key=value")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main(argv: list[str] | None = None) -> None:
    """Build the runner of the config and train."""
    args = parse_args(argv)
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    cfg.setdefault("work_dir", str(Path("work_dirs") / Path(args.config).stem))
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
    cfg.resume = args.resume or cfg.get("resume", False)
    TrainRunner.from_cfg(cfg).train()


if __name__ == "__main__":
    main()
