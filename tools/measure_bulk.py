"""``ovseg bulk`` measured: speed by processes, vocabularies and formats, and memory and handles over many photos.

    python tools/measure_bulk.py speed --photos DIR --repeats 3 --csv docs/bulk_speed.csv
    python tools/measure_bulk.py soak --photos DIR --csv docs/bulk_soak.csv --picture docs/pictures/bulk_soak.png

``speed`` runs the commands in turn, ``--repeats`` times, and gives the median; CPU seconds, which other work on the
machine changes less than the clock, are of the whole command less those of a job of no work (imports, loading).
``soak`` takes the photos as often as needed, through links.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this folder is not installed

from ovseg.bulk import Job, ModelChoice, Settings, Words  # noqa: E402
from ovseg.cli.bulk import vocabularies  # noqa: E402
from ovseg.datasets.files import atomic_path  # noqa: E402

VOC, ADE, WORDS = ("--classes", "voc21"), ("--classes", "ade20k"), ("--classes", "words=cat, grass, sky, wall")
RUNS: dict[str, tuple[str, ...]] = {
    "rle, 21 classes": VOC,
    "all four formats": (*VOC, "--format", "rle,png,coco,panoptic"),
    "rle, 150 classes": ADE,
    "rle, three vocabularies (21, 150, 4)": (*VOC, *ADE, *WORDS),
    "rle, 2 processes": (*VOC, "--workers", "2"),
    "rle, Ray, 1 actor": (*VOC, "--ray"),
    "rle, Ray, 2 actors": (*VOC, "--workers", "2", "--ray"),
}
"""What is compared; each with one thread per process."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "soak"))
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--model", default="nano-photo")
    parser.add_argument("--short-side", default=None, type=int)
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS), metavar="RUN", help="of the speed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--count", type=int, default=2000, help="photos of the soak")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--picture", type=Path, help="of the soak")
    return parser.parse_args(argv)


def command(args: argparse.Namespace, options: Sequence[str]) -> dict[str, float]:
    """Run ``ovseg bulk`` once: its summary line, and ``cpu``, its CPU seconds with those of its processes."""
    with tempfile.TemporaryDirectory() as folder:
        side = () if args.short_side is None else ("--short-side", str(args.short_side))
        fixed = ("--model", args.model, *side, "--threads", "1", "--photos-per-shard", "32", "--json")
        line = [sys.executable, "-m", "ovseg", "bulk", str(args.photos), "--out", f"{folder}/out", *fixed, *options]
        before = os.times()
        done = subprocess.run(line, capture_output=True, text=True)
        after = os.times()
        if not done.stdout:
            raise SystemExit(done.stderr)
        summary = json.loads(done.stdout.splitlines()[-1])
        again = os.times()
        subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rest = _cpu(os.times(), again)
        return {**summary, "cpu": _cpu(after, before) - rest}


def _cpu(after: os.times_result, before: os.times_result) -> float:
    return (after.children_user + after.children_system) - (before.children_user + before.children_system)


def speed(args: argparse.Namespace) -> list[dict[str, object]]:
    """Medians of the runs, taken in turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in args.runs}
    for _ in range(args.repeats):
        for name in args.runs:
            found[name].append(command(args, RUNS[name]))
            print(name, found[name][-1], flush=True)
    rows: list[dict[str, object]] = []
    for name, runs in found.items():
        photos = runs[0]["new"]
        rows.append(
            {
                "run": name,
                "photos": photos,
                "photos_per_second": round(statistics.median(r["photos_per_second"] for r in runs), 2),
                "cpu_ms_per_photo": round(1000 * statistics.median(r["cpu"] for r in runs) / photos, 1),
                "bytes_per_photo": round(runs[0]["bytes"] / photos),
            }
        )
    return rows


def soak(args: argparse.Namespace) -> list[dict[str, object]]:
    """Memory, open files and threads of one process after each shard of many photos."""
    files = sorted(path for path in args.photos.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "photos")
        source.mkdir()
        for number in range(args.count):
            file = files[number % len(files)]
            (source / f"{number:06d}{file.suffix}").symlink_to(file.resolve())
        words: list[Words] = vocabularies(["voc21", "words=cat, grass, sky, wall"], None)
        choice = ModelChoice(weights=args.model, short_side=args.short_side)
        job = Job(
            str(source), Path(folder, "out"), Settings(words, choice, formats=("rle", "png"), photos_per_shard=32)
        )
        start, photos = time.perf_counter(), 0

        def done(shard: object, counts: dict[str, int]) -> None:
            nonlocal photos
            photos += counts["photos"]
            rows.append({"photos": photos, "seconds": round(time.perf_counter() - start, 1), **state()})
            print(rows[-1], flush=True)

        job.run(done=done)
        shutil.rmtree(Path(folder, "out"))
    return rows


def state() -> dict[str, object]:
    """Of this process: resident memory in MiB, open files, threads (Linux)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory, threads = int(lines["VmRSS"].split()[0]) / 1024, int(lines["Threads"])
    return {"memory_mib": round(memory, 1), "open_files": len(os.listdir("/proc/self/fd")), "threads": threads}


def draw(rows: list[dict[str, object]], path: Path) -> None:
    """Memory and open files over the photos."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    photos, memory, files = ([float(str(row[key])) for row in rows] for key in ("photos", "memory_mib", "open_files"))
    axes.plot(photos, memory, color="#3b74b8")
    axes.set(xlabel="photos", ylabel="resident memory, MiB", ylim=(0, 1.2 * max(memory)))
    right = axes.twinx()
    right.plot(photos, files, color="#b4642a", linestyle="--")
    right.set(ylabel="open files (dashed)", ylim=(0, 2 * max(files)))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the table."""
    args = parse_args(argv)
    rows = speed(args) if args.what == "speed" else soak(args)
    with atomic_path(args.csv) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if args.what == "soak" and args.picture is not None:
        draw(rows, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
