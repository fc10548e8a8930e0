"""Class names against what a model sees: shifts of all maps are told, and nothing where nothing is to be seen."""

import numpy as np
import pytest

from ovseg.datasets.check.naming import Looked, naming

NAMES = tuple(f"class {i}" for i in range(30))


def seen(moved: int, strength: float, photos: int = 20, bias: float = 0.0) -> Looked:
    """Labels that are too high by ``moved`` where a model sees the true class by ``strength`` above the noise."""
    rng = np.random.default_rng(3)
    true = rng.integers(2, 28, photos * 6)
    scores = rng.normal(size=(len(true), len(NAMES))) + bias * np.arange(len(NAMES))
    scores[np.arange(len(true)), true] += strength
    everything = np.ones(len(NAMES), bool)
    return Looked(np.repeat(np.arange(photos), 6), true + moved, scores, everything, everything)


@pytest.mark.parametrize("bias", [0.0, 2.0], ids=["", "names that score high everywhere"])
def test_all_maps_moved_by_one(bias):
    for moved in (-1, 1):
        (finding,) = naming(seen(moved, 2.0, bias=bias), NAMES)
        assert finding.kind == "shifted-names" and finding.wrong and f"with {-moved:+d} " in finding.message
    assert naming(seen(0, 2.0, bias=bias), NAMES) == []


def test_a_model_that_sees_nothing_tells_no_shift():
    (finding,) = naming(seen(1, 0.0), NAMES)
    assert finding.kind == "names" and not finding.wrong


def test_few_photos_or_classes_tell_nothing():
    assert naming(seen(1, 2.0, photos=11), NAMES) == []
    few = seen(1, 2.0)
    few = Looked(few.photos, few.classes % 2, few.scores[:, :3], few.known[:3], few.named[:3])
    assert naming(few, NAMES[:3]) == []


def test_background_is_not_looked_for():
    looked = seen(0, 2.0)
    looked.named[10] = False
    kept = looked.classes != 10
    assert looked.agreement() == pytest.approx(looked.ranks()[kept, looked.classes[kept]].mean())
    rows = kept & (looked.classes != 9)
    assert looked.agreement(1) == pytest.approx(looked.ranks()[rows, looked.classes[rows] + 1].mean())
