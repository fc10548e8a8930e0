"""The bank on disk: search against a full product, growth, resumption, damage."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.retrieval import BankError, BankWriter, MemoryBank, bank

STORES = dict(main=5, aux=3)


def rows_of(photo, regions):
    g = torch.Generator().manual_seed(photo)
    return torch.randn(regions, 7, generator=g), {n: torch.randn(regions, w, generator=g) for n, w in STORES.items()}


def fill(folder, photos, per_shard=3, finish=True, provenance=None):
    writer = BankWriter(folder, 7, STORES, provenance or {"weights": "small"}, per_shard)
    for photo in photos:
        keys, values = rows_of(photo, photo % 4)
        writer.add(f"hash {photo}", keys, values)
    if finish:
        writer.flush()
    return writer


def content(folder):
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 50), st.sampled_from((1, 4, 1 << 16)), st.integers(0, 99))
def test_search_is_exact(queries, k, chunk, seed):
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank, "CHUNK_ROWS", chunk)
        fill(folder, range(1, 12))
        memory = MemoryBank(folder)
        keys = torch.cat([rows_of(p, p % 4)[0] for p in range(1, 12)]).half().float()
        wanted = F.normalize(torch.randn(queries, 7, generator=torch.Generator().manual_seed(seed)), dim=-1)
        scores, rows = memory.search(wanted, k)
        best = (wanted @ F.normalize(keys, dim=-1).T).topk(min(k, len(keys)), dim=1)
        assert len(memory) == len(keys) and rows.dtype == torch.int64
        torch.testing.assert_close(scores, best.values, atol=1e-5, rtol=1e-5)
        assert torch.equal(rows, best.indices)


def test_values_come_from_every_shard(tmp_path):
    fill(tmp_path, range(1, 12))
    memory = MemoryBank(tmp_path)
    for name in STORES:
        every = torch.cat([rows_of(p, p % 4)[1][name] for p in range(1, 12)]).half().float()
        index = torch.tensor([[0, len(every) - 1], [3, 7]])
        assert torch.equal(memory.values(name, index), every[index])
    with pytest.raises(BankError, match="no values 'other'"):
        memory.values("other", torch.zeros(1, dtype=torch.long))


def test_a_killed_bank_is_continued_to_the_same_bytes(tmp_path):
    fill(tmp_path / "whole", range(1, 12))
    for killed_at in (1, 4, 7):
        folder = tmp_path / f"killed {killed_at}"
        fill(folder, range(1, killed_at), finish=False)
        (folder / "shard-00099.part").mkdir()
        (folder / "shard-00099.part" / "keys.npy").write_bytes(b"half")
        fill(folder, range(1, 12))
        assert content(folder) == content(tmp_path / "whole")


def test_photos_that_are_known_are_left_out_and_others_appended(tmp_path):
    fill(tmp_path, [1, 2, 2, 1, 3])
    before = content(tmp_path)
    writer = fill(tmp_path, [3, 2, 1])
    assert content(tmp_path) == before and writer.has("hash 3") and not writer.has("hash 5")
    fill(tmp_path, [5, 1])
    after = content(tmp_path)
    assert before.items() < after.items() and len(MemoryBank(tmp_path)) == 1 + 2 + 3 + 1


def test_rows_are_mapped_and_not_read(tmp_path):
    fill(tmp_path, range(1, 12))
    memory = MemoryBank(tmp_path)
    assert all(isinstance(part, np.memmap) for part in memory._keys)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "bank.json").unlink(), "there is no bank"),
        (lambda f: (f / "bank.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "bank.json").write_text('{"version": 9}'), "version 9"),
        (lambda f: (f / "shard-00000" / "keys.npy").write_bytes(b"x"), "cannot be read"),
        (lambda f: (f / "shard-00001" / "aux.npy").unlink(), "cannot be read"),
        (lambda f: np.save(f / "shard-00000" / "keys.npy", np.zeros((3, 7))), "expected float16"),
        (lambda f: np.save(f / "shard-00000" / "main.npy", np.zeros((1, 5), np.float16)), "6 keys, but 1 rows of main"),
    ],
)
def test_damage_is_told(tmp_path, spoil, message):
    fill(tmp_path, range(1, 12))
    spoil(tmp_path)
    with pytest.raises(BankError, match=message):
        MemoryBank(tmp_path)


def test_other_origin_is_refused(tmp_path):
    fill(tmp_path, [1])
    assert len(MemoryBank(tmp_path, {"weights": "small"})) == 1
    with pytest.raises(BankError, match="weights='small', and is asked for weights='large'"):
        MemoryBank(tmp_path, {"weights": "large"})
    with pytest.raises(BankError, match="other provenance"):
        fill(tmp_path, [2], provenance={"weights": "large"})
    with pytest.raises(BankError, match="other photos_per_shard"):
        fill(tmp_path, [2], per_shard=4)


def test_what_cannot_be_searched_or_added(tmp_path):
    writer = fill(tmp_path, [])
    with pytest.raises(BankError, match="holds no region"):
        MemoryBank(tmp_path).search(torch.zeros(1, 7))
    with pytest.raises(BankError, match="keys of 7 numbers; the guide gives 8"):
        MemoryBank(tmp_path).search(torch.zeros(1, 8))
    keys, values = rows_of(3, 3)
    with pytest.raises(BankError, match="as many rows of main, aux"):
        writer.add("a", keys, {"main": values["main"]})
    with pytest.raises(BankError, match="as many rows"):
        writer.add("a", keys[:2], values)
    with pytest.raises(ValueError, match="photos_per_shard is 0"):
        BankWriter(tmp_path, 7, STORES, {}, 0)
