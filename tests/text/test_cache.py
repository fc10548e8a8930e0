"""The cache of text embeddings on disk."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ovseg.text import cache as cache_module
from ovseg.text.cache import EmbeddingCache, default_cache_dir


def entry(value: float = 0.0) -> torch.Tensor:
    return torch.full((512,), value)


def test_round_trip(tmp_path):
    cache = EmbeddingCache(tmp_path / "new" / "folder", "model")
    assert cache.get("cat") is None
    stored = torch.randn(512)
    cache.put("cat", stored)
    assert torch.equal(EmbeddingCache(tmp_path / "new" / "folder", "model").get("cat"), stored)
    assert cache.get("Cat") is None
    assert EmbeddingCache(tmp_path / "new" / "folder", "other model").get("cat") is None
    with safe_open(cache.path("cat"), "pt") as file:
        assert file.metadata() == {"query": "cat"}


def test_version_is_part_of_the_key(tmp_path, monkeypatch):
    EmbeddingCache(tmp_path, "model").put("cat", entry())
    monkeypatch.setattr(cache_module, "VERSION", cache_module.VERSION + 1)
    assert EmbeddingCache(tmp_path, "model").get("cat") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-100],
        lambda content: b"not safetensors at all",
        lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    ],
    ids=["empty", "truncated", "foreign", "one bit"],
)
def test_damaged_entry_is_reported_and_replaced(tmp_path, damage):
    cache = EmbeddingCache(tmp_path, "model")
    cache.put("cat", entry(1.0))
    path = cache.path("cat")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="'cat' cannot be used"):
        assert cache.get("cat") is None
    cache.put("cat", entry(2.0))
    assert torch.equal(cache.get("cat"), entry(2.0))


def test_unwritable_directory_warns_once(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the directory should be")
    cache = EmbeddingCache(blocked, "model")
    with pytest.warns(UserWarning, match="cannot be written"):
        cache.put("cat", entry())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put("dog", entry())


def test_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    cache = EmbeddingCache(tmp_path, "model")
    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="No space left"):
        cache.put("cat", entry())
    assert list(cache.directory.iterdir()) == []


def _write_and_read(directory: Path, value: float, failures) -> None:
    warnings.simplefilter("error")
    cache = EmbeddingCache(directory, "model")
    for _ in range(60):
        cache.put("cat", entry(value))
        found = cache.get("cat")
        if found is None or found.shape != (512,) or found.unique().numel() != 1:
            failures.put(str(found))


def test_processes_share_one_entry(tmp_path):
    context = multiprocessing.get_context("fork")
    failures = context.Queue()
    writers = [context.Process(target=_write_and_read, args=(tmp_path, float(i), failures)) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert failures.empty()
    assert len(list(EmbeddingCache(tmp_path, "model").directory.iterdir())) == 1


def test_default_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path / "text"
    monkeypatch.delenv("OVSEG_CACHE")
    assert default_cache_dir() == Path.home() / ".cache" / "ovseg" / "text"
