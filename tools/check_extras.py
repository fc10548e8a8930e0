"""Prove that ovseg's extras can be installed: every one, with and without constraints.txt, for each Python.

    python tools/check_extras.py                        # all extras together, Python 3.11 to 3.13
    python tools/check_extras.py --each                 # each by itself as well: what an installer would choose
    python tools/check_extras.py --python 3.12 --extra demo export

Versions that satisfy all extras together satisfy each of them, so each is looked at only where all together fail (or
with `--each`). Only versions are resolved, nothing is installed; the time is the registry's. Needs `uv`
(`pip install uv`), whose resolver answers for other Pythons than its own. Exit code 1 names what cannot be resolved.
"""

from __future__ import annotations

import argparse
import runpy
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
TOGETHER = "all together"
AT_ONCE = 8
"""Resolutions at once: they wait for the registry most of the time."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=list(PYTHONS), help=f"default: {' '.join(PYTHONS)}")
    parser.add_argument("--extra", nargs="+", help="only these, each by itself")
    parser.add_argument(
        "--each", action="store_true", help="every extra by itself as well, even if all together resolve"
    )
    return parser.parse_args(argv)


def declared() -> tuple[list[str], dict[str, list[str]]]:
    """``install_requires`` and ``extras_require`` of setup.py."""
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(REPOSITORY / "setup.py"))
    return setup.call_args.kwargs["install_requires"], setup.call_args.kwargs["extras_require"]


def find_uv() -> list[str] | None:
    """The command that runs uv: beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    return [found] if found else None


def resolve(uv: list[str], requirements: list[str], python: str, constraints: Path | None) -> str:
    """What stands in the way of installing ``requirements``; empty if nothing does."""
    command = [*uv, "pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", "--python-version", python]
    if constraints is not None:
        command += ["--constraint", str(constraints)]
    done = subprocess.run(command, input="\n".join(requirements), capture_output=True, text=True)
    return done.stderr.strip() or f"uv ended with {done.returncode}" if done.returncode else ""


Job = tuple[str, str, Path | None, str]
"""Python, what constrains in words, the file of constraints, and a name of what is wanted."""


def failures(uv: list[str], jobs: list[Job], wanted: dict[str, list[str]]) -> list[Job]:
    """Resolve all jobs, say how each went, and return those that cannot be resolved."""

    def run(job: Job) -> tuple[str, float]:
        start = time.perf_counter()
        return resolve(uv, wanted[job[3]], job[0], job[2]), time.perf_counter() - start

    failed = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for job, (problem, seconds) in zip(jobs, pool.map(run, jobs), strict=True):
            python, label, _, name = job
            print(f"{'FAILED' if problem else 'ok':6} Python {python}, {label}, {name} ({seconds:.1f} s)", flush=True)
            if problem:
                print("       " + problem.replace("\n", "\n       "), flush=True)
                failed.append(job)
    return failed


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    uv = find_uv()
    if uv is None:
        print("error: uv is missing: `pip install uv` (its resolver answers for other Pythons)", file=sys.stderr)
        return 2
    base, extras = declared()
    unknown = sorted(set(args.extra or ()) - set(extras))
    if unknown:
        print(f"error: no extra {', '.join(unknown)}; there are {', '.join(extras)}", file=sys.stderr)
        return 2
    everything = base + [line for lines in extras.values() for line in lines]
    single = {"none": base, **{name: base + lines for name, lines in extras.items()}}
    kinds = (("constraints.txt", REPOSITORY / "constraints.txt"), ("no constraints", None))
    places = [(python, *kind) for python in args.python for kind in kinds]
    wanted = {**single, TOGETHER: everything}
    if args.extra:
        failed = len(failures(uv, [(*place, name) for place in places for name in args.extra], wanted))
    else:
        bad = failures(uv, [(*place, TOGETHER) for place in places], wanted)
        doubtful = places if args.each else [job[:3] for job in bad]
        failed = len(bad) + len(failures(uv, [(*place, name) for place in doubtful for name in single], wanted))
    print(f"{failed} failed" if failed else "everything resolves")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
