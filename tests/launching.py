"""Evaluation by several processes, and what those say that fail."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def launched(processes: int) -> list[str]:
    """What stands between Python and a script that several processes run."""
    return ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]


def evaluate_with(processes: int, config: Path, work_dir: Path, *options: str) -> subprocess.CompletedProcess:
    """``torchrun --nproc_per_node PROCESSES tools/test.py CONFIG``, which must succeed."""
    script = [str(ROOT / "tools/test.py"), str(config), "--launcher", "pytorch", "--work-dir", str(work_dir)]
    command = [sys.executable, *launched(processes), *script]
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    done = subprocess.run([*command, *options], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, cause(done.stderr)
    return done


def cause(stderr: str, limit: int = 8000) -> str:
    """The part of ``torchrun``'s standard error that tells why: without its own traceback, the start first, since the
    process that failed first speaks before those that waited for it."""
    before, told, after = stderr.partition("torch/distributed/elastic/multiprocessing/api.py:")
    if told:
        codes = re.findall(r"exitcode *: (-?\d+)", after)
        before = f"exit codes {', '.join(codes)}\n{before.rpartition(chr(10))[0]}"
    return before if len(before) <= limit else f"{before[: limit // 2]}\n[...]\n{before[-limit // 2 :]}"
