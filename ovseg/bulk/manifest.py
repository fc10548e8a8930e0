"""A job's folder: its settings, and its shards, each of which is there whole or not at all.

::

    OUT/bulk.json                              what the results were made with, and the hash of the plan
    OUT/shards/00000003/manifest.json          photos, failures, counts, pixels per class, SHA-256 of every file
    OUT/shards/00000003/WORDS/rle.parquet      results of the vocabulary called WORDS

    OUT/index.html                             class shares, examples, failures

A shard is written under another name, brought to the disk (fsync) and renamed. Nothing in these files depends on when,
where, or by how many processes they were made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ovseg.bulk.plan import Plan, Shard
from ovseg.datasets.files import atomic_path, clear_parts
from ovseg.errors import SetupError

SETTINGS = "bulk.json"
MANIFEST = "manifest.json"
SHARDS = "shards"
FORMAT = 1
"""Of the folder and its files; another one is refused."""
_CHUNK = 1 << 20
_SETTINGS = {
    "plan": {"photos": int, "shards": int},
    "made_with": {"formats": [str], "model": {"protocol": object}, "vocabularies": {str: {"names": [str]}}},
}
_MANIFEST = {
    "photos": [{"number": int, "name": str}],
    "files": {str: {"bytes": int, "sha256": str}},
    "counts": {"photos": int, "failed": int},
    "pixels": {str: [int]},
    "shard": {"hash": str},
}
_PHOTO = {"height": int, "width": int}
"""What is read of a job's files; a list or a mapping with the key ``str`` holds any number of such values."""


class FolderError(SetupError):
    """A folder that this job cannot go on in, or that holds no job."""


def shard_folder(out: Path, shard: Shard) -> Path:
    """Where a shard's results appear."""
    return out / SHARDS / shard.name


def claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a job into its folder, or make sure that those there are the same.

    Raises:
        FolderError: saying what differs, or that the folder holds something else.
    """
    path = out / SETTINGS
    if path.is_file():
        earlier = read_settings(out)
        changes = list(differences(earlier, settings))
        if changes:
            raise FolderError(
                f"{out} holds a job with other settings: {'; '.join(changes)}. Give another --out, or the same settings"
            )
        return
    others = sorted(p.name for p in out.iterdir() if not p.name.startswith("."))
    if others:
        raise FolderError(f"{out} is not empty and holds no bulk job ({others[0]}, ...): give another --out")
    with atomic_path(path) as temporary:
        temporary.write_text(dump(settings), encoding="utf-8")
        _sync(temporary)
    _sync(out)


def read_settings(out: Path) -> dict[str, Any]:
    """The settings of a job.

    Raises:
        FolderError: for a folder without a job, or one of another version of the format.
    """
    path = out / SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FolderError(f"{out} holds no bulk job: there is no {SETTINGS}") from None
    except ValueError as error:
        raise FolderError(f"{path} is damaged ({error})") from error
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise FolderError(f"{path} is of another format than {FORMAT}, which this ovseg reads")
    if (where := misfit(settings, _SETTINGS)) is not None:
        raise FolderError(f"{path} is damaged: {where}")
    if not settings["made_with"]["vocabularies"]:
        raise FolderError(f"{path} is damaged: it names no vocabulary")
    return settings


def misfit(value: object, shape: Any, where: str = "") -> str | None:
    """Where a value of a JSON file has not the shape that is read, or ``None``.

    >>> misfit({"a": [1, "x"]}, {"a": [int]})
    'a.1 is no int'
    """
    if isinstance(shape, dict):
        if not isinstance(value, Mapping):
            return f"{where or 'it'} is no object"
        every = shape.get(str)
        parts = value.items() if every else ((key, value.get(key, _LACKING)) for key in shape)
        inner = ((key, part, every or shape[key]) for key, part in parts)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where or 'it'} is no list"
        inner = ((key, part, shape[0]) for key, part in enumerate(value))
    else:
        fits = value is not _LACKING and isinstance(value, shape) and (shape is not int or not isinstance(value, bool))
        return None if fits else f"{where} is no {shape.__name__}"
    found = (misfit(part, kind, f"{where}.{key}" if where else str(key)) for key, part, kind in inner)
    return next((one for one in found if one is not None), None)


_LACKING = object()


def differences(then: object, now: object, where: str = "") -> Iterator[str]:
    """What differs between two settings, a line each.

    >>> list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}))
    ['a.b: 1 then, 3 now']
    """
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in sorted({*then, *now}):
            yield from differences(then.get(key), now.get(key), f"{where}.{key}" if where else key)
    elif then != now:
        yield f"{where}: {_short(then)} then, {_short(now)} now"


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@contextmanager
def staged(out: Path, shard: Shard) -> Iterator[Path]:
    """A folder whose content becomes the shard's when the block ends without an exception.

    The block writes :data:`MANIFEST` last (:func:`write_manifest`). A shard that is there by then is kept.
    """
    target = shard_folder(out, shard)
    stage = target.with_name(f".{shard.name}.{socket.gethostname()}.{os.getpid()}.part")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        yield stage
        for folder, _, files in os.walk(stage, topdown=False):
            for file in files:
                _sync(Path(folder, file))
            _sync(Path(folder))
        try:
            os.rename(stage, target)
        except OSError:
            if not (target / MANIFEST).is_file():  # else: made by a process that outlived its run; the same bytes
                raise
        _sync(target.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_manifest(stage: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest of the shard in ``stage``, with size and hash of all its files; returns it."""
    files = {
        path.relative_to(stage).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(stage.rglob("*"))
        if path.is_file()
    }
    whole = {**manifest, "files": files}
    (stage / MANIFEST).write_text(dump(whole), encoding="utf-8")
    return whole


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a shard's folder.

    Raises:
        FolderError: if it is damaged.
        FileNotFoundError: if there is none.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except ValueError as error:
        raise FolderError(f"{folder / MANIFEST} is damaged ({error!r})") from error
    where = misfit(manifest, _MANIFEST)
    if where is None:
        done = ((n, photo) for n, photo in enumerate(manifest["photos"]) if "error" not in photo)
        where = next((w for n, photo in done if (w := misfit(photo, _PHOTO, f"photos.{n}")) is not None), None)
    if where is not None:
        raise FolderError(f"{folder / MANIFEST} is damaged: {where}")
    return manifest


def counts_of(manifest: Mapping[str, Any]) -> dict[str, int]:
    """What a finished shard is told with: ``photos``, ``done``, ``failed``, ``bytes``."""
    return {**manifest["counts"], "bytes": sum(facts["bytes"] for facts in manifest["files"].values())}


def committed(out: Path, shard: Shard) -> dict[str, int] | None:
    """The counts of a shard that is there and whole; ``None``: it is not."""
    manifest, _ = _judged(shard_folder(out, shard), shard)
    return None if manifest is None else counts_of(manifest)


def _judged(folder: Path, shard: Shard, hashes: bool = False) -> tuple[dict[str, Any] | None, str]:
    """The manifest of a shard that is there and whole, or ``None`` and what is wrong with it."""
    try:
        manifest = read_manifest(folder)
    except (FileNotFoundError, NotADirectoryError, FolderError) as error:
        return None, str(error)
    problem = what_is_wrong(folder, manifest, hashes)
    if problem is None and manifest["shard"]["hash"] != shard.hash:
        problem = f"{folder} is a shard of another plan"
    return (manifest, "") if problem is None else (None, problem)


def what_is_wrong(folder: Path, manifest: Mapping[str, Any], hashes: bool = False) -> str | None:
    """Why a shard's files are not those of its manifest; ``None`` if they are.

    Args:
        folder: of the shard.
        manifest: of the shard.
        hashes: compare the content too, not sizes alone.
    """
    for name, facts in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError:
            return f"{path} is missing"
        if size != facts["bytes"] or (hashes and sha256(path) != facts["sha256"]):
            return f"{path} was changed or damaged"
    return None


def finished(out: Path, plan: Plan, hashes: bool = False) -> tuple[dict[int, dict[str, int]], list[str]]:
    """Shards of a plan that are there and whole.

    Args:
        out: the job's folder.
        plan: its plan.
        hashes: see :func:`what_is_wrong`.

    Returns:
        the counts of each by number, and what is wrong with others that are there.
    """
    found: dict[int, dict[str, int]] = {}
    wrong: list[str] = []
    for shard in plan:
        folder = shard_folder(out, shard)
        if not folder.is_dir():
            continue
        manifest, problem = _judged(folder, shard, hashes)
        if manifest is not None:
            found[shard.number] = manifest["counts"]
        else:
            wrong.append(problem)
    return found, wrong


def clear_unfinished(out: Path) -> None:
    """Remove what killed processes left; only while the folder is held, and nobody works in it."""
    (out / SHARDS).mkdir(exist_ok=True)
    for part in (out / SHARDS).glob(".*.part"):
        shutil.rmtree(part, ignore_errors=True)
    clear_parts(out)


def clear(out: Path, plan: Plan, keep: Mapping[int, object]) -> None:
    """:func:`clear_unfinished`, and remove shards that are not among those to keep."""
    clear_unfinished(out)
    for shard in plan:
        if shard.number not in keep and shard_folder(out, shard).is_dir():
            shutil.rmtree(shard_folder(out, shard))


def dump(value: object) -> str:
    """JSON as it stands in a job's files: always the same text for the same value."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Bring a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
