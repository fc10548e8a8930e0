"""Is a data set complete and readable? (``tools/prepare_data.py NAME --check``)"""

from __future__ import annotations

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
    """

    images: int
    expected: tuple[int, ...]
    names: tuple[str, ...]
    failures: dict[str, str] = field(default_factory=dict)
    pixels: np.ndarray | None = None
    ignored: int = 0

    @property
    def problems(self) -> list[str]:
        """What is wrong, one sentence each; empty if nothing is."""
        found = []
        if self.expected and self.images not in self.expected:
            found.append(f"{self.images} images, {' or '.join(str(n) for n in self.expected)} were expected")
        if self.failures:
            found.append(f"{len(self.failures)} samples cannot be used, e.g. {next(iter(self.failures.values()))}")
        return found

    @property
    def absent(self) -> list[str]:
        """Classes without a single pixel: worth knowing, not wrong."""
        return [name for name, count in zip(self.names, self.pixels, strict=True) if count == 0]


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
