"""What a check found, as text and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ovseg.datasets.findings import Finding


@dataclass
class CheckReport:
    """What :func:`ovseg.datasets.check.check_dataset` found.

    Attributes:
        title: name of the data set.
        images: samples listed.
        expected: numbers of samples a complete copy may have; empty where none is known.
        names: class names.
        ignore_index: the label that is not evaluated.
        findings: what is wrong, and what is worth knowing.
        allowed: kinds of findings that were said to be meant.
        failures: ``{path of the photo: reason}`` of samples that cannot be used.
        pixels: int64 ``[C]`` labelled pixels per class; ``maps``: int64 ``[C]`` label maps that have the class.
        ignored: pixels with the ignore index.
        raw: ``{label in the files: pixels}``.
        smallest, largest: photos by pixels, ``(height, width)``.
        fingerprint: see :func:`ovseg.datasets.fingerprint.dataset_fingerprint`.
        flagged: places of the samples that something is said about.
        looked: numbers of a model's look at the photos, see :meth:`ovseg.datasets.check.naming.Looked.to_dict`.
    """

    title: str
    images: int
    expected: tuple[int, ...]
    names: tuple[str, ...]
    ignore_index: int = 255
    findings: list[Finding] = field(default_factory=list)
    allowed: tuple[str, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    maps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ignored: int = 0
    raw: dict[int, int] = field(default_factory=dict)
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    fingerprint: str = ""
    flagged: list[int] = field(default_factory=list)
    looked: dict[str, object] | None = None

    @property
    def problems(self) -> list[str]:
        """What is wrong and was not allowed, one sentence each; empty if nothing is."""
        return [f.message for f in self.findings if f.wrong and f.kind not in self.allowed]

    @property
    def notes(self) -> list[str]:
        """What is worth knowing, one sentence each."""
        return [f.message for f in self.findings if not f.wrong or f.kind in self.allowed]

    @property
    def absent(self) -> list[str]:
        """Classes without a single pixel: worth knowing, not wrong."""
        return [name for name, count in zip(self.names, self.pixels, strict=True) if count == 0]

    def to_dict(self) -> dict[str, object]:
        """Everything, for JSON."""
        rows = zip(self.names, self.pixels, self.maps, strict=True)
        return {
            "title": self.title,
            "ok": not self.problems,
            "images": self.images,
            "expected": list(self.expected),
            "usable": self.images - len(self.failures),
            "fingerprint": self.fingerprint,
            "ignore_index": self.ignore_index,
            "ignored": self.ignored,
            "classes": [{"name": name, "pixels": int(p), "maps": int(m)} for name, p, m in rows],
            "absent": self.absent,
            "labels_in_files": {str(label): count for label, count in sorted(self.raw.items())},
            "smallest": self.smallest,
            "largest": self.largest,
            "findings": [{**f.to_dict(), "allowed": f.kind in self.allowed} for f in self.findings],
            "failures": self.failures,
            "looked": self.looked,
        }
