"""The work itself: photos of a shard are read, encoded once, labelled with every vocabulary, written, and committed.

One process runs it in its own thread, many run it behind :mod:`ovseg.bulk.pool`; there is no other path.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ovseg.apis import Segmenter, load
from ovseg.backbones.precision import ENVIRONMENT_VARIABLE
from ovseg.bulk.manifest import counts_of, staged, write_manifest
from ovseg.bulk.plan import Shard
from ovseg.bulk.writers import WRITERS, Writer
from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.io import read_image
from ovseg.datasets.places import StoreError, read_bytes
from ovseg.datasets.sources import Photo
from ovseg.encoded import Wanted, result_of
from ovseg.engine.memory import keep_freed_memory
from ovseg.errors import SetupError
from ovseg.results import SegmentationResult
from ovseg.streaming import WriteBehind, in_batches
from ovseg.text import Vocabulary

_REASON = 300
"""Characters of a reason that are recorded."""
Results = dict[str, SegmentationResult]
"""Of one photo, by the vocabularies' names."""


class WorkError(SetupError):
    """The model fails on photo after photo: not theirs, but the machine's or the settings' fault."""


@dataclass(frozen=True)
class Words:
    """One vocabulary of a job.

    Attributes:
        name: of its folder in every shard.
        vocabulary: the words.
        background: name of the class that takes uncertain pixels; ``None``: the vocabulary's own.
    """

    name: str
    vocabulary: Vocabulary
    background: str | None = None


@dataclass(frozen=True)
class ModelChoice:
    """What :func:`ovseg.load` is called with; travels to other processes."""

    method: str | None = None
    weights: str | None = None
    config: str | None = None
    checkpoint: str | None = None
    device: str | None = None
    short_side: int | None = None
    precision: str | None = None

    def load(self) -> Segmenter:
        """The model."""
        return load(
            self.method,
            self.weights,
            config=self.config,
            checkpoint=self.checkpoint,
            device=self.device,
            short_side=self.short_side,
            precision=self.precision,
        )


@dataclass(frozen=True)
class Task:
    """All that a process needs to work on shards.

    Attributes:
        out: the job's folder.
        model: which one.
        words: one or several vocabularies.
        formats: names of :data:`ovseg.bulk.writers.WRITERS`.
        instances: things apart, where a format knows things.
        batch: photos encoded together.
        threads: of torch on the CPU; ``None``: torch's own.
        auto_precision: what precision ``'auto'`` means in all processes of this job.
        made_with: what every manifest says about how the results were made.
    """

    out: Path
    model: ModelChoice
    words: tuple[Words, ...]
    formats: tuple[str, ...]
    instances: bool
    batch: int
    threads: int | None
    auto_precision: str | None
    made_with: dict[str, Any]


class Worker:
    """Holds the model and works on shards.

    Args:
        task: what is to be done.
        segmenter: the model, if this process has it already.
    """

    def __init__(self, task: Task, segmenter: Segmenter | None = None) -> None:
        keep_freed_memory()
        if task.threads is not None:
            torch.set_num_threads(task.threads)
        if segmenter is None:
            if task.auto_precision is not None:
                os.environ[ENVIRONMENT_VARIABLE] = task.auto_precision
            segmenter = task.model.load()
        self._task, self._segmenter = task, segmenter
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # told when the job was made
            self._wordings = {w.name: segmenter.wording(w.vocabulary, w.background) for w in task.words}
        self._has_worked = False

    def run(self, shard: Shard, tell: Callable[[int], object] = lambda photos: None) -> dict[str, int]:
        """Work on a shard and commit it.

        Args:
            shard: which photos.
            tell: called with a number of photos whenever so many more are done.

        Returns:
            its counts: ``photos``, ``done``, ``failed``, ``bytes``.

        Raises:
            StoreError: if what the photos lie in cannot be read.
            WorkError: if the model fails on all of them.
            OSError: if the results cannot be written.
        """
        task = self._task
        records: list[dict[str, object]] = []
        with staged(task.out, shard) as stage:
            writers = {
                words.name: [
                    WRITERS[kind](stage / words.name, self._names(words.name), task.instances) for kind in task.formats
                ]
                for words in task.words
            }
            pixels = {name: np.zeros(len(self._names(name)), np.int64) for name in writers}
            failures: list[Exception] = []

            def write(item: tuple[int, Photo, Results | None, Exception | None]) -> None:
                number, photo, results, error = item
                record: dict[str, object] = {"number": number, "name": photo.name}
                if results is None:
                    assert error is not None  # one of the two is there
                    record["error"] = reason(error)
                else:
                    record["height"], record["width"] = next(iter(results.values())).labels.shape
                    _write(writers, pixels, number, photo.name, results)
                records.append(record)
                tell(1)

            with (
                WriteBehind(write, 2 * task.batch) as behind,
                closing(in_batches(shard.photos, _read, self._segment, task.batch)) as outcomes,
            ):
                for number, (photo, results, error) in enumerate(outcomes, shard.first):
                    if isinstance(error, StoreError):
                        raise error
                    if error is not None and not isinstance(error, ImageReadError):
                        failures.append(error)
                    behind.put((number, photo, results, error))
            failed = sum("error" in record for record in records)
            readable = len(records) - (failed - len(failures))
            if failures and len(failures) == readable and (readable > 1 or not self._has_worked):
                raise WorkError(
                    f"the model failed on every photo of shard {shard.number}; the last time: {reason(failures[-1])}"
                ) from failures[-1]
            self._has_worked |= failed < len(records)
            for group in writers.values():
                for writer in group:
                    writer.close()
            manifest = write_manifest(
                stage,
                {
                    "shard": {"number": shard.number, "first": shard.first, "hash": shard.hash},
                    "counts": {"photos": len(records), "done": len(records) - failed, "failed": failed},
                    "photos": records,
                    "pixels": {name: [int(n) for n in found] for name, found in pixels.items()},
                    "made_with": task.made_with,
                },
            )
        return counts_of(manifest)

    def _names(self, words: str) -> tuple[str, ...]:
        return self._wordings[words].vocabulary.display_names

    def _segment(self, photos: list[Photo], arrays: list[np.ndarray]) -> list[Results]:
        """Labels of some photos with all vocabularies; what no word can change is computed once."""
        found = []
        for encoded in self._segmenter.encode_batch(arrays, names=[photo.place.path for photo in photos]):
            model, inside = encoded.opened()
            found.append(
                {
                    name: result_of(model, inside, encoded.image, wording, Wanted(confidence=False, top=0))
                    for name, wording in self._wordings.items()
                }
            )
        return found


def _read(photo: Photo) -> np.ndarray:
    data = read_bytes(photo.place)
    try:
        return read_image(data)
    except ImageReadError as error:
        raise ImageReadError(photo.name, error.reason) from error


def _write(
    writers: dict[str, list[Writer]], pixels: dict[str, np.ndarray], number: int, name: str, results: Results
) -> None:
    for words, result in results.items():
        pixels[words] += np.bincount(result.labels.ravel(), minlength=len(result.names))
        for writer in writers[words]:
            writer.add(number, name, result)


def reason(error: Exception) -> str:
    """Why a photo failed, in one line; the photo itself is named beside it."""
    text = error.reason if isinstance(error, ImageReadError) else f"{type(error).__name__}: {error}"
    line = " ".join(text.split())
    return line if len(line) <= _REASON else f"{line[: _REASON - 3]}..."
