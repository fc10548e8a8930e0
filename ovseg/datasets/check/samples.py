"""What one sample's two files say, each read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ovseg.datasets.check.edges import EdgeFit, edge_fit
from ovseg.datasets.errors import ImageReadError, MaskReadError, SampleError
from ovseg.datasets.files import dangling
from ovseg.datasets.fingerprint import sample_hashes
from ovseg.datasets.io import label_bits, mask_source, photo_orientation, photo_source, read_image
from ovseg.datasets.transforms import LoadMask, read_labels

_EMPTY = np.zeros(0, np.int64)


@dataclass
class SampleFacts:
    """What was found in a sample.

    Attributes:
        index: place in the data set.
        name: the sample's name.
        photo, mask: paths.
        hashes: SHA-256 of photo and label map.
        size, mask_size: height and width, where they could be read.
        orientation: EXIF orientation of the photo.
        bits: per label in the file; ``None`` where labels do not come as a picture.
        values, counts: labels as the file has them, and their pixels.
        classes, pixels: classes and their pixels.
        ignored: pixels with the ignore index.
        edges: how well borders of labels follow the photo's edges; ``None`` where there are too few.
        fault: kind of what makes it unusable, with ``reason``.
    """

    index: int
    name: str
    photo: str
    mask: str
    hashes: tuple[str, str] = ("", "")
    size: tuple[int, int] | None = None
    mask_size: tuple[int, int] | None = None
    orientation: int = 1
    bits: int | None = None
    values: np.ndarray = field(default_factory=lambda: _EMPTY)
    counts: np.ndarray = field(default_factory=lambda: _EMPTY)
    classes: np.ndarray = field(default_factory=lambda: _EMPTY)
    pixels: np.ndarray = field(default_factory=lambda: _EMPTY)
    ignored: int = 0
    edges: EdgeFit | None = None
    fault: str | None = None
    reason: str = ""


def read_sample(info: Mapping[str, object]) -> SampleFacts:
    """Read a sample's photo and label map.

    Args:
        info: as ``SegmentationDataset.get_data_info`` gives it.
    """
    info = dict(info)
    mask = str(info.get("seg_map_path") or "")
    facts = SampleFacts(int(info["sample_idx"]), str(info["name"]), str(info["img_path"]), mask)
    facts.hashes = sample_hashes(info)
    photo, step = None, LoadMask()
    try:
        source = photo_source(info)
        facts.orientation = photo_orientation(source)
        photo = read_image(source)
        facts.size = info["ori_shape"] = photo.shape[:2]
    except ImageReadError as error:
        # bytes do not know where they come from
        _fail(facts, "photo", facts.photo, ImageReadError(facts.photo, error.reason))
    try:
        raw = _read_labels(facts, info)
        facts.mask_size = raw.shape
        facts.values, facts.counts = np.unique(raw, return_counts=True)
    except SampleError as error:
        _fail(facts, "mask", facts.mask, error)
        return facts
    if photo is None:
        return facts
    try:
        labels = step.to_classes(step.read({**info, "read_labels": lambda _: raw}), info)
    except SampleError as error:
        _fail(facts, "size" if raw.shape != photo.shape[:2] else "label-range", facts.mask, error)
        return facts
    inside = labels != info["ignore_index"]
    counts = np.bincount(labels[inside], minlength=1)
    facts.classes = np.flatnonzero(counts)
    facts.pixels = counts[facts.classes]
    facts.ignored = int(labels.size - inside.sum())
    facts.edges = edge_fit(photo, labels)
    return facts


def _read_labels(facts: SampleFacts, info: dict) -> np.ndarray:
    """Labels as the file has them, whatever their size."""
    if not facts.mask:
        raise MaskReadError(facts.photo, "no such label map: the data set has none for this photo")
    raw = read_labels(info)
    if "read_labels" not in info:
        facts.bits = label_bits(mask_source(info))
    return raw


def _fail(facts: SampleFacts, part: str, path: str, error: SampleError) -> None:
    if facts.fault is not None:
        return
    if part in ("photo", "mask"):
        gone = "no such" in str(error) or dangling(Path(path)) is not None
        part = f"{part}-{'missing' if gone else 'unreadable'}"
    facts.fault, facts.reason = part, str(error)
