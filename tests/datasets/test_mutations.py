"""Thousands of mutated class files, JSON, .mat files and archives: a named error or the same reading twice."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from ovseg.class_files import read_class_file
from ovseg.datasets.convert import UnsafeArchive, extract
from ovseg.datasets.convert.cityscapes import from_polygons
from ovseg.datasets.convert.context import context_jobs, read_label_map
from ovseg.datasets.convert.jobs import ConversionError, run_jobs
from ovseg.text import Vocabulary
from tests.datasets.fixtures import build_official
from tests.datasets.test_convert import make_tar, make_zip
from tests.test_class_files import RIGHT


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes: bits, bytes, lines and blocks flipped, cut, repeated, taken out, or taken from elsewhere."""
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 20))
        kind = rng.integers(7)
        if kind == 0:
            data = data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + rng.integers(0, 256, length, dtype=np.uint8).tobytes() + data[at + length :]
        elif kind == 2:
            data = data[:at]
        elif kind == 3:
            data = data[:at] + data[at : at + length] * 3 + data[at + length :]
        elif kind == 4:
            data = data[:at] + data[at + length :]
        elif kind == 5:
            lines = data.split(b"\n")
            other = int(rng.integers(len(lines)))
            lines.insert(int(rng.integers(len(lines) + 1)), lines[other] if rng.integers(2) else b"")
            data = b"\n".join(lines)
        else:
            token = [
                b"-1",
                b"1e400",
                b"NaN",
                b"\xff\xfe",
                b"\0",
                b"\xef\xbb\xbf",
                b"[",
                b"{",
                b"\t",
                b":",
                b"999999999",
            ]
            data = data[:at] + token[int(rng.integers(len(token)))] + data[at:]
    return data


def class_files(folder: Path) -> tuple[list[bytes], Callable[[bytes], object], tuple[type[Exception], ...]]:
    names = [name for _, name in RIGHT.values()]
    count = iter(range(10**9))

    def read(data: bytes) -> object:
        path = folder / names[next(count) // 2 % len(names)]
        path.write_bytes(data)
        found = read_class_file(path)
        assert len(found.entries) == len(found.places) and found.entries
        vocabulary = Vocabulary.from_file(path)
        assert all(name == name.strip() and name for names in vocabulary.classes for name in names)
        return found

    return [text.encode() for text, _ in RIGHT.values()], read, (ValueError,)


def polygons(folder: Path) -> tuple[list[bytes], Callable[[bytes], object], tuple[type[Exception], ...]]:
    build_official(folder, "cityscapes")
    seeds = [path.read_bytes() for path in sorted(folder.rglob("*_polygons.json"))]

    def read(data: bytes) -> object:
        (folder / "x.json").write_bytes(data)
        return from_polygons(folder / "x.json").tolist()

    # inside a converter all of these are recorded by name; other kinds would be faults of this code
    return seeds, read, (ValueError, KeyError, TypeError, AttributeError)


def context(folder: Path) -> tuple[list[bytes], Callable[[bytes], object], tuple[type[Exception], ...]]:
    build_official(folder, "context60")
    path = folder / "VOCdevkit/VOC2010/trainval_merged.json"
    seeds = [path.read_bytes()]

    def read(data: bytes) -> object:
        path.write_bytes(data)
        jobs = context_jobs(folder)
        failures = run_jobs([*jobs], force=True)
        assert all("trainval_merged.json:" in source and reason for source, reason in failures.items())
        return sorted(failures)

    return seeds, read, (ConversionError,)


def mat(folder: Path) -> tuple[list[bytes], Callable[[bytes], object], tuple[type[Exception], ...]]:
    labels = np.random.default_rng(0).integers(1, 460, (9, 12)).astype(np.uint16)
    seeds = []
    for compress in (True, False):
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {"LabelMap": labels}, do_compression=compress)
        seeds.append(buffer.getvalue())

    def read(data: bytes) -> object:
        (folder / "x.mat").write_bytes(data)
        found = read_label_map(folder / "x.mat")
        assert found.dtype == np.uint16 and found.max() < 459
        return found.tolist()

    return seeds, read, (ValueError,)


def archives(folder: Path) -> tuple[list[bytes], Callable[[bytes], object], tuple[type[Exception], ...]]:
    members = {"a/b.txt": b"first" * 30, "c.txt": b"second"}
    seeds = [make_zip(folder / "x.zip", members).read_bytes()]
    seeds += [make_tar(folder / "x.tar", members, compression=kind).read_bytes() for kind in ("", "gz", "bz2", "xz")]
    count = iter(range(10**9))

    def read(data: bytes) -> object:
        (folder / "x").write_bytes(data)
        target = folder / f"out{next(count)}"
        extract(folder / "x", target)
        return sorted((p.relative_to(target).as_posix(), p.read_bytes()) for p in target.rglob("*") if p.is_file())

    return seeds, read, (UnsafeArchive, FileExistsError, NotADirectoryError, IsADirectoryError)


KINDS = dict(class_files=class_files, polygons=polygons, context=context, mat=mat, archives=archives)


def check(kind: str, folder: Path, number: int) -> tuple[int, int]:
    seeds, read, errors = KINDS[kind](folder)
    rng = np.random.default_rng(7)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(number):
            data = mutate(seeds[i % len(seeds)], rng)
            results = []
            for _ in range(2):
                try:
                    results.append(read(data))
                except errors as error:
                    results.append((type(error), str(error)[:20]))
                    assert str(error), (kind, data)
            assert results[0] == results[1], (kind, data)
            refused += isinstance(results[0], tuple)
    return number, refused


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_mutated_files(tmp_path, kind):
    number, refused = check(kind, tmp_path, 150)
    assert 0 < refused < number or kind == "archives"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_5000_mutated_files(tmp_path, kind):
    number, refused = check(kind, tmp_path, 5000)
    print(f"{kind}: {refused} of {number} refused by name, the others read alike twice")
    assert refused
