"""Label maps of any data set as PNG files of class indices, with a file of the classes' names."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from ovseg.class_files import ClassListError, read_class_file
from ovseg.datasets.convert.jobs import Job, run_jobs
from ovseg.datasets.dataset import SegmentationDataset
from ovseg.datasets.files import atomic_path, write_json, write_labels


def convert_dataset(
    dataset: SegmentationDataset, out: Path, console: Console | None = None, workers: int = 1
) -> tuple[Path, dict[str, str]]:
    """Write ``out/masks/NAME.png`` for every sample, and the classes.

    Label maps have 8 bits where the ignore index is 255, else 16; the ignore index stays what it is. What exists is
    written anew.

    Args:
        dataset: with a pipeline of ``LoadImage`` and ``LoadMask``: sizes are compared with the photos'.
        out: folder, made if need be.
        console: where progress is shown; ``None``: nowhere.
        workers: threads.

    Returns:
        the class file, and ``{photo: reason}`` of the samples that could not be converted.

    Raises:
        ConversionError: if nothing can be written.
    """
    values = dataset.metainfo["ignore_index"] + 1
    write = partial(_write, classes=values)

    def labels(_: Path, index: int) -> np.ndarray:
        return dataset.pipeline(dict(dataset.get_data_info(index)))["labels"]

    jobs = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        jobs.append(
            Job(Path(info["img_path"]), out / "masks" / f"{info['name']}.png", partial(labels, index=index), write)
        )
    failures = run_jobs(jobs, force=True, console=console, workers=workers)
    return write_classes(out, dataset.metainfo["classes"]), failures


def _write(path: Path, labels: np.ndarray, classes: int) -> None:
    write_labels(path, labels, classes)


def write_classes(out: Path, names: tuple[str, ...]) -> Path:
    """``classes.txt`` with a name per line, or ``classes.json`` for names that a text would not give back."""
    text, other = out / "classes.txt", out / "classes.json"
    with atomic_path(text) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    try:
        same = list(read_class_file(text).entries) == list(names)
    except ClassListError:
        same = False
    if same:
        other.unlink(missing_ok=True)
        return text
    text.unlink()
    write_json(other, list(names))
    return other
