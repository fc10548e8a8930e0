"""FAISS' indices beside the exact search; skipped without FAISS, but for what is said then."""

import importlib.util
import json

import pytest
import torch
import torch.nn.functional as F

from ovseg.cli import main
from ovseg.retrieval import BankError, BankIndex, BankWriter, MemoryBank, build_index, measure_recall
from ovseg.stitches import RetrievalStitch

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="the extra `bank` is not installed")
WIDTH, GROUPS = 16, 40
CENTRES = 4 * torch.randn(GROUPS, WIDTH, generator=torch.Generator().manual_seed(0))


def write(folder, photos: int = 60, first: int = 0) -> MemoryBank:
    """Ten regions per photo, in groups."""
    writer = BankWriter(folder, WIDTH, {"main": 4}, {"weights": "small"}, 7)
    for photo in range(first, photos):
        g = torch.Generator().manual_seed(photo)
        keys = CENTRES[torch.randint(0, GROUPS, (10,), generator=g)] + torch.randn(10, WIDTH, generator=g)
        writer.add(f"hash {photo}", keys, {"main": torch.randn(10, 4, generator=g)})
    writer.flush()
    return MemoryBank(folder)


@needs_faiss
@pytest.mark.parametrize(("kind", "least"), [("flat", 1.0), ("ivfflat", 0.95), ("ivfpq", 0.8)])
def test_an_index_finds_what_the_exact_search_finds(tmp_path, kind, least):
    bank = write(tmp_path)
    build_index(bank, kind, code_bytes=8)
    assert measure_recall(BankIndex(bank, kind, probes=8), queries=100, k=10).share >= least
    queries = F.normalize(CENTRES[:9], dim=-1)
    exact, found = bank.search(queries, 5), BankIndex(bank, kind, probes=64).search(queries, 5)
    assert found.rows.shape == (9, 5) and (found.scores.diff(dim=1) <= 0).all()
    for index, row in zip(*torch.where(exact.rows == found.rows), strict=True):
        torch.testing.assert_close(found.scores[index, row], exact.scores[index, row])  # cosines of the stored keys


@needs_faiss
@pytest.mark.parametrize("kind", ["ivfflat", "ivfpq"])
def test_more_lists_are_read_where_they_hold_too_few(tmp_path, kind):
    bank = write(tmp_path)
    build_index(bank, kind, lists=15, code_bytes=4)
    found = BankIndex(bank, kind, probes=1).search(F.normalize(CENTRES[:3], dim=-1), 500)
    assert (found.rows >= 0).all() and found.scores.isfinite().all()
    assert all(len(set(row.tolist())) == 500 for row in found.rows)


@needs_faiss
def test_what_does_not_fit_is_told(tmp_path):
    bank = write(tmp_path / "bank")
    with pytest.raises(BankError, match="has no index of kind ivfflat: build it with `ovseg index"):
        BankIndex(bank, "ivfflat")
    path = build_index(bank, "ivfflat")
    with pytest.raises(BankError, match="holds keys of 16 numbers, not 3"):
        BankIndex(bank, "ivfflat").search(torch.ones(1, 3))
    with pytest.raises(ValueError, match="at least 1 list"):
        BankIndex(bank, "ivfflat", probes=0)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BankError, match="cannot be read"):
        BankIndex(bank, "ivfflat")
    path.write_bytes(whole)
    grown = write(tmp_path / "bank", photos=63, first=60)
    with pytest.raises(BankError, match="was made of other regions than"):
        BankIndex(grown, "ivfflat")
    with pytest.raises(BankError, match="width that 5 bytes divide"):
        build_index(grown, "ivfpq", code_bytes=5)
    with pytest.raises(BankError, match="at least 256 regions"):
        build_index(write(tmp_path / "small", photos=3), "ivfpq", code_bytes=4)
    with pytest.raises(BankError, match="choose one of flat"):
        build_index(grown, "hnsw")


@needs_faiss
def test_the_command_builds_and_measures(tmp_path, capsys):
    write(tmp_path)
    assert main(["index", str(tmp_path), "--kind", "ivfflat", "--recall", "50", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["regions"] == 600 and row["share"] > 0.9 and row["bytes"] > 600 * 4 * WIDTH
    facts = json.loads((tmp_path / "index-ivfflat.json").read_text())
    assert facts["regions"] == 600 and facts["lists"] == 15


@needs_faiss
def test_the_stitch_asks_the_index_it_is_told_of(tmp_path):
    bank = write(tmp_path)
    build_index(bank, "flat")
    queries = F.normalize(CENTRES[:4], dim=-1)
    answers = [RetrievalStitch(tmp_path, index=kind).searched.search(queries, 6).rows for kind in (None, "flat")]
    assert torch.equal(*answers)
    assert "index='flat'" in repr(RetrievalStitch(tmp_path, index="flat"))


def test_without_faiss_it_says_what_to_install(tmp_path, monkeypatch):
    bank = write(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(BankError, match=r'pip install "ovseg\[bank\]"'):
        build_index(bank)
