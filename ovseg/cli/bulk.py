"""``ovseg bulk``: many photos with your own words, shard by shard, resumable.

    ovseg bulk photos/ --classes ade20k --out results/
    ovseg bulk 'shards/{000..019}.tar' --classes "cat, dog, background" --out results/ --format rle,png --workers 2
    ovseg bulk s3://bucket/photos --classes ade20k --classes "pets=cat, dog" --out results/ --dry-run

SOURCE is a folder, a quoted glob, a list (.txt: a path or address per line), tar shards as of webdataset, or parquet
with the photos' bytes; here or wherever fsspec reads. The same command goes on with a job that was ended, by whatever;
what it gives is the same to the byte. --classes may be given several times, with a name before "=": photos are encoded
once for all vocabularies. Read the results with ovseg.bulk.read(DIR).
"""

from __future__ import annotations

import argparse
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ovseg.cli._arguments import count
from ovseg.cli._model import add_model_options
from ovseg.cli._output import emit, print_pairs, say
from ovseg.cli._status import DONE, INTERRUPTED, PART
from ovseg.errors import SetupError

if TYPE_CHECKING:
    from ovseg.bulk import Job, Words


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "bulk",
        help="many photos, shard by shard, resumable",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="folder, quoted glob, list, tar or parquet files, or an address"
    )
    add_model_options(parser, several=True)
    parser.add_argument("--out", required=True, help="folder of the results")
    parser.add_argument(
        "--format", default="rle", help="what to write, with commas: rle (parquet), png, coco, panoptic (default: rle)"
    )
    parser.add_argument("--instances", action="store_true", help="things apart, in coco and panoptic")
    parser.add_argument("--workers", type=count, default=1, help="processes on this machine (default: 1)")
    parser.add_argument(
        "--ray",
        nargs="?",
        const=True,
        default=False,
        metavar="ADDRESS",
        help="--workers actors of a Ray cluster instead of processes here (default address: Ray's own choice)",
    )
    parser.add_argument("--threads", type=count, help="of torch in each process (default: the cores by --workers)")
    parser.add_argument("--batch", type=count, default=4, help="photos encoded together (default: 4)")
    parser.add_argument("--photos-per-shard", type=count, default=128, help="what a kill can cost (default: 128)")
    parser.add_argument("--image", help="column of the photos (parquet), or their ending in a sample (tar)")
    parser.add_argument("--key", help="column that names the photos (parquet)")
    parser.add_argument(
        "--verify", action="store_true", help="compare finished files with their hashes before going on"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and an estimate, write nothing")
    parser.set_defaults(run=run)


def vocabularies(given: list[str], background: str | None) -> list[Words]:
    """Vocabularies of ``[NAME=]WORDS``; those without a name are called after their file, or ``words``.

    Raises:
        SetupError: for words that are none, or names that are not clear.
    """
    from ovseg.bulk import Words
    from ovseg.text import Vocabulary
    from ovseg.text.vocabulary import packaged_vocabularies

    found: list[Words] = []
    for text in given:
        named = re.fullmatch(r"([A-Za-z0-9_-]+)=(.+)", text, re.DOTALL)
        if named is not None and not Path(text).exists():
            name, text = named[1], named[2]
        elif text in packaged_vocabularies() or Path(text).is_file():
            name = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(text).stem)
        else:
            name = "words"
        if any(words.name == name for words in found):
            raise SetupError(f"two vocabularies are called {name!r}: write --classes 'NAME=WORDS' to tell them apart")
        try:
            vocabulary = Vocabulary.from_argument(text)
        except ValueError as error:
            raise SetupError(str(error)) from error
        names = {word for classes in vocabulary.classes for word in classes}
        own = background if background in names or len(given) == 1 else None
        found.append(Words(name, vocabulary, own))
    if background is not None and all(words.background is None for words in found):
        raise SetupError(f"--background {background}: no vocabulary has this class")
    return found


def make_job(args: argparse.Namespace) -> Job:
    """The job that the arguments describe."""
    from ovseg.apis import DEFAULT_WEIGHTS
    from ovseg.bulk import Job, ModelChoice, Settings

    named = dict(method=args.method, weights=args.model or DEFAULT_WEIGHTS) if args.config is None else {}
    model = ModelChoice(
        **named,
        config=args.config,
        checkpoint=args.checkpoint,
        device=args.device,
        short_side=args.short_side,
        precision=args.precision,
    )
    settings = Settings(
        words=vocabularies(args.classes, args.background),
        model=model,
        formats=tuple(part.strip() for part in args.format.split(",") if part.strip()),
        instances=args.instances,
        photos_per_shard=args.photos_per_shard,
        batch=args.batch,
        threads=args.threads,
        image=args.image,
        key=args.key,
    )
    return Job(args.source, args.out, settings)


def run(args: argparse.Namespace) -> int:
    """Run or plan; returns the exit status."""
    job = make_job(args)
    for line in job.listing.notes:
        say(line, "yellow")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        protocol = job.made_with()["model"]["protocol"]
    say(protocol, "dim")
    for warning in told:
        say(warning.message, "yellow")
    return _plan(job, args.workers) if args.dry_run else _work(job, args)


def _plan(job: Job, workers: int) -> int:
    begun = job.begun()
    found = job.estimate(workers)
    per_shard = job.plan.photos_per_shard
    facts: dict[str, Any] = {
        "photos": len(job.plan.photos),
        "shards": len(job.plan),
        "photos_per_shard": per_shard,
        "plan": job.plan.hash,
        "finished": len(begun),
        "seconds_per_photo": found.seconds_per_photo,
        "bytes_per_photo": found.bytes_per_photo,
        "seconds": found.seconds,
        "bytes": found.bytes,
    }
    first, last = job.plan.photos[0].name, job.plan.photos[-1].name
    print_pairs(
        (
            ("photos", f"{len(job.plan.photos)} ({job.listing.kind}): {first} ... {last}"),
            ("shards", f"{len(job.plan)} of {per_shard} photos, {len(begun)} finished"),
            ("plan", job.plan.hash[:12]),
            ("a photo", f"{found.seconds_per_photo * 1000:.0f} ms, {found.bytes_per_photo / 1e3:.1f} kB of results"),
            ("left to do", f"about {_duration(found.seconds)} and {found.bytes / 1e6:.1f} MB on this machine"),
            ("measured on", f"{found.measured} photos"),
        )
    )
    emit("plan", **facts)
    return DONE


def _work(job: Job, args: argparse.Namespace) -> int:
    from ovseg.bulk.page import PAGE

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console, speed_estimate_period=120) as progress:
        bar = progress.add_task("segmenting", total=len(job.plan.photos))
        outcome = job.run(
            args.workers,
            args.verify,
            args.ray,
            begin=lambda photos, finished: progress.update(bar, completed=finished),
            tell=lambda photos: progress.advance(bar, photos),
            done=lambda shard, counts: emit("shard", shard=shard.number, **counts),
            note=lambda line: progress.console.print(line, style="yellow", markup=False),
        )
    emit(
        "summary",
        photos=outcome.photos,
        failed=outcome.failed,
        shards=outcome.shards,
        left=outcome.left,
        new=outcome.new,
        seconds=outcome.seconds,
        photos_per_second=outcome.photos_per_second,
        bytes=outcome.bytes,
        folder=job.out,
        page=job.out / PAGE,
    )
    say(
        f"{outcome.photos} photos in {outcome.shards} shards, {outcome.failed} failed; this run: {outcome.new} in "
        f"{_duration(outcome.seconds)} ({outcome.photos_per_second:.1f} a second), {outcome.bytes / 1e6:.1f} MB; "
        f"{job.out / PAGE}",
        stderr=False,
    )
    if outcome.left:
        say(f"stopped with {outcome.left} shards left; the same command goes on", "yellow")
        return INTERRUPTED
    return PART if outcome.failed else DONE


class _Speed(ProgressColumn):
    """Photos a second in this run."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


def _duration(seconds: float) -> str:
    """Seconds for people.

    >>> _duration(7384)
    '2 h 3 min'
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
