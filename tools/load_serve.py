"""Load on ``ovseg serve`` over loopback: mixed photos, words and faults; throughput, latency percentiles, outcomes.

    python tools/load_serve.py --photos DIR --batches 1 4 8 --clients 8 --seconds 60 --csv docs/serve_load.csv

For each ``--batches`` a service is started, asked by ``--clients`` threads that each wait for their answer, and ended
by SIGTERM while all of them wait: every request that was sent before must be answered. One request in twenty is one
that must be refused. What is sent is drawn with a fixed seed.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this folder is not installed

from ovseg.datasets.files import atomic_path  # noqa: E402

WORDS = ("cat,dog,grass,sky", "voc21", "person; man; woman,road,car,tree,building", "wall,floor,table,chair,background")
FORMATS = ("rle", "png", "areas")
REFUSED = (("", b"no photo at all"), ("&format=bmp", None), ("&background=nothing", None))
"""What is added to the address, and the body in place of a photo."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--short-side", default="112")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--csv", type=Path, required=True)
    return parser.parse_args(argv)


class Load:
    """Threads that ask and wait, until told to end.

    Args:
        base: the service's address.
        photos: encoded.
        clients: threads.
    """

    def __init__(self, base: str, photos: list[bytes], clients: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.ending = threading.Event()
        self._base, self._photos, self._lock = base, photos, threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(seed,)) for seed in range(clients)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until all threads have ended."""
        for thread in self._threads:
            thread.join()

    def _ask(self, seed: int) -> None:
        draw = random.Random(seed)
        with httpx.Client(timeout=120) as client:
            while not self.ending.is_set():
                words, photo, kind = draw.choice(WORDS), draw.choice(self._photos), draw.choice(FORMATS)
                more, wanted = "", 200
                if draw.random() < 0.05:
                    (more, body), wanted = draw.choice(REFUSED), 422
                    photo, kind = body or photo, kind if "format" not in more else ""
                parameters = f"classes={words}{more}" + (f"&format={kind}" if kind else "")
                start = time.perf_counter()
                try:
                    status = client.post(f"{self._base}/v1/segment?{parameters}", content=photo).status_code
                except httpx.HTTPError as error:
                    self._add(type(error).__name__)
                    continue
                self._add("as expected" if status == wanted else str(status), time.perf_counter() - start)

    def _add(self, outcome: str, seconds: float | None = None) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            if seconds is not None:
                self.seconds.append(seconds)


def measure(args: argparse.Namespace, batch: int, photos: list[bytes]) -> dict[str, object]:
    """One service under load."""
    side = ("--short-side", str(args.short_side)) if args.short_side else ()
    line = [sys.executable, "-m", "ovseg", "serve", "--model", args.model, *side, "--port", "0", "--json"]
    process = subprocess.Popen([*line, "--batch", str(batch), "--threads", "1"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    base = json.loads(process.stdout.readline())["address"]
    for words in WORDS:  # embed them first
        httpx.post(f"{base}/v1/segment?classes={words}", content=photos[0], timeout=120).raise_for_status()
    load, start = Load(base, photos, args.clients), time.perf_counter()
    time.sleep(args.seconds)
    seconds, answered = time.perf_counter() - start, len(load.seconds)
    steps = [row for row in httpx.get(f"{base}/metrics", timeout=60).text.splitlines() if "batch_photos_" in row]
    numbers = {row.split()[0]: float(row.split()[1]) for row in steps}
    load.ending.set()
    process.send_signal(signal.SIGTERM)
    load.join()
    status = process.wait(120)
    p50, p95, p99 = np.percentile(load.seconds, (50, 95, 99))
    wrong = {name: count for name, count in load.outcomes.items() if name != "as expected"}
    return {
        "batch": batch,
        "clients": args.clients,
        "seconds": round(seconds, 1),
        "requests": sum(load.outcomes.values()),
        "per_second": round(answered / seconds, 2),
        "photos_per_step": round(numbers["ovseg_batch_photos_sum"] / numbers["ovseg_batch_photos_count"], 2),
        "p50_ms": round(1000 * p50),
        "p95_ms": round(1000 * p95),
        "p99_ms": round(1000 * p99),
        "not_as_expected": json.dumps(wrong) if wrong else "0",
        "exit_status": status,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the table; 1 if anything was lost."""
    args = parse_args(argv)
    photos = [path.read_bytes() for path in sorted(args.photos.iterdir()) if path.suffix.lower() in (".jpg", ".png")]
    rows = []
    for batch in args.batches:
        rows.append(measure(args, batch, photos))
        print(rows[-1], flush=True)
    with atomic_path(args.csv) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return int(any(row["not_as_expected"] != "0" or row["exit_status"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
