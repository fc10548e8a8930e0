"""From official files, wherever they are and however they are packed, to the layout that a benchmark's config reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ovseg.datasets.benchmarks import ARCHIVES, BENCHMARKS, Benchmark, Download, archive_stem
from ovseg.datasets.convert import CONVERTERS, ConversionError, extract, run_jobs
from ovseg.datasets.convert.archive import holds
from ovseg.datasets.files import atomic_path, write_json
from ovseg.weights.download import download
from ovseg.weights.errors import CheckpointError, DownloadError
from ovseg.weights.hashes import file_digest

DOWNLOADS = "downloads"
"""Folder under the data root where downloads are kept, and where files that were fetched by hand are looked for."""


@dataclass
class Prepared:
    """What :func:`prepare` did, or would do.

    Attributes:
        done: one sentence for each step.
        missing: official files that are nowhere and what to do about each.
        failures: ``{file: reason}`` of what could not be converted.
    """

    done: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def prepare(
    name: str,
    root: Path,
    given: Sequence[Path] = (),
    fetch: bool = False,
    force: bool = False,
    dry_run: bool = False,
    workers: int = 1,
    console: Console | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Bring a benchmark into place: find or fetch the official files, unpack, convert.

    Every file appears whole or not at all, and what is there is kept: a run that was killed goes on, a second one
    changes nothing.

    Args:
        name: in :data:`ovseg.datasets.benchmarks.BENCHMARKS`.
        root: data folder.
        given: official files, under any name and packed anew as well, or folders in which they lie.
        fetch: download what has a direct address and is not here.
        force: convert again what exists.
        dry_run: only say what would be done; nothing is written.
        workers: threads that convert.
        console: where progress is shown; ``None``: nowhere.
        say: is told each step when it is done.

    Raises:
        ConversionError: for a given file that does not exist or is none of the benchmark's, or if official files that
            the conversion needs are missing.
        UnsafeArchive: see :func:`ovseg.datasets.convert.extract`.
        DownloadError, CheckpointError: if a download does not come to its end, or is another file.
    """
    benchmark, report = BENCHMARKS[name], Prepared()

    def tell(text: str) -> None:
        report.done.append(text)
        say(text)

    files = find_official(benchmark, root, given)
    for part in benchmark.downloads:
        archive = files.get(part)
        if archive is None and _is_in_place(part, root):
            tell(f"{part.file}: unpacked already")
            continue
        if archive is None and fetch and part.is_direct:
            target = root / DOWNLOADS / part.file
            if dry_run:
                tell(f"{part.file}: would be downloaded from {part.url} to {target.parent}")
                continue
            archive = _fetch(part, target)
            tell(f"{part.file}: downloaded to {target.parent}")
        if archive is None:
            report.missing.append(_how_to_get(part, root))
            continue
        _place(part, archive, root / part.into, dry_run, console, tell)
    if benchmark.verify:
        tell(f"not confirmed yet: {benchmark.verify} (docs/mess.md)")
    if benchmark.converter is None:
        return report
    if dry_run:
        tell(f"label maps would be converted where they are missing ({benchmark.converter})")
        return report
    jobs = CONVERTERS[benchmark.converter](root)
    there = sum(job.target.exists() for job in jobs if job.target != job.source)
    report.failures = run_jobs(jobs, force, console, workers)
    log = root / f"prepare_errors_{name}.json"
    log.unlink(missing_ok=True)
    if report.failures:
        write_json(log, report.failures)
        source, reason = next(iter(report.failures.items()))
        count = f"{len(report.failures)} of {len(jobs)} files could not be converted"
        tell(f"{count}, e.g. {source}: {reason}; see {log}")
    made = len(jobs) - len(report.failures) - (0 if force else there)
    tell(f"converted {max(0, made)} files, {0 if force else there} were there")
    return report


def find_official(benchmark: Benchmark, root: Path, given: Sequence[Path] = ()) -> dict[Download, Path]:
    """Where the official files of a benchmark lie: among the given ones, under the data root or its ``downloads``.

    A file is known by its name, whatever packing its ending tells, or by what it holds.

    Raises:
        ConversionError: for a given file that does not exist, or is none of them.
    """
    found: dict[Download, Path] = {}
    for path in given:
        if path.is_dir():
            found = {**_in_folder(benchmark, path), **found}
            continue
        part = next((d for d in benchmark.downloads if archive_stem(path.name) == d.stem), None)
        if part is None and path.exists() and _is_archive(path):
            part = next((d for d in benchmark.downloads if d.holds and holds(path, d.holds)), None)
        if part is None:
            files = ", ".join(d.file for d in benchmark.downloads) or "nothing is downloaded for it"
            raise ConversionError(f"{path.name} is not a file of {benchmark.title} (there are: {files})")
        if not path.exists():
            raise ConversionError(f"{path} does not exist. {benchmark.how_to_get()}")
        found[part] = path
    for folder in (root / DOWNLOADS, root):
        found = {**_in_folder(benchmark, folder), **found}
    return found


def _in_folder(benchmark: Benchmark, folder: Path) -> dict[Download, Path]:
    if not folder.is_dir():
        return {}
    by_stem = {
        archive_stem(p.name): p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.endswith(".part")
    }
    return {part: by_stem[part.stem] for part in benchmark.downloads if part.stem in by_stem}


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def _is_in_place(part: Download, root: Path) -> bool:
    """Whether what the file holds lies where it belongs already."""
    return (root / part.into / (part.holds or part.file)).exists()


def _how_to_get(part: Download, root: Path) -> str:
    if part.is_direct:
        return f"{part.file}: not here; --download fetches it from {part.url}, or put it into {root / DOWNLOADS}"
    return (
        f"{part.file}: not here; get it from {part.url} and put it into {root / DOWNLOADS}, or name it with --archive"
    )


def _fetch(part: Download, target: Path) -> Path:
    """Download from the first address that answers; what has arrived is kept and continued by the next run."""
    from ovseg.weights.catalogue import Source

    def check(path: Path) -> None:
        if part.md5 is not None and (digest := file_digest(path, "md5")) != part.md5:
            raise CheckpointError(path, f"has the MD5 {digest}, not {part.md5}", "Try again, or another mirror")

    faults = []
    for url in (part.url, *part.mirrors):
        try:
            return download(Source(url), target, check=check)
        except (DownloadError, CheckpointError) as error:
            faults.append(str(error))
    raise DownloadError(" | ".join(faults))


def _place(
    part: Download, source: Path, folder: Path, dry_run: bool, console: Console | None, tell: Callable[[str], None]
) -> None:
    if not _is_archive(source):
        target = folder / part.file
        if dry_run:
            tell(f"{source.name}: would be copied to {folder}")
        elif target.exists() and os.path.samefile(source, target):
            tell(f"{source.name}: in place")
        else:
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
            tell(f"{source.name}: copied to {folder}")
    elif dry_run:
        tell(f"{source.name}: would be unpacked to {folder}")
    else:
        tell(f"{source.name}: {extract(source, folder, console)} files to {folder}")
