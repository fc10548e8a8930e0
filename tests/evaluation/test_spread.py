import numpy as np
import pytest

from ovseg.evaluation import bootstrap_miou


def test_one_photo_many_times_has_no_spread_and_different_photos_have_one():
    same = np.array([[8, 2], [0, 10]])
    low, high = bootstrap_miou([same] * 5)
    assert low == pytest.approx(high) == pytest.approx((8 / 10 + 10 / 12) / 2 * 100)
    low, high = bootstrap_miou([np.array([[10, 0], [0, 10]]), np.array([[0, 10], [10, 0]])], draws=4000)
    assert (low, high) == pytest.approx((0, 100)), "a quarter of the draws has one of the photos twice"


def test_a_class_that_a_draw_has_not_does_not_count_in_it():
    cat = np.array([[4, 0, 0], [0, 0, 0], [0, 0, 0]])
    dog = np.array([[0, 0, 0], [0, 4, 0], [0, 0, 0]])
    assert bootstrap_miou([cat, dog]) == pytest.approx((100, 100))


def test_bounds_hold_the_share_of_draws_that_they_say():
    rng = np.random.default_rng(0)
    photos = [np.array([[n, 100 - n], [0, 100]]) for n in rng.integers(0, 101, 40)]
    low, high = bootstrap_miou(photos, level=0.5)
    wide = bootstrap_miou(photos, level=0.99)
    assert wide[0] < low < high < wide[1]
    assert bootstrap_miou(photos, level=0.5) == (low, high), "the same draws each time"


def test_no_photo_is_an_error():
    with pytest.raises(ValueError, match="at least one photo"):
        bootstrap_miou([])
