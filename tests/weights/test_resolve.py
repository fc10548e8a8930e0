"""The order in which a file is looked for, and what is said when it is not to be had."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ovseg.weights import (
    CheckpointError,
    Source,
    UnknownWeights,
    WeightsNotFound,
    catalogue,
    file_sha256,
    get_card,
    load_clip,
    resolve,
)
from ovseg.weights import hashes as hashes_module
from ovseg.weights.resolve import fetch_again
from tests.weights.server import serve
from tests.weights.small import save_torchscript


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("content") / "w.pt"
    torch.save({"a": torch.arange(1000)}, path)
    return path.read_bytes()


@pytest.fixture
def card(content, monkeypatch):
    """An entry with a source of known hash that has a name of its own, and one on the hub."""
    sources = (
        Source("http://127.0.0.1:9/test_weights_v1.pt", hashlib.sha256(content).hexdigest()),
        Source("https://huggingface.co/someone/test/resolve/main/open_clip_model.safetensors"),
    )
    card = replace(get_card("openai/ViT-B-16"), name="test/w", sources=sources)
    monkeypatch.setitem(catalogue(), card.name, card)
    return card


def put(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_given_path_is_taken_as_it_is(card, tmp_path):
    assert resolve(card.name, tmp_path / "mine.pt") == tmp_path / "mine.pt"
    assert resolve(card.name, "~/mine.pt") == Path.home() / "mine.pt"


def test_places_on_this_machine_in_their_order(card, content, cache):
    places = [
        put(content, cache / "test" / "w.pt"),
        put(content, cache / "test" / "w.safetensors"),
        put(content, cache / "test_weights_v1.pt"),
        put(content, Path(os.environ["TORCH_HOME"]) / "hub" / "checkpoints" / "test_weights_v1.pt"),
        put(content, Path.home() / ".cache" / "clip" / "test_weights_v1.pt"),
    ]
    for place in places:
        assert resolve(card.name) == place
        place.unlink()
    with pytest.raises(WeightsNotFound):
        resolve(card.name)


def test_the_hub_cache_is_used(card, content, tmp_path, monkeypatch):
    repo = tmp_path / "models--someone--test"
    put(content, repo / "snapshots" / "abc" / "open_clip_model.safetensors")
    put(b"abc", repo / "refs" / "main")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert resolve(card.name) == repo / "snapshots" / "abc" / "open_clip_model.safetensors"


def test_a_file_of_a_common_name_is_not_taken_for_ours(card, content, cache):
    put(content, cache / "open_clip_model.safetensors")
    with pytest.raises(WeightsNotFound):
        resolve(card.name)


def test_a_cached_file_of_another_hash_is_refused(card, content, cache):
    path = put(content + b"x", cache / "test" / "w.pt")
    with pytest.raises(CheckpointError, match="has the SHA-256") as caught:
        resolve(card.name)
    assert str(path) in str(caught.value)
    assert resolve(card.name, path) == path  # given on purpose


def test_download_into_the_cache(card, content, cache, monkeypatch):
    monkeypatch.delenv("OVSEG_OFFLINE")
    with serve() as server:
        server.files["/second.pt"] = content
        sources = (Source(f"{server.url}/first.pt"), Source(f"{server.url}/second.pt"))
        monkeypatch.setitem(catalogue(), card.name, replace(card, sources=sources))
        path = resolve(card.name)
    assert path == cache / "test" / "w.pt"
    assert path.read_bytes() == content
    assert resolve(card.name) == path  # the server is gone


def test_a_fresh_copy_takes_the_place_of_the_old_one_only(card, content, cache, monkeypatch):
    monkeypatch.delenv("OVSEG_OFFLINE")
    old, mine = put(b"old", cache / "test" / "w.pt"), put(b"mine", cache / "test_weights_v1.pt")
    with serve() as server:
        server.files["/w.pt"] = content
        monkeypatch.setitem(catalogue(), card.name, replace(card, sources=(Source(f"{server.url}/w.pt"),)))
        assert fetch_again(card.name) == old
        assert old.read_bytes() == content and mine.read_bytes() == b"mine"
        del server.files["/w.pt"]
        with pytest.raises(WeightsNotFound, match="404"):
            fetch_again(card.name)
    assert old.read_bytes() == content and sorted(p.name for p in old.parent.iterdir() if p.suffix == ".pt") == ["w.pt"]


def test_a_file_that_took_anothers_place_is_hashed_again(tmp_path, cache):
    path, other = put(b"one", tmp_path / "x"), put(b"two", tmp_path / "y")
    first = file_sha256(path)
    times = path.stat()
    os.replace(other, path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # same size, same time of modification
    assert file_sha256(path) != first


def test_downloaded_clip_loads(clip_model, clip_card, tmp_path, monkeypatch):
    monkeypatch.delenv("OVSEG_OFFLINE")
    save_torchscript(clip_model, tmp_path / "clip.pt")
    with serve() as server:
        server.files["/clip.pt"] = (tmp_path / "clip.pt").read_bytes()
        server.break_after = [100_000]
        source = Source(f"{server.url}/clip.pt", file_sha256(tmp_path / "clip.pt"))
        monkeypatch.setitem(catalogue(), clip_card.name, replace(clip_card, sources=(source,)))
        loaded = load_clip(clip_card.name)
    assert torch.equal(loaded.model.visual.proj, clip_model.visual.proj)
    assert loaded.sha256 == source.sha256


def message_of(name, **options):
    with pytest.raises(WeightsNotFound) as caught:
        resolve(name, **options)
    return str(caught.value)


@pytest.mark.parametrize("variable", ["OVSEG_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_what_to_get_and_where_to_put_it(variable, cache, monkeypatch):
    monkeypatch.delenv("OVSEG_OFFLINE")
    monkeypatch.setenv(variable, "1")
    message = message_of("metaclip_fullcc/ViT-B-16")
    assert "downloads are switched off" in message
    assert "https://dl.fbaipublicfiles.com/MMPT/metaclip/b16_fullcc2.5b.pt" in message
    assert "CC-BY-NC-4.0 (commercial use: no)" in message
    assert str(cache / "metaclip_fullcc" / "ViT-B-16.pt") in message


def test_every_failed_source_is_named(card, monkeypatch):
    monkeypatch.delenv("OVSEG_OFFLINE")
    with serve() as server:
        urls = f"{server.url}/a.pt", f"{server.url}/b.pt"
        monkeypatch.setitem(catalogue(), card.name, replace(card, sources=tuple(map(Source, urls))))
        message = message_of(card.name)
    assert all(f"{url}: HTTP 404" in message for url in urls)


def test_weights_that_have_no_direct_download(cache):
    message = message_of("clip_dinoiser/last")
    assert "https://github.com/wysoczanska/clip_dinoiser" in message
    assert str(cache / "clip_dinoiser" / "last.pt") in message


def test_packaged_weights_that_are_gone(tmp_path, monkeypatch):
    monkeypatch.setitem(catalogue(), "nano", replace(get_card("nano"), packaged=tmp_path / "clip"))
    assert "install ovseg again" in message_of("nano")


def test_an_unknown_name_has_suggestions():
    with pytest.raises(UnknownWeights, match=r"no weights named 'openai/ViT-B16'.*openai/ViT-B-16"):
        resolve("openai/ViT-B16")


# ------------------------------------------------------------------------------------------------- hashes.json
def test_a_hash_is_computed_once_until_the_file_changes(tmp_path, cache, monkeypatch):
    path = put(b"one", tmp_path / "x")
    computed = []
    monkeypatch.setattr(
        hashes_module, "file_digest", lambda p: computed.append(p) or hashlib.sha256(p.read_bytes()).hexdigest()
    )
    assert file_sha256(path) == file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    assert len(computed) == 1
    path.write_bytes(b"three")
    assert file_sha256(path) == hashlib.sha256(b"three").hexdigest()
    os.utime(path, ns=(0, 0))
    file_sha256(path)
    assert len(computed) == 3


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"/x": 3}'])
def test_a_damaged_memory_of_hashes_does_no_harm(damage, tmp_path, cache):
    path = put(b"one", tmp_path / "x")
    put(damage.encode(), cache / "hashes.json")
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, cache):
    path = put(b"one", tmp_path / "x")
    put(b"a file where the folder belongs", cache)
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()


def test_hash_of_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        file_sha256(tmp_path / "absent")
