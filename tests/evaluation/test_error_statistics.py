"""Error statistics on maps made by hand."""

import json

import numpy as np
import pytest

from ovseg.evaluation.error_statistics import BINS, SIZES, ErrorStatistics, PhotoErrors, photo_errors


@pytest.fixture
def maps():
    """Ground with a square cat and a dog of 2 x 2 pixels; a stripe is ignored."""
    truth = np.zeros((60, 100), np.uint8)
    truth[20:40, 20:50] = 1
    truth[50:52, 70:72] = 2
    truth[:, 95:] = 255
    pred = truth.copy()
    pred[pred == 255] = 1
    pred[20:40, 20:23] = 0  # 60 pixels of the cat, at its edge
    pred[30:32, 34:36] = 2  # 4 pixels in its middle
    pred[50, 70] = 1  # a quarter of the dog
    pred[5:7, 80:85] = 1  # 10 pixels of ground, far from everything
    return pred, truth


def test_zones_sizes_and_pairs(maps):
    pred, truth = maps
    total = ErrorStatistics(3)
    total.add(photo_errors(pred, truth, 3))
    zones = {row["zone"]: row for row in total.zones()}
    assert [zones[z]["errors"] for z in ("small object", "boundary", "interior")] == [1, 60, 4 + 10]
    assert zones["small object"]["pixels"] == 4 and zones["small object"]["accuracy"] == 75
    assert sum(row["pixels"] for row in zones.values()) == 60 * 95
    assert sum(row["of_errors"] for row in zones.values()) == pytest.approx(1)
    first, second, third, last = total.confused()
    assert (first.truth, first.predicted, first.pixels, first.zones) == (1, 0, 60, (0, 1, 0))
    assert first.of_class == 60 / 600 and first.of_errors == 60 / 75
    assert (second.truth, second.predicted, second.pixels, second.zones) == (0, 1, 10, (0, 0, 1))
    assert (third.truth, third.predicted, last.truth, last.predicted) == (1, 2, 2, 1)
    assert [pair.pixels for pair in total.confused(2)] == [60, 10]
    sizes = total.by_size()
    assert [row["objects"] for row in sizes] == [1, 0, 1, 0, 1]
    assert sizes[0]["IoU"] == 75 and sizes[0]["found"] == 1, "the four other pixels of dog do not touch it"
    assert sizes[2]["IoU"] == pytest.approx(100 * 536 / 600) and sizes[2]["accuracy"] == pytest.approx(100 * 536 / 600)
    ground = 60 * 95 - 604
    assert sizes[4]["IoU"] == pytest.approx(100 * (ground - 10) / (ground + 60))
    assert sizes[1]["IoU"] is None and total.ece() is None


def test_pixels_on_another_object_of_the_class_do_not_count_against_one():
    truth = np.zeros((40, 40), np.uint8)
    truth[10:20, 5:15] = truth[10:20, 20:30] = 1
    pred = np.zeros_like(truth)
    pred[10:20, 5:30] = 1  # one region over both and the 50 pixels between
    total = ErrorStatistics(2)
    total.add(photo_errors(pred, truth, 2))
    assert total.by_size()[2] | {"up_to": 0} == {
        "up_to": 0,
        "objects": 2,
        "IoU": pytest.approx(100 * 100 / 150),
        "found": 1,
        "accuracy": 100,
    }


def test_counting_by_a_table_and_by_sorting_agree(maps, monkeypatch):
    pred, truth = maps
    table = photo_errors(pred, truth, 3)
    monkeypatch.setattr("ovseg.evaluation.error_statistics._TABLE", 0)
    by_sorting = photo_errors(pred, truth, 3)
    assert np.array_equal(table.pairs, by_sorting.pairs) and np.array_equal(table.sizes, by_sorting.sizes)


def test_size_groups_include_their_bounds():
    for area, group in ((3, 0), (4, 1), (27, 1), (28, 2), (90, 2), (91, 3), (270, 3), (271, 4)):
        truth = np.zeros((30, 30), np.uint8)
        truth.ravel()[:area] = 1
        found = photo_errors(truth, truth, 2).sizes[:, 0]
        assert found[group] >= 1 and found.sum() == 2, (area, SIZES)


def test_calibration_and_what_is_left_out(maps):
    pred, truth = maps
    right = pred == truth
    valid = truth != 255
    confidence = np.where(right, 0.95, 0.9).astype(np.float32)
    best = pred.copy()
    best[0, :3] = 2  # a threshold gave three pixels another class
    total = ErrorStatistics(3)
    total.add(photo_errors(pred, truth, 3, best=best, confidence=confidence))
    assert total.unsure == 3
    count, wrong = valid.sum() - 3, (valid & ~right).sum()
    high = abs(0.95 * (count - wrong) - (count - wrong))
    low = 0.9 * wrong
    both_in_one_bin = int(0.9 * BINS) == int(0.95 * BINS)
    gap = abs(0.95 * (count - wrong) + low - (count - wrong)) if both_in_one_bin else high + low
    assert total.ece() == pytest.approx(100 * gap / count, rel=1e-6)
    bins = list(total.reliability())
    assert sum(share for _, share, _, _ in bins) == pytest.approx(1) and bins[0][2:] == (None, None)
    photo = photo_errors(pred, truth, 3, best=best, confidence=np.full(pred.shape, 1.5))
    assert photo.calibration[-1, 0] == photo.calibration[-1, 1] == count, "values beyond 1 count as 1"


def test_parts_add_up_and_survive_json(maps):
    pred, truth = maps
    photos = [photo_errors(p, truth, 3, best=p, confidence=np.full(p.shape, 0.4)) for p in (pred, truth.clip(0, 2))]
    once, again = ErrorStatistics(3), ErrorStatistics(3)
    for photo in photos:
        once.add(photo)
        again.add(PhotoErrors.of(json.loads(json.dumps(photo.plain()))))
    assert np.array_equal(once.matrices, again.matrices) and np.array_equal(once.sizes, again.sizes)
    assert once.ece() == again.ece() and once.photos == 2
    assert json.loads(json.dumps(once.facts(["a", "b", "c"])))["confused"][0]["truth"] == "b"


def test_what_does_not_fit_is_refused(maps):
    pred, truth = maps
    with pytest.raises(ValueError, match="one size"):
        photo_errors(pred[1:], truth, 3)
    with pytest.raises(ValueError, match="prediction has labels outside of 0..1"):
        photo_errors(pred, np.minimum(truth, 1), 2)
    everything_ignored = photo_errors(pred, np.full_like(truth, 255), 3)
    assert not everything_ignored.pairs.size and not everything_ignored.sizes.any()
