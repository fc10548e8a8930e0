"""Damaged inputs of every kind: only ovseg's own errors, which name the input; no crash, no hang, bounded memory."""

import json

import numpy as np
import pytest

from tests.hardening.mutations import json_values
from tests.hardening.run import KINDS, run
from tests.hardening.surfaces import SURFACES

FEW, MANY = 20, 1000
HALVES = {"pictures and masks": [k for k in KINDS if k not in SURFACES], "everything else": list(SURFACES)}
NEVER_REFUSED = ("cached guide features (npy)",)
"""A damaged cache counts as absent."""


@pytest.mark.parametrize("half", HALVES)
def test_some_damaged_inputs_of_every_kind(half):
    rows, wrong = run(HALVES[half], seed=1, count=FEW, timeout=300)
    assert not wrong
    assert [row["kind"] for row in rows] == HALVES[half]
    for row in rows:
        assert sum(row["outcomes"].values()) == FEW
        assert row["outcomes"].get("refused", 0) > 0 or row["kind"] in NEVER_REFUSED, row["kind"]


def test_ci_tries_a_thousand_and_the_night_twenty_thousand():
    assert FEW * len(KINDS) >= 1000 and MANY * len(KINDS) >= 20_000


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_damaged_inputs(kind):
    rows, wrong = run([kind], seed=0, count=MANY, timeout=3600)
    assert not wrong
    assert sum(rows[0]["outcomes"].values()) == MANY


def test_what_is_not_named_is_found(monkeypatch, tmp_path):
    """The harness itself: an error that is none of ovseg's, or names nothing, and a file written elsewhere."""
    from tests.hardening import surfaces

    surface = surfaces.SURFACES["pairs"]

    def anonymous(folder):
        raise ValueError("no")

    def elsewhere(folder):
        (folder.parent / "stray").write_text("")

    monkeypatch.chdir(tmp_path)
    for use, message in ((anonymous, "not named"), (elsewhere, "written elsewhere")):
        surfaces._room.cache_clear()
        room = surfaces._room("pairs")
        monkeypatch.setitem(surfaces.SURFACES, "pairs", surfaces.Surface(surface.make, use, surface.damage))
        with pytest.raises(surfaces.Wrong, match=message):
            surfaces.try_surface("pairs", np.random.default_rng(0))
        monkeypatch.setitem(surfaces.SURFACES, "pairs", surface)
        assert room.whole
    surfaces._room.cache_clear()


def test_mutations_keep_json_json():
    whole = json.dumps({"a": [1, 2.5, {"b": "c"}], "d": None}).encode()
    changed = [json_values(np.random.default_rng(n), whole) for n in range(200)]
    assert len(set(changed)) > 100
    readable = 0
    for data in changed:
        try:
            json.loads(data)
            readable += 1
        except ValueError:
            pass
    assert readable > 100
