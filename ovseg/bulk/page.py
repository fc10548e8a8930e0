"""The page of a job: what was found, examples, what failed. One file, the same bytes for the same results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ovseg import pages
from ovseg.bulk.manifest import MANIFEST, FolderError, read_manifest, read_settings
from ovseg.bulk.reading import READERS, results_of, shard_folders
from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.files import atomic_path
from ovseg.results import SegmentationResult

PAGE = "index.html"
EXAMPLES = 6
"""Photos that are shown."""
FAILURES = 200
"""Failed photos that are listed."""
_SIDE = 640
"""Pixels of a shown picture's width."""


def write_page(out: str | Path, pixels: Callable[[int, str], np.ndarray] | None = None) -> Path:
    """Write the page of what is finished.

    Args:
        out: the job's folder.
        pixels: gives a photo by number and name, for the examples; ``None``: they are shown on black.

    Returns:
        its file.

    Raises:
        FolderError: for a folder without a job, or with damaged shards.
        OSError: if it cannot be written.
    """
    out = Path(out)
    settings = read_settings(out)
    made = settings["made_with"]
    totals = {name: np.zeros(len(words["names"]), np.int64) for name, words in made["vocabularies"].items()}
    photos = failed = size = 0
    failures: list[tuple[str, str]] = []
    shards = shard_folders(out)
    for shard in shards:
        manifest = read_manifest(shard)
        photos += manifest["counts"]["photos"]
        failed += manifest["counts"]["failed"]
        size += sum(facts["bytes"] for facts in manifest["files"].values())
        for name, pixel_counts in manifest["pixels"].items():
            if name not in totals or len(pixel_counts) != len(totals[name]):
                raise FolderError(
                    f"{shard / MANIFEST} is damaged: it counts the pixels of other words than the job has"
                )
            totals[name] += np.array(pixel_counts, np.int64)
        room = FAILURES - len(failures)
        failures += [(photo["name"], photo["error"]) for photo in manifest["photos"] if "error" in photo][:room]
    body = [
        f"<h1>{pages.text(photos)} photos</h1>",
        f'<p class="soft">{pages.text(made["model"]["protocol"])}</p>',
        pages.cards(
            [
                ("photos", f"{photos} of {settings['plan']['photos']}"),
                ("failed", str(failed)),
                ("shards", f"{len(shards)} of {settings['plan']['shards']}"),
                ("results", f"{size / 1e6:.1f} MB"),
            ]
        ),
    ]
    for name, words in made["vocabularies"].items():
        body += _shares(name, words["names"], totals[name])
    body += ["<h2>Examples</h2>", '<div class="tiles">', *_examples(made, shards, pixels), "</div>"]
    if failed:
        body += ["<h2>Failed</h2>", pages.table(["photo", '<span class="text">reason</span>'], map(_failure, failures))]
        if failed > len(failures):
            body.append(f'<p class="soft">and {failed - len(failures)} more: their reasons stand in the manifests</p>')
    with atomic_path(out / PAGE) as temporary:
        temporary.write_text(pages.page(f"{photos} photos", body), encoding="utf-8")
    return out / PAGE


def _shares(name: str, names: list[str], pixels: np.ndarray) -> Iterator[str]:
    """The classes of a vocabulary, largest first, with bars."""
    yield f"<h2>{pages.text(name)}</h2>"
    whole, most = max(1, int(pixels.sum())), max(1, int(pixels.max()))
    rows = []
    for index in np.argsort(-pixels, kind="stable"):
        if pixels[index]:
            width = max(1, round(240 * int(pixels[index]) / most))
            bar = f'<svg width="{width}" height="12"><rect width="{width}" height="12" fill="var(--bar)"/></svg>'
            share = f"{pixels[index] / whole:.2%}"
            rows.append([pages.text(names[index]), share, f'<span class="text">{bar}</span>'])
    yield pages.table(["class", "share of all pixels", ""], rows)
    absent = [names[index] for index in np.flatnonzero(pixels == 0)]
    if absent:
        yield f'<p class="soft">in no photo: {pages.text(", ".join(absent))}</p>'


def _examples(
    made: dict[str, Any], shards: list[Path], pixels: Callable[[int, str], np.ndarray] | None
) -> Iterator[str]:
    """Photos of shards that are evenly chosen, with the labels of every vocabulary."""
    kind = next(kind for kind in READERS if kind in made["formats"])
    count = min(EXAMPLES, len(shards))
    per_shard = -(-EXAMPLES // count) if count else 0
    shown = 0
    for shard in (shards[i * len(shards) // count] for i in range(count)):
        manifest = read_manifest(shard)
        done = [photo for photo in manifest["photos"] if "error" not in photo]
        chosen = {i * len(done) // per_shard for i in range(per_shard)} if done else set()
        chosen = set(sorted(chosen)[: EXAMPLES - shown])
        shown, last = shown + len(chosen), max(chosen, default=-1) + 1
        for name, words in made["vocabularies"].items():
            names = tuple(words["names"])
            try:
                for index, result in enumerate(islice(results_of(shard, manifest, name, kind, names), last)):
                    if index in chosen:
                        yield _example(done[index], result, name if len(made["vocabularies"]) > 1 else "", pixels)
            except FolderError as error:
                yield f'<p class="bad">{pages.text(error)}. Run the job again with --verify.</p>'


def _example(
    photo: dict[str, Any],
    result: SegmentationResult,
    words: str,
    pixels: Callable[[int, str], np.ndarray] | None,
) -> str:
    caption = f"{photo['name']} · {words}" if words else photo["name"]
    if pixels is not None:
        try:
            found = pixels(photo["number"], photo["name"])
            if found.shape[:2] != result.labels.shape:
                raise ImageReadError(photo["name"], "its size has changed")
            result.image = found
        except ImageReadError as error:
            caption += f" (the photo: {error.reason})"
    return pages.picture(result.overlay(), caption, max_width=_SIDE)


def _failure(both: tuple[str, str]) -> list[str]:
    name, why = both
    return [pages.text(name), f'<span class="text">{pages.text(why)}</span>']
