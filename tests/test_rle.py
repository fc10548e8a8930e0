"""Run-length codes and polygons: pycocotools' masks for whole codes, a named error for everything else."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from ovseg.rle import MAX_OUTLINE, MaskCodeError, decode_polygons, decode_rle, decode_segmentation, encode_mask

RNG = np.random.default_rng(0)


def random_mask():
    height, width = RNG.integers(1, 40, 2)
    mask = RNG.random((height, width)) < RNG.random()
    return np.kron(mask, np.ones((5, 7), bool)) if RNG.random() < 0.5 else mask


def plain(code):
    """The list of runs of a mask, counted here."""
    flat = coco_mask.decode({**code, "counts": code["counts"].encode()}).T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return np.diff([0, *edges, flat.size]).tolist()


def test_whole_codes_give_pycocotools_masks():
    for _ in range(200):
        mask = random_mask()
        code = encode_mask(mask)
        np.testing.assert_array_equal(decode_rle(code, mask.shape), mask)
        np.testing.assert_array_equal(decode_rle({**code, "counts": code["counts"].encode()}, mask.shape), mask)
        np.testing.assert_array_equal(decode_segmentation({**code, "counts": plain(code)}, mask.shape), mask)


def test_long_runs():
    mask = np.zeros((3000, 2000), bool)
    mask[:, 700:1900] = True
    np.testing.assert_array_equal(decode_rle(encode_mask(mask), mask.shape), mask)


def test_polygons_are_pycocotools_also_where_they_leave_the_image():
    for _ in range(200):
        height, width = (int(n) for n in RNG.integers(1, 60, 2))
        polygons = [
            (RNG.random((RNG.integers(3, 9), 2)) * (width * 1.6, height * 1.6) - (width * 0.3, height * 0.3))
            .ravel()
            .tolist()
            for _ in range(RNG.integers(1, 4))
        ]
        theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))
        np.testing.assert_array_equal(decode_segmentation(polygons, (height, width)), theirs)


SIZE = (4, 5)
DAMAGED_CODES = {
    "runs too short": ([3, 4], "hold 7 pixels"),
    "runs too long": ([3, 4, 20], "hold 27 pixels"),
    "nothing": ([], "hold 0 pixels"),
    "negative": ([10, -5, 15], "run -5"),
    "huge": ([2**62, 2**62], "run 4611686018427387904"),
    "fraction": ([10.0, 10], "run 10.0"),
    "nan": ([float("nan"), 10], "run nan"),
    "bool": ([True, 19], "run True"),
    "text in the list": (["10", 10], "run '10'"),
    "many empty runs": ([0] * 100 + [20], "101 runs for 20 pixels"),
    "empty string": ("", "hold 0 pixels"),
    "cut number": ("d0P", "cut off"),
    "other characters": ("d\u00e9", "characters"),
    "low characters": ("d !", "characters"),
    "endless number": ("o" * 50 + "0", "more than 7 characters"),
    "no counts": (None, "counts are"),
    "a number": (20, "counts are"),
    "string of another length": ("5", "hold 5 pixels"),
}


@pytest.mark.parametrize("case", DAMAGED_CODES)
def test_damaged_run_lengths_are_refused(case):
    counts, reason = DAMAGED_CODES[case]
    with pytest.raises(MaskCodeError, match=reason):
        decode_segmentation({"size": list(SIZE), "counts": counts}, SIZE)


@pytest.mark.parametrize(
    "size, reason",
    [
        ([5, 4], "mask of 5 x 4"),
        ([10**6, 10**6], "above the limit"),
        ([-4, -5], "height -4"),
        ([4.0, 5], "height 4.0"),
        ([True, 20], "height True"),
        ([4], "two numbers"),
        ("45", "two numbers"),
        (None, "two numbers"),
        ([float("nan"), 5], "height nan"),
        ([10**5000, 5], "height|above the limit"),
    ],
)
def test_sizes_of_codes(size, reason):
    with pytest.raises(MaskCodeError, match=reason):
        decode_rle({"size": size, "counts": [20]}, SIZE)


@pytest.mark.parametrize("size", [(0, 5), (4, -1), (2**20, 2**20), (4.5, 5), ("4", 5), (None, 5)])
def test_sizes_of_photos(size):
    with pytest.raises(MaskCodeError, match="pixels"):
        decode_polygons([[0, 0, 3, 0, 3, 3]], size)


DAMAGED_POLYGONS = {
    "empty": ([], "list of polygons"),
    "one point": ([[1, 2]], "polygon 0: 1 points"),
    "two points": ([[1, 1, 3, 3]], "polygon 0: 2 points"),  # four numbers: pycocotools draws a box
    "box after a polygon": ([[0, 0, 3, 0, 3, 3], [1, 1, 3, 3]], "polygon 1: 2 points"),
    "odd": ([[0, 0, 3, 0, 3, 3, 1]], "7 coordinates"),
    "nan": ([[0, 0, 3, float("nan"), 3, 3]], "coordinate nan"),
    "infinite": ([[0, 0, 3, float("inf"), 3, 3]], "coordinate inf"),
    "1e9": ([[0, 0, 1e9, 0, 3, 3]], "far outside"),
    "-1e9": ([[0, 0, 3, -1e9, 3, 3]], "far outside"),
    "whole number of 5000 digits": ([[0, 0, 10**5000, 0, 3, 3]], "coordinate|finite"),
    "text": ([[0, 0, "3", 0, 3, 3]], "coordinate '3'"),
    "none": ([[0, 0, None, 0, 3, 3]], "coordinate None"),
    "nested": ([[[0, 0], [3, 0], [3, 3], [1, 1], [2, 2], [0, 1]]], r"coordinate \[0, 0\]"),
    "flat": ([0, 0, 3, 0, 3, 3], "polygon 0: a list"),
    "a dict among them": ([{"counts": [20], "size": [4, 5]}], "polygon 0: a list"),
    "to and fro": ([[0, 0, 5, 4] * (MAX_OUTLINE // 5)], "outline"),
    "text alone": ("polygon", "a dict with run lengths or a list"),
    "nothing": (None, "a dict with run lengths or a list"),
}


@pytest.mark.parametrize("case", DAMAGED_POLYGONS)
def test_damaged_polygons_are_refused(case):
    polygons, reason = DAMAGED_POLYGONS[case]
    with pytest.raises(MaskCodeError, match=reason):
        decode_segmentation(polygons, SIZE)


def test_what_json_makes_of_nan_is_refused_too():
    with pytest.raises(MaskCodeError, match="coordinate nan"):
        decode_segmentation(json.loads("[[0, 0, NaN, 1, 2, 2]]"), SIZE)
