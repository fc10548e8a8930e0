"""The pipeline's steps against the libraries whose rules they state."""

import mmcv
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from ovseg.datasets import (
    LoadMask,
    MaskReadError,
    PackInputs,
    PointPrompts,
    ResizePIL,
    ResizeShortestEdge,
    ResizeShortSide,
)
from ovseg.datasets.transforms import map_labels, reduce_zero_label, resize_short_side, short_side_size
from tests.datasets.fixtures import photo

SIZES = [(375, 500), (500, 375), (333, 333), (100, 3000), (31, 17), (1024, 2048)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("short_side", [336, 448])
def test_resize_is_mmcv_imrescale(size, short_side):
    image = photo(np.random.default_rng(1), size)
    expected = mmcv.imrescale(image[..., ::-1], (2048, short_side), interpolation="bilinear")[..., ::-1]
    ours = ResizeShortSide(short_side).transform({"image": image})["image"]
    np.testing.assert_array_equal(ours, expected)  # channel order does not matter to the filter


def test_resize_rounds_half_up_and_never_to_nothing():
    assert short_side_size(427, 640, 336) == (336, 504)
    assert short_side_size(2, 5000, 336) == (1, 2048)
    assert resize_short_side(np.zeros((2, 5000, 3), np.uint8), 336).shape == (1, 2048, 3)


def test_one_of_several_squares_is_drawn_for_each_photo():
    image, step = photo(np.random.default_rng(1), (60, 80)), ResizePIL((32, 48), center_crop=True)
    np.random.seed(0)
    assert {step.transform({"image": image})["image"].shape[:2] for _ in range(20)} == {(32, 32), (48, 48)}
    with pytest.raises(ValueError, match="short_side is .*at least two"):
        ResizePIL(())
    assert ResizePIL(336).short_side == 336


def test_points_lie_on_the_photo_at_sams_size():
    results = PointPrompts(count=50, side=128).transform({"image": photo(np.random.default_rng(1), (60, 80))})
    assert results["image"].shape == (96, 128, 3)
    points = results["points"]
    assert points.shape == (50, 2) and points.dtype == np.float32
    assert (points >= 0).all() and (points <= (128, 96)).all() and points[:, 0].max() > 96


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (224, 224), (60, 90)])
def test_clip_trase_preprocessing_is_torchvisions(size):
    image, labels = photo(np.random.default_rng(2), size), np.arange(size[0] * size[1], dtype=np.int32).reshape(size)
    out = ResizePIL(224, center_crop=True).transform({"image": image, "labels": labels})
    reference = CenterCrop(224)(Resize(224, InterpolationMode.BICUBIC)(Image.fromarray(image)))
    np.testing.assert_array_equal(out["image"], np.asarray(reference))
    nearest = CenterCrop(224)(Resize(224, InterpolationMode.NEAREST)(Image.fromarray(labels)))
    np.testing.assert_array_equal(out["labels"], np.asarray(nearest))
    assert out["ori_shape"] == out["labels"].shape == (224, 224)
    assert out["original"].shape == (224, 224, 3)


def test_cliper_preprocessing_rounds_sides_and_leaves_labels_alone():
    labels = np.zeros((375, 500), np.int32)
    out = ResizePIL(336, multiple_of=16).transform({"image": np.zeros((375, 500, 3), np.uint8), "labels": labels})
    assert out["image"].shape == (336, 448, 3) and out["labels"] is labels
    out = ResizePIL(336, multiple_of=16).transform({"image": np.zeros((333, 500, 3), np.uint8)})
    assert out["image"].shape == (336, 512, 3)  # 504.5 / 16 = 31.53


def test_resize_pil_refuses_contradictions():
    with pytest.raises(ValueError, match="multiple_of"):
        ResizePIL(224, multiple_of=16, center_crop=True)
    with pytest.raises(ValueError, match="bicubic"):
        ResizePIL(224, interpolation="lanczos")


def test_reduce_zero_label_beyond_8_bits():
    labels = np.array([0, 1, 255, 256, 847, 65535], np.int32)
    assert reduce_zero_label(labels, 65535).tolist() == [65535, 0, 254, 255, 846, 65535]
    assert map_labels(labels, {0: 7, 65535: 9}).tolist() == [7, 1, 255, 256, 847, 9]


def info(path, shape=(4, 5), **more):
    base = dict(img_path="a.jpg", seg_map_path=str(path), ori_shape=shape, num_classes=21, ignore_index=255)
    return {**base, **more}


def test_load_mask_reads_maps_and_reduces(tmp_path):
    labels = np.array([[0, 1, 20, 255], [2, 3, 4, 5]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "m.png")
    out = LoadMask().transform(info(tmp_path / "m.png", (2, 4), num_classes=20, reduce_zero_label=True))
    assert out["labels"].dtype == np.int32
    assert out["labels"].tolist() == [[255, 0, 19, 255], [1, 2, 3, 4]]
    out = LoadMask().transform(info(tmp_path / "m.png", (2, 4), label_map={20: 255, 5: 0}))
    assert out["labels"].tolist() == [[0, 1, 255, 255], [2, 3, 4, 0]]


@pytest.mark.parametrize(
    "stored, more, message",
    [
        (np.full((5, 4), 1), {}, "4 x 5, its photo 5 x 4 .*EXIF"),
        (np.full((3, 3), 1), {}, "3 x 3, its photo 5 x 4$"),
        (np.full((4, 5), 21), {}, r"label 21 \(20 px\); the data set has 21 classes \(0..20\)"),
        (np.full((4, 5), 22), {"reduce_zero_label": True}, r"label 22 .*\(1..21\) and ignores 255 and 0"),
    ],
)
def test_masks_that_do_not_fit_are_named(tmp_path, stored, more, message):
    Image.fromarray(stored.astype(np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(MaskReadError, match=message) as caught:
        LoadMask().transform(info(tmp_path / "m.png", **more))
    assert "m.png" in str(caught.value)


def test_pack_inputs_follows_the_contract():
    image = photo(np.random.default_rng(3), (6, 8))
    results = dict(image=image, original=np.zeros((12, 16, 3), np.uint8), labels=np.ones((12, 16), np.int64))
    results.update(ori_shape=(12, 16), img_path="a.jpg", seg_map_path="a.png", regions=np.ones((6, 8), np.int32))
    packed = PackInputs(keys=("original", "regions")).transform(results)
    assert packed["inputs"].dtype == torch.uint8 and packed["inputs"].shape == (3, 6, 8)
    np.testing.assert_array_equal(packed["inputs"].permute(1, 2, 0), image)
    assert packed["original"].shape == (3, 12, 16) and packed["regions"].dtype == torch.int32
    sample = packed["data_samples"]
    assert sample.gt_sem_seg.data.dtype == torch.int32 and sample.gt_sem_seg.data.shape == (1, 12, 16)
    assert (sample.ori_shape, sample.img_shape, sample.img_path) == ((12, 16), (6, 8), "a.jpg")
    with pytest.raises(KeyError, match="guide"):
        PackInputs(keys=("guide",)).transform(results)


def test_pack_error_stands_in_for_a_sample():
    packed = PackInputs(keys=("original",)).pack_error({"img_path": "a.jpg", "sample_idx": 4}, ValueError("bad"))
    assert packed["inputs"] is None and packed["original"] is None
    assert packed["data_samples"].error == "bad" and packed["data_samples"].sample_idx == 4


@pytest.mark.parametrize(
    ("size", "expected"), [((400, 600), (640, 960)), ((600, 400), (960, 640)), ((100, 1000), (256, 2560))]
)
def test_shortest_edge_follows_detectron2(size, expected):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = np.arange(size[0] * size[1], dtype=np.int32).reshape(size) % 7
    found = ResizeShortestEdge(640, 2560, labels=True).transform(dict(image=image, labels=labels))
    plain = Image.fromarray(image).resize(expected[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(found["image"], np.asarray(plain))
    assert found["labels"].shape == expected and set(np.unique(found["labels"])) <= set(range(7))
    kept = ResizeShortestEdge((640, 700)).transform(dict(image=image, labels=labels))
    assert min(kept["image"].shape[:2]) in (640, 700, 256) and kept["labels"] is labels
