"""Damaged files: only the readers' own errors, the same at every read, no crash, no hang, bounded memory."""

import pytest

from tests.datasets.damaged_files import KINDS, run


def test_some_damaged_files_of_every_kind():
    rows, wrong = run(list(KINDS), seed=1, count=25, timeout=300)
    assert not wrong
    assert [row["kind"] for row in rows] == list(KINDS)
    for row in rows:
        assert row["outcomes"].get("refused", 0) > 0 and sum(row["outcomes"].values()) == 25


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_5000_damaged_files(kind):
    rows, wrong = run([kind], seed=0, count=5000, timeout=3600)
    assert not wrong
    assert sum(rows[0]["outcomes"].values()) == 5000
