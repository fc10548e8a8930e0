"""Is a data set complete and readable? (``tools/prepare_data.py NAME --check``)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import track

from ovseg.datasets.benchmarks import Benchmark
from ovseg.datasets.dataset import SegmentationDataset
from ovseg.datasets.errors import SampleError
from ovseg.datasets.transforms import LoadImage, LoadMask


@dataclass
class CheckReport:
    """What :func:`check_dataset` found.

    Attributes:
        images: samples listed.
        expected: numbers of samples a complete copy may have; empty where none is known.
        failures: ``{path of the photo: reason}``.
        pixels: int64 ``[C]`` labelled pixels per class.
        ignored: pixels with the ignore index.
        names: class names.
        ignore_index: the label that is not evaluated.
        notes: what the data set left out, see :class:`ovseg.datasets.SegmentationDataset`.
    """

    images: int
    expected: tuple[int, ...]
    names: tuple[str, ...]
    failures: dict[str, str] = field(default_factory=dict)
    pixels: np.ndarray | None = None
    ignored: int = 0
    ignore_index: int = 255
    notes: tuple[str, ...] = ()

    @property
    def problems(self) -> list[str]:
        """What is wrong, one sentence each; empty if nothing is."""
        found = []
        if self.expected and self.images not in self.expected:
            found.append(f"{self.images} images, {' or '.join(str(n) for n in self.expected)} were expected")
        if self.failures:
            found.append(f"{len(self.failures)} samples cannot be used, e.g. {next(iter(self.failures.values()))}")
        odd = two_valued(self.pixels, self.ignored, self.names, self.ignore_index)
        return found if odd is None else [*found, odd]

    @property
    def absent(self) -> list[str]:
        """Classes without a single pixel: worth knowing, not wrong."""
        return [name for name, count in zip(self.names, self.pixels, strict=True) if count == 0]


def two_valued(pixels: Sequence[int], ignored: int, names: Sequence[str], ignore_index: int) -> str | None:
    """What to set where label maps hold 0 and the ignore index only, as masks drawn in black and white do.

    Args:
        pixels: labelled pixels per class.
        ignored: pixels with the ignore index.
        names: class names.
        ignore_index: the label that is not evaluated.

    >>> two_valued([5, 0], 3, ["wall", "crack"], 255).split("; ")[1]
    "if 255 means 'crack' in the files, set label_map={255: 1} in the data set"
    >>> two_valued([5, 2], 3, ["wall", "crack"], 255) is None
    True
    """
    present = [i for i, count in enumerate(pixels) if count]
    if len(names) < 2 or not ignored or present not in ([], [0]):
        return None
    if not present:
        return (
            f"no pixel of a class occurs, all are ignored; with reduce_zero_label=True label 0 and {ignore_index} are: "
            f"leave it out, or map the labels of the files to classes with label_map"
        )
    return (
        f"of {len(names)} classes only {names[0]!r} (0) occurs, all other pixels are {ignore_index}, which is ignored; "
        f"if {ignore_index} means {names[1]!r} in the files, set label_map={{{ignore_index}: 1}} in the data set"
    )


def check_dataset(
    dataset: SegmentationDataset, benchmark: Benchmark | None = None, console: Console | None = None
) -> CheckReport:
    """Read every photo and label map once.

    Sizes must agree and labels lie in range; the number of images is compared to the benchmark's.

    Args:
        dataset: what to read.
        benchmark: what a complete copy looks like.
        console: where progress is shown; ``None``: nowhere.
    """
    names = dataset.metainfo["classes"]
    report = CheckReport(len(dataset), benchmark.images if benchmark else (), names)
    report.ignore_index, report.notes = dataset.metainfo["ignore_index"], tuple(dataset.notes)
    report.pixels = np.zeros(len(names), np.int64)
    load_image, load_mask = LoadImage(), LoadMask()
    for i in track(range(len(dataset)), "checking", console=console, disable=console is None):
        info = dataset.get_data_info(i)
        try:
            labels = load_mask.transform(load_image.transform(info))["labels"]
        except SampleError as error:
            report.failures[info["img_path"]] = str(error)
            continue
        valid = labels != info["ignore_index"]
        report.pixels += np.bincount(labels[valid], minlength=len(names))
        report.ignored += int(labels.size - valid.sum())
    return report
