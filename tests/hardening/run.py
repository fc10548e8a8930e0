"""Every way into ovseg, tried with damaged files by the thousand.

``python -m tests.hardening.run --count 1000 --csv docs/hardening.csv`` makes the table of docs/hardening.md.
Every kind runs in a process of its own with bounded memory and time: a crash or a hang is an outcome, not the end.
A line of ``wrong`` names kind, seed and number: ``--kinds KIND --seed SEED --only NUMBER`` tries it again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tests.datasets.damaged_files import KINDS as FILES
from tests.hardening.surfaces import SURFACES, try_surface

MEMORY = 3 * 2**29  # above what the imports take
SLOW = 20.0  # seconds of one file that count as a hang
KINDS = {**FILES, **dict.fromkeys(SURFACES, try_surface)}


def work(kinds: list[str], seed: int, count: int) -> None:
    """Print one JSON line per kind, or per wrong outcome; in a process of its own."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    for kind in kinds:
        outcomes, slowest, begun = Counter(), 0.0, time.perf_counter()
        for number in range(count):
            print(json.dumps({"at": [kind, seed, number]}), flush=True)
            start = time.process_time()
            try:
                outcome, _ = KINDS[kind](kind, np.random.default_rng([seed, number]))
            except Exception as error:  # whatever it is, it is what is looked for
                print(json.dumps({"wrong": [kind, seed, number, f"{type(error).__name__}: {error}"]}), flush=True)
                outcome = "wrong"
            slowest = max(slowest, time.process_time() - start)
            outcomes[outcome] += 1
        seconds = time.perf_counter() - begun
        print(json.dumps({"kind": kind, "outcomes": outcomes, "slowest": slowest, "seconds": seconds}), flush=True)


def run(kinds: list[str], seed: int, count: int, timeout: float) -> tuple[list[dict], list[object]]:
    """Rows of the table, and everything that went wrong (also a crash or a hang of the process)."""
    command = [sys.executable, "-m", "tests.hardening.run", "--work", json.dumps([kinds, seed, count])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "OFF"}
    root = Path(__file__).parents[2]
    output, error = "", ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, cwd=root)
        output, code, error = done.stdout, done.returncode, done.stderr[-500:]
    except subprocess.TimeoutExpired as late:
        output, code = (late.stdout or b"").decode(), "timeout"
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    wrong: list[object] = [line["wrong"] for line in lines if "wrong" in line]
    if code:
        last = [line["at"] for line in lines if "at" in line][-1:]
        wrong.append(["the process ended", code, last, error])
    rows = [line for line in lines if "kind" in line]
    wrong += [["hang", row["kind"], row["slowest"]] for row in rows if row["slowest"] > SLOW]
    return rows, wrong


COLUMNS = ("kind", "tried", "refused", "identical", "other content", "wrong", "slowest ms", "seconds")


def table_row(row: dict) -> dict[str, object]:
    outcomes = {name: row["outcomes"].get(name, 0) for name in COLUMNS[2:6]}
    times = {"slowest ms": round(1000 * row["slowest"]), "seconds": round(row["seconds"])}
    return {"kind": row["kind"], "tried": sum(outcomes.values()), **outcomes, **times}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one case of one kind, in this process")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    if args.only is not None:
        print(KINDS[args.kinds[0]](args.kinds[0], np.random.default_rng([args.seed, args.only])))
        return 0
    if args.work:
        work(*json.loads(args.work))
        return 0
    rows, failures = [], 0
    for kind in args.kinds:
        found, wrong = run([kind], args.seed, args.count, timeout=3600)
        failures += len(wrong)
        print(*[table_row(row) for row in found], *wrong[:10], sep="\n", flush=True)
        rows += [table_row(row) for row in found]
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
