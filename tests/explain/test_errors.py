"""Error maps and pictures on maps made by hand."""

import numpy as np
import pytest

from ovseg import explain
from ovseg.explain.attention import AttentionAt
from ovseg.explain.errors import CONFUSED, CORRECT, IGNORED

NAMES = ("ground", "cat", "dog")


@pytest.fixture
def case():
    truth = np.zeros((40, 60), np.uint8)
    truth[10:30, 20:40] = 1
    truth[:, 55:] = 255
    labels = truth.astype(np.uint16)
    labels[labels == 255] = 2
    labels[10:30, 20:22] = 0  # 40 pixels at the cat's edge
    labels[0:2, 0:10] = 2  # 20 pixels of ground far from it
    return truth, labels


def test_kinds_distances_and_confusions(case):
    truth, labels = case
    found = explain.error_map(labels, truth, NAMES)
    assert (found.kinds == IGNORED).sum() == 40 * 5 and (found.kinds == CONFUSED).sum() == 60
    assert (found.kinds == CORRECT).sum() == 40 * 60 - 200 - 60
    first, second = found.confusions
    assert (first.truth, first.predicted, first.pixels) == ("cat", "ground", 40)
    assert first.share == pytest.approx(40 / 400) and first.near_boundary == 1
    assert (second.truth, second.predicted, second.pixels, second.near_boundary) == ("ground", "dog", 20, 0)
    assert found.near_boundary == pytest.approx(40 / 60)
    assert found.accuracy == pytest.approx(100 * (2200 - 60) / 2200)
    ground, cat = (1800 - 20) / (1800 + 40), 360 / 400
    assert found.miou == pytest.approx(100 * (ground + cat + 0) / 3)
    assert [row["truth"] for row in found.table(1)] == ["cat"]


def test_distance_is_euclidean_and_infinite_without_a_boundary():
    truth = np.zeros((20, 20), np.uint8)
    assert np.isinf(explain.boundary_distance(truth)).all()
    truth[:, 10:] = 1
    distance = explain.boundary_distance(truth)
    np.testing.assert_allclose(distance[5], [*range(9, -1, -1), *range(10)])


def test_what_cannot_be_compared_is_refused(case):
    truth, labels = case
    with pytest.raises(ValueError, match="one size"):
        explain.error_map(labels[1:], truth, NAMES)
    with pytest.raises(ValueError, match="outside classes 0..0"):
        explain.error_map(np.zeros_like(labels), truth, NAMES[:1])
    with pytest.raises(ValueError, match="nothing to compare"):
        explain.error_map(labels, np.full_like(truth, 255), NAMES)


def test_no_error_at_all(case):
    truth, _ = case
    found = explain.error_map(np.where(truth == 255, 0, truth), truth, NAMES)
    assert found.confusions == () and found.miou == 100 and found.near_boundary == 0
    image = np.zeros((40, 60, 3), np.uint8)
    assert explain.draw_errors(image, truth, truth, NAMES, found).shape[2] == 3


def test_errors_are_red_where_they_are(case):
    truth, labels = case
    image = np.full((40, 60, 3), 128, np.uint8)
    found = explain.error_map(labels, truth, NAMES)
    picture = explain.draw_errors(image, labels, truth, NAMES, found)
    height = picture.shape[0]
    strip = picture[:, 2 * 66 : 2 * 66 + 60].astype(int)
    red = (strip[..., 0] > strip[..., 1] + 60) & (strip[..., 0] > strip[..., 2] + 60)
    rows = np.flatnonzero(red.any(1))
    assert red.sum() > 30 and rows.max() < height // 2, "in the third panel, above the table"


def test_the_patch_is_marked_and_its_window_outlined():
    image = np.full((64, 96, 3), 200, np.uint8)
    weights = np.zeros((1, 4, 4), np.float32)
    weights[0, 1, 2], weights[0, 3, 0] = 0.6, 0.4
    values = np.zeros((64, 96), np.float32)
    values[16:32, 32:48], values[48:64, 0:16] = 0.6, 0.4
    found = AttentionAt(
        (40, 20), (32, 16, 48, 32), "A(x=1)", weights, np.zeros((1, 0)), ((0, 0, 64, 64),), values, 0.6, 0.4
    )
    picture = explain.draw_attention(image, found)
    body = picture[picture.shape[0] - 64 :, :96].astype(int)
    assert (body[16, 36] == (0, 255, 255)).all(), "the patch's outline"
    assert np.ptp(body[56, 8]) > 50 and not np.ptp(body[56, 80]), "what it attends to has a colour, the rest is grey"
