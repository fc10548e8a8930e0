"""Load on ``ovseg serve`` over loopback: photos of mixed sizes, words and faults; throughput, latencies, outcomes.

    python tools/load_serve.py --photos DIR --batches 1 4 8 --clients 8 --seconds 60 --csv docs/serve_load.csv

For each ``--batches`` a service is started, asked by ``--clients`` threads that each wait for their answer, and ended
by SIGTERM while all of them wait: every request that was sent before must be answered. Photos are sent at four sizes, a
quarter to twice their own. One request in ten (``--faults``) is one that must be refused: of every kind of refusal that
does not need an overload; each must come with its own status and kind. What is sent is drawn with a fixed seed.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this folder is not installed

from ovseg.datasets.files import atomic_path  # noqa: E402

WORDS = ("cat,dog,grass,sky", "voc21", "person; man; woman,road,car,tree,building", "wall,floor,table,chair,background")
FORMATS = ("rle", "png", "areas")
SCALES = (0.25, 0.5, 1.0, 2.0)
"""Sizes that photos are sent at, by their own."""
MEGABYTES, PIXELS, CLASSES = 2, 4_000_000, 100
"""Limits of the service under load."""


@dataclass(frozen=True)
class Fault:
    """A request that must be refused.

    Attributes:
        status, kind: of the refusal.
        make: the body, from an encoded photo.
        query: the address behind the question mark.
        content_type: of the body.
    """

    status: int
    kind: str
    make: Callable[[bytes], bytes]
    query: str = "classes=cat,dog"
    content_type: str = "application/octet-stream"


def _large_picture() -> bytes:
    """A PNG of few bytes and more pixels than are taken."""
    file = io.BytesIO()
    side = int(PIXELS**0.5) + 8
    Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


LARGE = _large_picture()
FAULTS = {
    "too many bytes": Fault(413, "bytes", lambda photo: photo + bytes(MEGABYTES * 10**6)),
    "too many pixels": Fault(422, "photo", lambda photo: LARGE),
    "no photo": Fault(422, "photo", lambda photo: b"no photo at all"),
    "a cut photo": Fault(422, "photo", lambda photo: photo[: len(photo) // 2]),
    "no body": Fault(422, "empty", lambda photo: b""),
    "too many classes": Fault(
        422, "words", lambda photo: photo, f"classes={','.join(f'w{number}' for number in range(CLASSES + 1))}"
    ),
    "a class twice": Fault(422, "words", lambda photo: photo, "classes=cat,cat"),
    "a background that is none": Fault(422, "words", lambda photo: photo, "classes=cat,dog&background=nothing"),
    "a format that is none": Fault(422, "format", lambda photo: photo, "classes=cat,dog&format=bmp"),
    "broken JSON": Fault(422, "json", lambda photo: b'{"image": "', "", "application/json"),
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--short-side", default="112")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--faults", type=float, default=0.1, help="share of requests that must be refused")
    parser.add_argument("--csv", type=Path, required=True)
    return parser.parse_args(argv)


def photos_of(folder: Path) -> list[bytes]:
    """The photos of a folder as JPEG, each at all of :data:`SCALES` that are within the limits."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".png")):
        with Image.open(path) as picture:
            whole = picture.convert("RGB")
        for scale in SCALES:
            size = [max(1, round(side * scale)) for side in whole.size]
            file = io.BytesIO()
            whole.resize(size).save(file, "JPEG")
            if size[0] * size[1] <= PIXELS and file.tell() <= MEGABYTES * 10**6:
                found.append(file.getvalue())
    return found


class Load:
    """Threads that ask and wait, until told to end.

    Args:
        base: the service's address.
        photos: encoded.
        clients: threads.
        faults: share of requests that must be refused.

    Attributes:
        done: seconds of every request that was answered with labels.
        refused: seconds of every refusal that was due, by what was wrong with the request.
        other: what else came, as "wanted: got".
    """

    def __init__(self, base: str, photos: list[bytes], clients: int, faults: float) -> None:
        self.done: list[float] = []
        self.refused: dict[str, list[float]] = {name: [] for name in FAULTS}
        self.other: Counter[str] = Counter()
        self.ending = threading.Event()
        self._base, self._photos, self._faults, self._lock = base, photos, faults, threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(seed,)) for seed in range(clients)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until all threads have ended."""
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """Requests that got what was due."""
        return len(self.done) + sum(map(len, self.refused.values()))

    def _ask(self, seed: int) -> None:
        draw = random.Random(seed)
        with httpx.Client(timeout=120) as client:
            while not self.ending.is_set():
                body, name = draw.choice(self._photos), None
                query, headers = f"classes={draw.choice(WORDS)}&format={draw.choice(FORMATS)}", {}
                if draw.random() < self._faults:
                    name = draw.choice(list(FAULTS))
                    fault = FAULTS[name]
                    body, query, headers = fault.make(body), fault.query, {"content-type": fault.content_type}
                start = time.perf_counter()
                try:
                    answer = client.post(f"{self._base}/v1/segment?{query}", content=body, headers=headers)
                except httpx.HTTPError as error:
                    got = type(error).__name__
                else:
                    got = "done" if answer.status_code == 200 else f"{answer.status_code} {_kind(answer)}"
                self._add(name, got, time.perf_counter() - start)

    def _add(self, name: str | None, got: str, seconds: float) -> None:
        due = "done" if name is None else f"{FAULTS[name].status} {FAULTS[name].kind}"
        with self._lock:
            if got != due:
                self.other[f"{name or 'a photo'}: {got}"] += 1
            elif name is None:
                self.done.append(seconds)
            else:
                self.refused[name].append(seconds)


def _kind(answer: httpx.Response) -> str:
    """What a refusal calls itself."""
    try:
        return str(answer.json()["kind"])
    except (ValueError, KeyError, TypeError):
        return "without a kind"


def measure(args: argparse.Namespace, batch: int, photos: list[bytes]) -> dict[str, object]:
    """One service under load."""
    side = ("--short-side", str(args.short_side)) if args.short_side else ()
    line = [sys.executable, "-m", "ovseg", "serve", "--model", args.model, *side, "--port", "0", "--json"]
    line += ["--max-megabytes", str(MEGABYTES), "--max-pixels", str(PIXELS), "--max-classes", str(CLASSES)]
    process = subprocess.Popen([*line, "--batch", str(batch), "--threads", "1"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    base = json.loads(process.stdout.readline())["address"]
    for words in WORDS:  # embed them first
        httpx.post(f"{base}/v1/segment?classes={words}", content=photos[0], timeout=120).raise_for_status()
    load, start = Load(base, photos, args.clients, args.faults), time.perf_counter()
    time.sleep(args.seconds)
    seconds, answered = time.perf_counter() - start, load.answered
    steps = [row for row in httpx.get(f"{base}/metrics", timeout=60).text.splitlines() if "batch_photos_" in row]
    numbers = {row.split()[0]: float(row.split()[1]) for row in steps}
    load.ending.set()
    process.send_signal(signal.SIGTERM)
    load.join()
    status = process.wait(120)
    refusals = [took for times in load.refused.values() for took in times]
    return {
        "batch": batch,
        "clients": args.clients,
        "seconds": round(seconds, 1),
        "requests": load.answered + load.other.total(),
        "per_second": round(answered / seconds, 2),
        "photos_per_step": round(numbers["ovseg_batch_photos_sum"] / numbers["ovseg_batch_photos_count"], 2),
        **_percentiles("", load.done),
        **_percentiles("refused_", refusals),
        "refused": json.dumps({name: len(times) for name, times in load.refused.items()}),
        "not_as_expected": json.dumps(load.other) if load.other else "0",
        "exit_status": status,
    }


def _percentiles(name: str, seconds: list[float]) -> dict[str, object]:
    """The 50th, 95th and 99th percentile in milliseconds; empty where nothing was measured."""
    found = [round(1000 * value) for value in np.percentile(seconds, (50, 95, 99))] if seconds else [""] * 3
    return {f"{name}p{share}_ms": value for share, value in zip((50, 95, 99), found, strict=True)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the table; 1 if anything was lost."""
    args = parse_args(argv)
    photos = photos_of(args.photos)
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
