"""Prove that ovseg's extras can be installed: every one, with and without constraints.txt, for each Python.

    python tools/check_extras.py                        # all extras, each and together, Python 3.11 to 3.13
    python tools/check_extras.py --python 3.12 --extra demo export

Only versions are resolved, nothing is installed: seconds with a warm cache, a minute or two without. Needs `uv`
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
    parser.add_argument("--extra", nargs="+", help="only these (default: every extra, and all together)")
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
    wanted = {name: base + extras[name] for name in args.extra or extras}
    if args.extra is None:
        wanted = {"none": base, **wanted, TOGETHER: base + [line for lines in extras.values() for line in lines]}
    kinds = (("constraints.txt", REPOSITORY / "constraints.txt"), ("no constraints", None))
    jobs = [(python, *kind, name) for python in args.python for kind in kinds for name in wanted]

    def run(job: tuple[str, str, Path | None, str]) -> tuple[str, float]:
        start = time.perf_counter()
        return resolve(uv, wanted[job[3]], job[0], job[2]), time.perf_counter() - start

    failed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (python, label, _, name), (problem, seconds) in zip(jobs, pool.map(run, jobs), strict=True):
            failed += bool(problem)
            print(f"{'FAILED' if problem else 'ok':6} Python {python}, {label}, {name} ({seconds:.1f} s)", flush=True)
            if problem:
                print("       " + problem.replace("\n", "\n       "), flush=True)
    print(f"{failed} failed" if failed else "everything resolves")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
