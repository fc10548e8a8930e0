"""The check itself: every file is read once, then the whole is looked at."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from ovseg.datasets.benchmarks import Benchmark
from ovseg.datasets.check.edges import contrast, fit, is_exchanged, weakest
from ovseg.datasets.check.neighbours import shifted_maps
from ovseg.datasets.check.report import CheckReport
from ovseg.datasets.check.samples import SampleFacts, read_sample
from ovseg.datasets.check.suspicions import Labels, suspicions
from ovseg.datasets.dataset import SegmentationDataset
from ovseg.datasets.findings import Finding
from ovseg.datasets.fingerprint import combine, in_order, label_settings
from ovseg.datasets.io import photo_source, read_image
from ovseg.datasets.transforms import LoadImage, LoadMask

_FAULTS = {
    "photo-missing": "photos are missing",
    "photo-unreadable": "photos cannot be read",
    "mask-missing": "photos have no label map",
    "mask-unreadable": "label maps cannot be read",
    "size": "label maps have another size than their photos",
    "label-range": "label maps hold labels that are no classes",
}
_JUDGED = 12  # label maps with borders from which on their fit is judged as a whole


def check_dataset(
    dataset: SegmentationDataset,
    benchmark: Benchmark | None = None,
    console: Console | None = None,
    allowed: Sequence[str] = (),
    workers: int = 1,
) -> CheckReport:
    """Read every photo and label map once, and tell what is wrong or odd.

    Args:
        dataset: what to read.
        benchmark: what a complete copy looks like.
        console: where progress is shown; ``None``: nowhere.
        allowed: kinds of findings that are meant and shall not count as wrong.
        workers: threads that read.
    """
    names = dataset.metainfo["classes"]
    title = benchmark.title if benchmark else dataset.title
    report = CheckReport(title, len(dataset), benchmark.images if benchmark else (), names)
    report.ignore_index, report.allowed = dataset.metainfo["ignore_index"], tuple(allowed)
    report.findings = [*dataset.findings, *_linked(dataset)]
    if report.expected and report.images not in report.expected:
        number = " or ".join(str(n) for n in report.expected)
        report.findings.append(Finding("count", f"{report.images} images, {number} were expected"))
    facts = []
    report.pixels, report.maps, raw = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64), Counter()
    found = in_order(lambda i: read_sample(dataset.get_data_info(i)), range(len(dataset)), workers)
    for sample in track(found, "checking", len(dataset), console=console, disable=console is None):
        facts.append(sample)
        raw.update(dict(zip(sample.values.tolist(), sample.counts.tolist(), strict=True)))
        report.pixels[sample.classes] += sample.pixels
        report.maps[sample.classes] += 1
        report.ignored += sample.ignored
        if sample.fault is not None:
            report.failures[sample.photo] = sample.reason
    report.raw = dict(raw)
    sizes = sorted((s.size for s in facts if s.size), key=lambda size: size[0] * size[1])
    report.smallest, report.largest = (sizes[0], sizes[-1]) if sizes else (None, None)
    report.fingerprint = combine(((s.name, *s.hashes) for s in facts), label_settings(dataset))
    good = [s for s in facts if s.fault is None]
    whole = Labels(
        names,
        report.ignore_index,
        bool(dataset.metainfo.get("reduce_zero_label")),
        dataset.label_map,
        report.raw,
        report.pixels,
        report.ignored,
        len(good),
    )
    flagged: dict[int, None] = {}
    for finding, places in (
        *_faults(facts),
        *((finding, ()) for finding in suspicions(whole)),
        *_bits(facts, len(names)),
        *_shifted(good, names),
        *_exchanged(dataset, facts, good),
        *_worth_knowing(facts, good),
    ):
        report.findings.append(finding)
        flagged.update(dict.fromkeys(places))
    report.flagged = list(flagged)
    return report


def _linked(dataset: SegmentationDataset) -> Iterable[Finding]:
    """Folders of the data set that lie elsewhere."""
    for folder in dataset.folders:
        links = [p for p in (folder, *folder.parents) if p.is_symlink()]
        links += [p for p in sorted(folder.rglob("*")) if p.is_symlink() and p.is_dir()] if folder.is_dir() else []
        for link in links:
            told = f"{link} is a linked folder: its files lie in {link.resolve()}"
            yield Finding("linked", told, wrong=False, paths=(str(link),))


def _faults(facts: Sequence[SampleFacts]) -> Iterable[tuple[Finding, list[int]]]:
    by_kind: dict[str, list[SampleFacts]] = defaultdict(list)
    for sample in facts:
        if sample.fault is not None:
            by_kind[sample.fault].append(sample)
    for kind, what in _FAULTS.items():
        samples = by_kind.get(kind)
        if not samples:
            continue
        message = f"{len(samples)} {what}, e.g. {samples[0].reason}"
        if kind == "size":
            message += _exchange_of_sizes(samples)
        paths = tuple(s.photo if kind.startswith("photo") else s.mask for s in samples)
        yield Finding(kind, message, paths=paths), [s.index for s in samples]


def _exchange_of_sizes(samples: Sequence[SampleFacts]) -> str:
    """Two label maps that have each other's size were exchanged, most likely."""
    for a, b in combinations(samples, 2):
        if a.mask_size == b.size and b.mask_size == a.size and a.size != b.size:
            return f" ({Path(a.mask).name} and {Path(b.mask).name} have each other's size: are they exchanged?)"
    return ""


def _bits(facts: Sequence[SampleFacts], classes: int) -> Iterable[tuple[Finding, list[int]]]:
    if classes <= 256:
        return
    narrow = [s for s in facts if s.bits is not None and s.bits < (classes - 1).bit_length()]
    if narrow:
        message = (
            f"{len(narrow)} label maps have {narrow[0].bits} bits, which hold 0 to {2 ** narrow[0].bits - 1}, and "
            f"there are {classes} classes: larger labels were cut when they were written (300 is 44 in 8 bits), e.g. "
            f"{narrow[0].mask}; write them with 16 bits"
        )
        yield Finding("bits", message, paths=tuple(s.mask for s in narrow)), [s.index for s in narrow]


def _shifted(good: Sequence[SampleFacts], names: Sequence[str]) -> Iterable[tuple[Finding, list[int]]]:
    told = shifted_maps([s.classes for s in good], len(names))
    if told:
        place, move = told[0]
        held = ", ".join(names[c] for c in good[place].classes[:5])
        better = ", ".join(names[c + move] for c in good[place].classes[:5])
        message = (
            f"{len(told)} label maps look shifted by one against the others, e.g. {good[place].mask}, which holds "
            f"{held}; with {move:+d} it would hold {better}"
        )
        samples = [good[i] for i, _ in told]
        yield Finding("shifted-map", message, paths=tuple(s.mask for s in samples)), [s.index for s in samples]


def _exchanged(
    dataset: SegmentationDataset, facts: Sequence[SampleFacts], good: Sequence[SampleFacts]
) -> Iterable[tuple[Finding, list[int]]]:
    """Label maps that lie on another photo's edges, or on none."""
    fits = [(s.index, s.size, s.edges) for s in good if s.edges is not None]
    candidates = weakest(fits)
    sizes = Counter(size for _, size in candidates)
    ranks, labels = {}, {}
    for index, size in candidates:
        if sizes[size] > 1:
            info = dataset.get_data_info(index)
            info["ori_shape"] = size
            ranks[index] = contrast(read_image(photo_source(info)))
            step = LoadMask()
            labels[index] = step.to_classes(step.read(info), info).astype(np.int32)
    pairs = []
    for (a, size_a), (b, size_b) in combinations(candidates, 2):
        if size_a == size_b:
            crossed = fit(ranks[a], labels[b]), fit(ranks[b], labels[a])
            if is_exchanged((facts[a].edges, facts[b].edges), crossed):
                pairs.append((min(a, b), max(a, b)))
    if pairs:
        a, b = (facts[i] for i in pairs[0])
        message = (
            f"{len(pairs)} pairs of label maps fit each other's photo and not their own: {a.mask} and {b.mask} look "
            "exchanged"
        )
        paths = tuple(facts[i].mask for pair in pairs for i in pair)
        yield Finding("exchanged", message, paths=paths), [i for pair in pairs for i in pair]
    margins = [f.margin for *_, f in fits]
    if len(margins) >= _JUDGED and np.median(margins) < 0 and np.median([f.score for *_, f in fits]) < 0.8:
        message = (
            f"the borders of {len(margins)} label maps do not follow the edges of their photos: are photos and label "
            "maps paired rightly? If they are this coarse, say so with --allow edges"
        )
        yield Finding("edges", message), []


def _worth_knowing(
    facts: Sequence[SampleFacts], good: Sequence[SampleFacts]
) -> Iterable[tuple[Finding, Sequence[int]]]:
    turned = [s for s in facts if s.orientation != 1]
    if turned:
        message = (
            f"{len(turned)} photos have an EXIF rotation, which is applied, e.g. {turned[0].photo}; their label maps "
            "must be drawn on the rotated photo"
        )
        yield Finding("exif", message, wrong=False, paths=tuple(s.photo for s in turned)), ()
    empty = [s for s in good if not s.classes.size]
    if empty:
        message = f"{len(empty)} label maps have no pixel of a class, all are ignored, e.g. {empty[0].mask}"
        yield Finding("empty", message, wrong=False, paths=tuple(s.mask for s in empty)), ()
    for kind, place, what in (("same-photo", 0, "photos"), ("same-mask", 1, "label maps")):
        groups: dict[str, list[SampleFacts]] = defaultdict(list)
        for s in good:
            if place == 0 or s.classes.size > 1:
                groups[s.hashes[place]].append(s)
        same = [group for group in groups.values() if len({s.name for s in group}) > 1]
        if same:
            first = [s.photo if place == 0 else s.mask for s in same[0]]
            message = f"{sum(map(len, same))} {what} are the same file under several names, e.g. {' and '.join(first)}"
            paths = tuple(s.photo if place == 0 else s.mask for group in same for s in group)
            yield Finding(kind, message, wrong=False, paths=paths), ()


def usable(dataset: SegmentationDataset, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Photo uint8 ``[H, W, 3]`` and classes int32 ``[H, W]`` of a sample.

    Raises:
        SampleError: if it cannot be used.
    """
    info = LoadMask().transform(LoadImage().transform(dataset.get_data_info(index)))
    return info["image"], info["labels"]
