"""Finds the file of a catalogue entry: the path given, else this machine's caches, else a download."""

from __future__ import annotations

import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import torch
from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from .catalogue import Source, WeightCard, get_card
from .download import download
from .errors import CheckpointError, DownloadError, WeightsNotFound
from .hashes import cache_dir, file_sha256
from .reading import check_format

_HUB_WEIGHTS = (".safetensors", ".bin")
# Names that many repositories give to their file: under such a name a file says nothing about what it is.
_COMMON_NAMES = {"open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "last.pt"}


def resolve(name: str, checkpoint: str | PathLike[str] | None = None, *, fetch: bool = True) -> Path:
    """Path of the weights file of a name.

    Looked for in this order: ``checkpoint``; what comes with ovseg; ovseg's cache (``$OVSEG_CACHE``, else
    ``~/.cache/ovseg/weights``); the caches of OpenAI's clip, of torch hub and of the Hugging Face hub; the sources of
    the catalogue, from which the file is downloaded into ovseg's cache. ``OVSEG_OFFLINE=1`` or ``HF_HUB_OFFLINE=1``
    forbids the last.

    Args:
        name: Name in the catalogue.
        checkpoint: A file to use instead; its hash is not compared, so that trained further weights can be given.
        fetch: Whether to download what is not on this machine.

    Raises:
        UnknownWeights: No such name.
        WeightsNotFound: Not on this machine and not to be had; the message says where to get it and where to put it.
        CheckpointError: A file was found or fetched whose hash is not the publisher's.
    """
    card = get_card(name)
    if checkpoint is not None:
        return Path(checkpoint).expanduser()
    found = find_local(card)
    if found is not None:
        path, source = found
        verify_hash(path, source, name)
        return path
    if card.hub_model and fetch and not _offline():
        return _fetch_from_hub(card)
    if not fetch or not (card.sources or card.hub_model):
        raise WeightsNotFound(not_found_message(card, "it is not on this machine"))
    if _offline():
        raise WeightsNotFound(not_found_message(card, "it is not on this machine and downloads are switched off"))
    return _download(card)


def fetch_again(name: str) -> Path:
    """A fresh copy of a file in ovseg's cache, in the place of the one that lies there; no other file is touched.

    Raises:
        UnknownWeights: No such name.
        WeightsNotFound: It cannot be downloaded; the old copy stays.
    """
    card = get_card(name)
    if card.hub_model and not _offline():
        return _fetch_from_hub(card)
    if not card.sources or _offline():
        why = "downloads are switched off" if card.sources or card.hub_model else "it cannot be downloaded directly"
        raise WeightsNotFound(not_found_message(card, why))
    fresh = _download(card, ".again")
    target = fresh.with_name(fresh.name.removesuffix(".again"))
    os.replace(fresh, target)
    return target


def _download(card: WeightCard, ending: str = "") -> Path:
    reasons = []
    for source in card.sources:
        target = cache_path(card, source)
        try:
            return download(source, target.with_name(target.name + ending), check=check_format)
        except DownloadError as error:
            reasons.append(str(error))
    raise WeightsNotFound(not_found_message(card, "; ".join(reasons)))


def _fetch_from_hub(card: WeightCard) -> Path:
    """All files of a model that transformers loads, into the hub's own cache, where it looks for them."""
    try:
        folder = snapshot_download(card.hub_model, allow_patterns=["*.json", "*.safetensors", "*.bin", "*.txt"])
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsNotFound(not_found_message(card, reason)) from None
    found = find_local(card)
    if found is None:
        raise WeightsNotFound(not_found_message(card, f"{folder} holds no weights after the download"))
    return found[0]


def known_sha256(name: str, checkpoint: str | PathLike[str] | None = None) -> str | None:
    """SHA-256 of the file that :func:`resolve` gives, without reading the weights or fetching anything.

    Where the file is not on this machine it is what the publisher states, which a later download must match; None where
    nothing is stated either.

    Raises:
        UnknownWeights: No such name.
        CheckpointError: The file cannot be read.
    """
    card = get_card(name)
    found = find_local(card) if checkpoint is None else (Path(checkpoint).expanduser(), None)
    if found is not None and os.path.isfile(found[0]):
        return file_sha256(found[0])
    stated = [source.sha256 for source in card.sources if source.sha256 is not None and len(source.sha256) == 64]
    return stated[0] if stated and checkpoint is None else None


def cache_path(card: WeightCard, source: Source) -> Path:
    """Where the file of one source of a card lies in ovseg's cache."""
    return cache_dir() / (card.name + source.suffix)


def find_local(card: WeightCard) -> tuple[Path, Source | None] | None:
    """The file of a card on this machine and the source it is a copy of (None for packaged files), None if absent."""
    for path, source in _places(card):
        if os.path.isfile(path):  # False also where a folder may not be looked into
            return path, source
    return None


def _places(card: WeightCard) -> Iterator[tuple[Path, Source | None]]:
    if card.hub_model:
        cached = try_to_load_from_cache(card.hub_model, "config.json")
        if isinstance(cached, str):
            yield from ((path, None) for path in sorted(Path(cached).parent.glob("*")) if path.suffix in _HUB_WEIGHTS)
        return
    if card.packaged is not None:
        yield card.packaged.with_suffix(".safetensors"), None
    for source in card.sources:
        yield cache_path(card, source), source
    if not card.sources:
        yield cache_dir() / card.filename, None
    for source in card.sources:
        if source.filename not in _COMMON_NAMES:
            yield cache_dir() / source.filename, source
            yield Path(torch.hub.get_dir()) / "checkpoints" / source.filename, source
            yield Path("~/.cache/clip").expanduser() / source.filename, source
        if source.hub_repo is not None:
            cached = try_to_load_from_cache(source.hub_repo, source.filename)
            if isinstance(cached, str):
                yield Path(cached), source


def verify_hash(path: Path, source: Source | None, name: str = "") -> bool:
    """Compares a file's SHA-256 with what the publisher states. False: nothing is stated to compare with.

    The first bytes are looked at before the whole is read.

    Raises:
        CheckpointError: They differ.
    """
    check_format(path)
    if source is None or source.sha256 is None:
        return False
    digest = file_sha256(path)
    if not digest.startswith(source.sha256):
        raise CheckpointError(
            path,
            f"has the SHA-256 {digest}, the one of {source.url} is {source.sha256}",
            "If it is meant to be another file, give its path as the checkpoint under the name it belongs to; else get "
            f"it again: `ovseg weights fetch --again {name or 'NAME'}` puts a fresh copy into ovseg's cache",
        )
    return True


def not_found_message(card: WeightCard, reason: str) -> str:
    """What is missing, where to get it, under which licence, and where to put it."""
    if card.packaged is not None:
        path = card.packaged.with_suffix(".safetensors")
        return f"{card.name!r} should come with ovseg but {path} is not there: install ovseg again"
    return (
        f"{card.name!r} needs a file that could not be had: {reason}.\n{file_facts(card)}\n"
        f"  or give its path as the checkpoint; $OVSEG_CACHE moves the folder."
    )


def file_facts(card: WeightCard) -> str:
    """Where to get the file of a card, its size and licence, and where to put it: four lines."""
    where = card.sources[0].url if card.sources else card.home
    size = f"{card.size:,} bytes" if card.size else "not stated"
    return (
        f"  get it from: {where}\n"
        f"  size:        {size}\n"
        f"  licence:     {card.licence} (commercial use: {card.commercial})\n"
        f"  put it at:   {target_of(card)}"
    )


def target_of(card: WeightCard) -> Path:
    """Where the file of a card is looked for first, and goes when it is downloaded: a file, or the hub's folder."""
    if card.hub_model:
        return Path(constants.HF_HUB_CACHE) / f"models--{card.hub_model.replace('/', '--')}"
    return cache_path(card, card.sources[0]) if card.sources else cache_dir() / card.filename


def _offline() -> bool:
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in ("OVSEG_OFFLINE", "HF_HUB_OFFLINE")
    )
