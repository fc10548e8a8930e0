"""Overlays: colours that can be told apart, a legend at any size, nothing painted that is no class."""

import cv2
import numpy as np
import pytest

from ovseg.datasets import load_class_names
from ovseg.visualization import class_shares, draw_comparison, draw_overlay, palette_for

RNG = np.random.default_rng(0)


def lab_distance(palette):
    lab = cv2.cvtColor(palette[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return distance[~np.eye(len(lab), dtype=bool)].min()


@pytest.mark.parametrize("count, least", [(8, 60), (21, 35), (60, 20), (171, 12), (847, 6)])
def test_colours_are_far_apart_in_lab(count, least):
    palette = palette_for([f"class {i}" for i in range(count)])
    assert palette.shape == (count, 3) and palette.dtype == np.uint8
    assert lab_distance(palette) > least


def test_palette_is_the_same_every_time_and_background_is_grey():
    names = load_class_names("voc21")
    np.testing.assert_array_equal(palette_for(names), palette_for(names))
    assert len(set(palette_for(names)[0])) == 1
    np.testing.assert_array_equal(palette_for(names)[5], palette_for(["x"] * 100)[5])
    assert palette_for([]).shape == (0, 3)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (36, 48), (480, 640), (900, 200)])
@pytest.mark.parametrize("classes", [1, 21, 847])
def test_overlay_at_any_size(size, classes):
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = RNG.integers(0, classes, size)
    names = [f"a rather long name of class {i}" for i in range(classes)]
    plain = draw_overlay(image, labels, names, legend=False)
    assert plain.shape == image.shape and plain.dtype == np.uint8
    out = draw_overlay(image, labels, names)
    assert out.shape[0] >= size[0] and out.shape[1] > size[1]
    np.testing.assert_array_equal(out[: size[0], : size[1]], plain)
    panel = out[:, size[1] :]
    assert panel.min() < 100, "the legend has text"
    assert out.shape[0] <= max(size[0], 200), "and a small photo does not get a huge one"


def test_legend_lists_every_class_that_fits_with_its_colour():
    labels = np.zeros((200, 200), np.int64)
    labels[:50], labels[50:60] = 3, 7
    names = [f"class {i}" for i in range(10)]
    out = draw_overlay(np.full((200, 200, 3), 128, np.uint8), labels, names)
    panel = out[:, 200:].reshape(-1, 3)
    palette = palette_for(names)
    shown = {i for i in range(10) if (panel == palette[i]).all(1).sum() > 50}
    assert shown == {0, 3, 7}
    assert list(class_shares(labels, 10)) == [0, 3, 7] and class_shares(labels, 10)[3] == 0.25


def test_alpha_contours_and_unlabelled_pixels():
    image = np.full((60, 60, 3), 100, np.uint8)
    labels = np.zeros((60, 60), np.int32)
    labels[:, 30:] = 1
    labels[:20, :20] = 255
    out = draw_overlay(image, labels, ["a", "b"], legend=False)
    palette = palette_for(["a", "b"]).astype(int)
    np.testing.assert_allclose(out[40, 10], (palette[0] + 100) / 2, atol=1)
    np.testing.assert_array_equal(out[40, 29], palette[0])  # contour: both sides in their own colour
    np.testing.assert_array_equal(out[40, 30], palette[1])
    np.testing.assert_array_equal(out[5, 5], [100, 100, 100])
    np.testing.assert_array_equal(draw_overlay(image, labels, ["a", "b"], alpha=0.0, legend=False)[40, 10], image[0, 0])


def test_own_palette():
    out = draw_overlay(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), int), ["a"], [[200, 100, 50]], 1.0, False)
    assert out[4, 4].tolist() == [200, 100, 50]
    with pytest.raises(ValueError, match="1 colours for 2 classes"):
        draw_overlay(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), int), ["a", "b"], [[200, 100, 50]])


def test_wrong_arrays_are_named():
    image, labels = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), int)
    for bad in [(image[..., 0], labels), (image / 255, labels), (image, labels.T), (image, labels / 2)]:
        with pytest.raises(ValueError, match="shape"):
            draw_overlay(*bad, ["a"])
    with pytest.raises(ValueError, match="alpha"):
        draw_overlay(image, labels, ["a"], alpha=2)


@pytest.mark.parametrize("size", [(1, 1), (40, 60), (1024, 2048)])
def test_comparison_has_three_panels_and_one_legend(size):
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    truth = np.zeros(size, np.int32)
    pred = np.ones(size, np.int32)
    truth[: size[0] // 2] = 65535
    out = draw_comparison(image, truth, pred, ["cat", "sofa"], max_side=300)
    width = round(size[1] * min(1, 300 / max(size)))
    assert out.shape[1] > 3 * width and out.shape[0] >= round(size[0] * min(1, 300 / max(size)))
    without = draw_comparison(image, None, pred, ["cat", "sofa"], max_side=300)
    assert out.shape[1] > without.shape[1]
