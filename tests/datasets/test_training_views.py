"""What trainings do to photo and labels: together, within bounds, and with the padding ignored."""

import numpy as np
import pytest

from ovseg.datasets.training_views import ColourJitter, CropAndPad, Mirror


def sample(height=40, width=60, ignore_index=255):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    labels = (np.arange(height)[:, None] // 10 * 10 + np.arange(width) // 10).astype(np.int32)
    return dict(image=image.astype(np.uint8), labels=labels, ignore_index=ignore_index)


def test_photo_and_labels_are_cut_at_one_place():
    np.random.seed(0)
    corners = set()
    for _ in range(20):
        whole, found = sample(), CropAndPad(32)(sample())
        assert found["image"].shape == (32, 32, 3) and found["labels"].shape == (32, 32)
        places = [
            (y, x)
            for y in range(9)
            for x in range(29)
            if np.array_equal(whole["image"][y : y + 32, x : x + 32], found["image"])
        ]
        ((y, x),) = places
        assert np.array_equal(whole["labels"][y : y + 32, x : x + 32], found["labels"])
        corners.add((y, x))
    assert len(corners) > 10


def test_small_photos_are_filled_up_right_and_below():
    found = CropAndPad(64)(sample(ignore_index=65535))
    assert (found["image"][40:] == 128).all() and (found["image"][:, 60:] == 128).all()
    assert (found["labels"][40:] == 65535).all() and (found["labels"][:, 60:] == 65535).all()
    assert np.array_equal(found["labels"][:40, :60], sample()["labels"])
    assert "labels" not in CropAndPad(64)({"image": sample()["image"]})


def test_squares_of_a_single_class_are_avoided():
    np.random.seed(0)
    labels = np.zeros((64, 64), np.int32)
    labels[:, 50:] = 1
    shares = []
    for _ in range(20):
        results = dict(image=np.zeros((64, 64, 3), np.uint8), labels=labels.copy(), ignore_index=255)
        shares.append((CropAndPad(32, most_of_one=0.75)(results)["labels"] == 0).mean())
    assert np.mean(np.array(shares) < 0.75) > 0.8
    with pytest.raises(ValueError, match="most_of_one"):
        CropAndPad(32, most_of_one=0)


def test_the_mirror_turns_both():
    np.random.seed(1)
    turned = 0
    for _ in range(20):
        found, whole = Mirror()(sample()), sample()
        if np.array_equal(found["labels"], whole["labels"]):
            assert np.array_equal(found["image"], whole["image"])
        else:
            assert np.array_equal(found["labels"], whole["labels"][:, ::-1])
            assert np.array_equal(found["image"], whole["image"][:, ::-1])
            turned += 1
    assert 4 < turned < 16


def test_colours_change_and_labels_do_not():
    np.random.seed(0)
    found = [ColourJitter()(sample()) for _ in range(8)]
    assert all(f["image"].dtype == np.uint8 and f["image"].shape == (40, 60, 3) for f in found)
    assert sum(not np.array_equal(f["image"], sample()["image"]) for f in found) > 4
    assert all(np.array_equal(f["labels"], sample()["labels"]) for f in found)
    still = ColourJitter(brightness_delta=0, contrast_range=(1, 1), saturation_range=(1, 1), hue_delta=1)
    changed = np.abs(still(sample())["image"].astype(int) - sample()["image"])
    assert changed.max() <= 16  # HSV of 8 bits and back, hue a degree or two off
