"""A bulk job: from a source and words to a folder of results, resumed where it was left."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ovseg.apis import Segmenter
from ovseg.backbones.precision import describe_precision
from ovseg.bulk.cluster import run_on_ray
from ovseg.bulk.manifest import FORMAT, claim, clear, clear_unfinished, differences, finished, read_settings
from ovseg.bulk.page import write_page
from ovseg.bulk.plan import PHOTOS_PER_SHARD, Plan, Shard
from ovseg.bulk.pool import Pool
from ovseg.bulk.worker import ModelChoice, Task, Words, Worker
from ovseg.bulk.writers import check_formats
from ovseg.datasets.io import read_image
from ovseg.datasets.places import read_bytes
from ovseg.datasets.sources import Listing, list_source
from ovseg.describing import describe
from ovseg.engine.stopping import stop_asked_for
from ovseg.engine.work_dir import hold_work_dir
from ovseg.errors import SetupError
from ovseg.evaluation.result import library_versions

_DATA_LIBRARIES = ("pillow", "opencv-python", "pyarrow")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAMPLE = 8
"""Photos that an estimate measures."""


@dataclass(frozen=True)
class Settings:
    """What is to be made of the photos.

    Attributes:
        words: one or several vocabularies; their patch embeddings are computed once.
        model: which one.
        formats: ``'rle'``, ``'png'``, ``'coco'``, ``'panoptic'``, one or several.
        instances: things apart, in COCO's formats.
        photos_per_shard: size of a shard.
        batch: photos encoded together.
        threads: of torch on the CPU in each process; ``None``: the cores by the number of processes.
        image, key: see :func:`ovseg.datasets.sources.list_source`.
    """

    words: Sequence[Words]
    model: ModelChoice = field(default_factory=ModelChoice)
    formats: Sequence[str] = ("rle",)
    instances: bool = False
    photos_per_shard: int = PHOTOS_PER_SHARD
    batch: int = 4
    threads: int | None = None
    image: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run has behind it.

    Attributes:
        photos, failed, shards: of the whole job, as far as finished.
        left: shards that are not finished: the run was asked to stop.
        new: photos that this run worked on.
        bytes: that this run wrote.
        seconds: of this run's work, models' loading not included for one process.
    """

    photos: int
    failed: int
    shards: int
    left: int
    new: int
    bytes: int
    seconds: float

    @property
    def photos_per_second(self) -> float:
        """Of this run."""
        return self.new / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Estimate:
    """What a job will take, measured on a few of its photos in one process with all threads.

    Attributes:
        measured: photos.
        seconds_per_photo: mean, after a first one.
        bytes_per_photo: of results.
        seconds, bytes: of what is left to do.
    """

    measured: int
    seconds_per_photo: float
    bytes_per_photo: float
    seconds: float
    bytes: float


class Job:
    """A source, words and a folder, checked and ready to run.

    Args:
        source: see :func:`ovseg.datasets.sources.list_source`.
        out: folder of the results; a job that was begun there is gone on with.
        settings: what is to be made.

    Attributes:
        listing: the source's photos.
        plan: which photos are worked on together.

    Raises:
        SetupError: for a source, words, formats or settings that cannot be used.
    """

    def __init__(self, source: str, out: str | Path, settings: Settings) -> None:
        formats = check_formats(settings.formats)
        names = [words.name for words in settings.words]
        if not names or len(set(names)) < len(names):
            raise SetupError(f"vocabularies need names that differ, these are called {', '.join(names) or 'nothing'}")
        for name in names:
            if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
                raise SetupError(f"vocabulary name {name!r}: letters, digits, - and _ only, it becomes a folder's")
        if settings.batch < 1:
            raise SetupError(f"batch {settings.batch}: at least 1 photo is needed")
        self.out, self.settings = Path(out), replace(settings, formats=formats)
        if os.path.isdir(source) and self.out.resolve().is_relative_to(Path(source).resolve()):
            raise SetupError(f"{out} lies in {source}: the next run would take results for photos; give another --out")
        self.listing: Listing = list_source(source, settings.image, settings.key)
        self.plan = Plan(self.listing.photos, settings.photos_per_shard)
        self._segmenter: Segmenter | None = None

    @property
    def segmenter(self) -> Segmenter:
        """The model in this process."""
        if self._segmenter is None:
            try:
                self._segmenter = self.settings.model.load()
            except SetupError:
                raise
            except ValueError as error:
                raise SetupError(str(error)) from error
        return self._segmenter

    def made_with(self) -> dict[str, Any]:
        """What results depend on besides the photos: model, weights, words, formats, versions.

        Raises:
            SetupError: for words that are none.
        """
        segmenter, settings = self.segmenter, self.settings
        words = {}
        for given in settings.words:
            try:
                vocabulary = segmenter.wording(given.vocabulary, given.background).vocabulary
            except ValueError as error:
                raise SetupError(f"vocabulary {given.name}: {error}") from error
            words[given.name] = {
                "names": list(vocabulary.display_names),
                "hash": vocabulary.content_hash,
                "background": vocabulary.background,
            }
        parts = [describe(segmenter.model), *(describe(step) for step in segmenter.resizing)]
        text = "\n".join(parts).replace(repr(str(settings.model.checkpoint)), "'given'")
        return {
            "model": {
                "protocol": segmenter.protocol,
                "config": hashlib.sha256(text.encode()).hexdigest(),
                "weights": segmenter.model.weights_content(),
                "short_side": segmenter.short_side,
                "precision": [line.split()[0] for line in describe_precision(segmenter.model)],
                "device": next(segmenter.model.parameters()).device.type,
            },
            "vocabularies": words,
            "formats": sorted(settings.formats),
            "instances": settings.instances,
            "batch": settings.batch,
            "versions": library_versions(_DATA_LIBRARIES),
        }

    def folder_settings(self) -> dict[str, Any]:
        """What stands in the folder's ``bulk.json``."""
        plan = {
            "photos": len(self.plan.photos),
            "photos_per_shard": self.plan.photos_per_shard,
            "shards": len(self.plan),
            "hash": self.plan.hash,
        }
        return {"format": FORMAT, "source": self.listing.kind, "plan": plan, "made_with": self.made_with()}

    def begun(self) -> dict[int, dict[str, int]]:
        """Counts of the shards that are finished in the folder, by number; nothing is changed.

        Raises:
            SetupError: if the folder holds a job with other settings.
        """
        if not (self.out / "bulk.json").is_file():
            return {}
        changes = list(differences(read_settings(self.out), self.folder_settings()))
        if changes:
            raise SetupError(f"{self.out} holds a job with other settings: {'; '.join(changes)}")
        return finished(self.out, self.plan)[0]

    def estimate(self, workers: int = 1) -> Estimate:
        """Measure a few photos, evenly chosen, in a folder that is removed, and reckon with what is left.

        Several processes are taken to be as fast together as one with all threads, which is what sharing the same cores
        gives.
        """
        left = len(self.plan.photos) - sum(counts["photos"] for counts in self.begun().values())
        count = min(_SAMPLE, len(self.plan.photos))
        chosen = [self.plan.photos[i * len(self.plan.photos) // count] for i in range(count)]
        with tempfile.TemporaryDirectory() as folder:
            worker = Worker(self._task(Path(folder), 1), self.segmenter)
            worker.run(Shard(0, 0, tuple(chosen[:1])))
            start = time.perf_counter()
            counts = worker.run(Shard(1, 0, tuple(chosen)))
            seconds = (time.perf_counter() - start) / count
        size = counts["bytes"] / count
        return Estimate(count, seconds, size, seconds * left, size * left)

    def run(
        self,
        workers: int = 1,
        verify: bool = False,
        ray: bool | str = False,
        begin: Callable[[int, int], object] = lambda photos, finished: None,
        tell: Callable[[int], object] = lambda photos: None,
        done: Callable[[Shard, dict[str, int]], object] = lambda shard, counts: None,
        note: Callable[[str], object] = lambda line: None,
    ) -> Outcome:
        """Work on all shards that are not finished, then write the page of what is (:mod:`ovseg.bulk.page`).

        Ctrl-C and SIGTERM end the run after the shards in hand; a second one at once, without them.

        Args:
            workers: processes; 1: this one.
            verify: compare finished files with their hashes, not their sizes alone.
            ray: the processes are actors of a Ray cluster (:mod:`ovseg.bulk.cluster`): of its address, or ``True``.
            begin: gets the number of all photos, and of those that are finished.
            tell: gets the number of photos that were done since; negative where a process died.
            done: gets each shard that was committed, with its counts.
            note: gets a line about what was odd.

        Returns:
            what is finished.

        Raises:
            SetupError: if the folder is another run's or another job's, cannot be written to, or is full; if photos
                cannot be reached; if the model fails on all photos. What is finished is kept.
        """
        if workers < 1:
            raise SetupError(f"{workers} workers: at least 1 is needed")
        with hold_work_dir(self.out, what="output folder", option="--out"), stop_asked_for() as stop:
            settings = self.folder_settings()
            claim(self.out, settings)
            counts, wrong = finished(self.out, self.plan, verify)
            for line in wrong:
                note(f"made anew: {line}")
            try:
                clear(self.out, self.plan, counts)
                begin(len(self.plan.photos), sum(c["photos"] for c in counts.values()))
                start, fresh = time.perf_counter(), dict[int, dict[str, int]]()

                def finish(shard: Shard, found: dict[str, int]) -> None:
                    fresh[shard.number] = found
                    done(shard, found)

                shards = (shard for shard in self.plan if shard.number not in counts)
                if len(counts) < len(self.plan):
                    task = self._task(self.out.resolve(), workers, settings["made_with"])
                    if ray:
                        self._segmenter = None
                        run_on_ray(task, workers, shards, stop, tell, finish, None if ray is True else ray)
                        clear_unfinished(self.out)
                    elif workers == 1:
                        worker = Worker(task, self.segmenter)
                        for shard in shards:
                            if stop.is_set():
                                break
                            finish(shard, worker.run(shard, tell))
                    else:
                        self._segmenter = None  # the processes have their own
                        Pool(task, workers).run(shards, stop, tell, finish)
                        clear_unfinished(self.out)
                seconds = time.perf_counter() - start
                write_page(self.out, lambda number, name: read_image(read_bytes(self.plan.photos[number].place)))
            except OSError as error:
                raise SetupError(self._unwritable(error)) from error
            everything = {**counts, **fresh}
            return Outcome(
                photos=sum(c["photos"] for c in everything.values()),
                failed=sum(c["failed"] for c in everything.values()),
                shards=len(everything),
                left=len(self.plan) - len(everything),
                new=sum(c["photos"] for c in fresh.values()),
                bytes=sum(c["bytes"] for c in fresh.values()),
                seconds=seconds,
            )

    def _unwritable(self, error: OSError) -> str:
        kept = len(finished(self.out, self.plan)[0])
        full = "the disk is full: free some space" if error.errno in _FULL else error.strerror or str(error)
        return (
            f"cannot write to {self.out}: {full}. {kept} of {len(self.plan)} shards are finished and kept; the same "
            "command goes on from there"
        )

    def _task(self, out: Path, workers: int, made_with: Mapping[str, Any] | None = None) -> Task:
        settings, precision = self.settings, describe_precision(self.segmenter.model)
        auto = next((line.split()[0] for line in precision if "(auto)" in line), None)
        threads = settings.threads or (None if workers == 1 else max(1, torch.get_num_threads() // workers))
        return Task(
            out=out,
            model=settings.model,
            words=tuple(settings.words),
            formats=tuple(settings.formats),
            instances=settings.instances,
            batch=settings.batch,
            threads=threads,
            auto_precision=auto if os.environ.get("OVSEG_PRECISION") is None else None,
            made_with=dict(made_with or {}),
        )
