"""DeCLIP's view of a photo: the square, the grid of boxes, their crops."""

import numpy as np

from ovseg.datasets.augment import BoxCrops, box_grid


def test_a_grid_shares_the_photo():
    boxes = box_grid(2, 3)
    np.testing.assert_allclose(boxes[4], [1 / 3, 0.5, 2 / 3, 1])
    assert np.isclose(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum(), 1)


def test_crops_are_what_their_boxes_show():
    photo = np.zeros((60, 120, 3), np.uint8)
    photo[:30, :60], photo[30:, 60:] = (200, 0, 0), (0, 0, 100)
    found = BoxCrops(size=64, crop=16).cut(dict(image=photo), box_grid(2, 2))
    assert found["image"].shape == (64, 64, 3) and (found["image"][32:] == 0).all()
    assert found["crops"].shape == (4, 3, 16, 16) and found["crops"].dtype == np.uint8
    # boxes are shares of the square, whose lower half is padding
    np.testing.assert_allclose(found["boxes"][3], [0.5, 0.25, 1, 0.5])
    crop = found["crops"][0]
    assert (crop[0, 4:12] == 200).all() and (crop[:, :4] == 0).all() and (crop[:, 12:] == 0).all()
    assert (found["crops"][3][2, 4:12] == 100).all()
    x0, y0, x1, y1 = (found["boxes"][0] * 64).astype(int)
    assert (found["image"][y0 : y1 - 1, x0 : x1 - 1, 0] >= 190).all()  # bicubic filters overshoot


def test_grids_are_drawn_from_all_that_are_allowed():
    view = BoxCrops(size=32, crop=8, most_boxes=7)
    grids = {(rows, columns) for rows, columns in view._grids}
    assert (1, 1) in grids and (6, 3) in grids and (6, 6) in grids and (1, 3) not in grids and (6, 2) not in grids
    np.random.seed(0)
    counts = set()
    for _ in range(40):
        found = view(dict(image=np.full((40, 30, 3), 9, np.uint8)))
        counts.add(len(found["boxes"]))
        assert len(found["boxes"]) == len(found["crops"]) <= 7
    assert len(counts) > 3
