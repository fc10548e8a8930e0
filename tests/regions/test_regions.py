"""Region sources, maps and the mask cache."""

import builtins
import copy
import json
import os
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ovseg.region_maps import paint_masks, resize_regions
from ovseg.regions import CachedRegions, CallableRegions, LoadRegions, Sam2Masks, SamMasks, SlicRegions
from ovseg.regions.cache import read_masks, write_masks
from ovseg.regions.slic import connect
from ovseg.registry import REGIONS
from ovseg.weights import UnknownWeights, file_sha256, get_card
from tests.small_guides import use_small_guides
from tests.weight_edits import EDITS

RNG = np.random.default_rng(0)


def photo(height=40, width=60):
    """Left half dark, right half bright, with noise."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, width // 2 :] = 200
    return image + RNG.integers(0, 10, image.shape, dtype=np.uint8)


@pytest.mark.parametrize("size", [(5, 7), (13, 9), (40, 60), (91, 64)])
def test_resizing_ids_is_pytorchs_nearest(size):
    ids = torch.randint(0, 2**24, (40, 60))
    want = F.interpolate(ids[None, None].double(), size=size, mode="nearest")[0, 0].long()
    assert torch.equal(resize_regions(ids, size), want)


def test_painting_order():
    small, large = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    small[0, 0] = large[:2, :2] = True
    assert paint_masks([large, small], (4, 4))[0, 0] == 2  # the larger one covers the smaller
    assert (paint_masks([large, small], (4, 4)) == 2).sum() == 4
    ids = paint_masks([small, large], (4, 4), "descending")
    assert (ids == 1).sum() == 3 and (ids == 2).sum() == 1 and (ids == 0).sum() == 12
    with pytest.raises(ValueError, match="order is 'up'"):
        paint_masks([], (4, 4), "up")


def test_slic_follows_the_edge_and_is_connected():
    image = photo()
    ids = SlicRegions(segments=12)(torch.from_numpy(image).permute(2, 0, 1))
    assert ids.shape == (40, 60) and ids.dtype == torch.int32 and ids.min() == 1 and 6 <= len(ids.unique()) <= 20
    for i in ids.unique():
        columns = (ids == i).any(0).nonzero()[:, 0]
        assert columns.max() < 31 or columns.min() >= 29  # no superpixel over the edge in the middle
    assert connect(ids.numpy(), 1).max() + 1 == len(ids.unique())  # every id is one piece


def test_small_pieces_join_their_neighbour():
    labels = np.zeros((6, 6), int)
    labels[2, 2] = 1
    labels[:, 5] = 2
    out = connect(labels, least=3)
    assert out[2, 2] == out[0, 0] != out[0, 5]


def test_callable_regions_take_ids_and_masks_and_names():
    image = torch.from_numpy(photo()).permute(2, 0, 1)
    by_ids = CallableRegions(lambda im: (im[..., 0] > 100).astype(int))(image)
    by_masks = CallableRegions(lambda im: [im[..., 0] > 100])(image)
    assert torch.equal(by_ids, by_masks) and by_ids.unique().tolist() == [0, 1]
    assert CallableRegions("tests.regions.test_regions:halves")(image).max() == 2
    with pytest.raises(ValueError, match="package.module:function"):
        CallableRegions("nothing")
    with pytest.raises(ValueError, match="mask of shape"):
        CallableRegions(lambda im: [np.ones((2, 2), bool)])(image)


def halves(image):
    return [image[..., 0] > 100, image[..., 0] <= 100]


def test_cache_finds_the_same_pixels_again_and_keeps_settings_apart(tmp_path):
    image = photo()
    cached = CachedRegions(dict(type="SlicRegions", segments=8), tmp_path)
    first = cached.masks(image)
    files = list(tmp_path.rglob("*.rle"))
    assert len(files) == 1 and not list(tmp_path.rglob("*.part"))
    again = CachedRegions(dict(type="SlicRegions", segments=8), tmp_path)
    for a, b in zip(first, again.masks(image.copy()), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not again._built  # nothing was built: the file was enough
    assert CachedRegions(dict(type="SlicRegions", segments=9), tmp_path).path_of(image) != files[0]
    assert again.path_of(photo()) != files[0]
    files[0].write_bytes(b"damaged")
    np.testing.assert_array_equal(again.masks(image)[0], first[0])
    assert read_masks(files[0], (40, 60)) is not None  # written again
    with pytest.raises(KeyError, match="no region source 'Magic'"):
        CachedRegions(dict(type="Magic"))


def test_retrained_weights_never_find_old_masks(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path / "weights"))  # where hashes are remembered
    image, weights = photo(), tmp_path / "sam.pth"

    def key(**settings):
        source = dict(type="SamMasks", checkpoint=str(weights), **settings)
        return CachedRegions(source, tmp_path).path_of(image)

    weights.write_bytes(b"first training")
    first = key()
    assert key(points_per_batch=3, order="descending") == first != key(points_per_side=3)
    copy = tmp_path / "copy.pth"
    copy.write_bytes(b"first training")
    assert CachedRegions(dict(type="SamMasks", checkpoint=str(copy)), tmp_path).path_of(image) == first
    weights.write_bytes(b"second training")
    assert key() != first
    described = CachedRegions(dict(type="SamMasks", checkpoint=str(weights)), tmp_path).describe()
    assert described["sha256"] == file_sha256(weights)


def test_a_filled_cache_is_found_before_the_weights_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path))
    stated = get_card("sam/vit_b").sources[0].sha256
    assert SamMasks.cache_key(dict(type="SamMasks"))["sha256"] == stated
    assert SamMasks.cache_key(dict(type="SamMasks", weights="sam/vit_h"))["sha256"] != stated
    with pytest.raises(UnknownWeights, match="no weights named 'sam/vit_x'"):
        SamMasks.cache_key(dict(type="SamMasks", weights="sam/vit_x"))


def test_local_models_of_transformers_are_known_by_their_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path / "weights"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"first")
    config = dict(type="Sam2Masks", model=str(tmp_path / "model"))
    first = Sam2Masks.cache_key(config)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"the second")
    assert Sam2Masks.cache_key(config) != first
    assert Sam2Masks.cache_key(dict(type="Sam2Masks"))["sha256"] == []


def test_unwritable_cache_warns_once(tmp_path):
    (tmp_path / "file").write_text("")
    cached = CachedRegions(dict(type="SlicRegions", segments=4), tmp_path / "file")
    with pytest.warns(UserWarning, match="masks are not cached"):
        masks = cached.masks(photo())
    assert len(masks) and cached.supervision == "regions: no training"


def test_a_source_that_is_built_late_is_built_where_the_model_is(tmp_path, monkeypatch):
    use_small_guides(monkeypatch)
    cached = CachedRegions(dict(type="SamMasks", weights="sam/vit_b"), tmp_path).to("meta")
    assert {p.device.type for p in cached.source.parameters()} == {"meta"}
    assert not cached.state_dict(), "a checkpoint does not depend on whether a mask was missing"
    late = CachedRegions(dict(type="SamMasks", weights="sam/vit_b"), tmp_path)
    assert {p.device.type for p in late.source.parameters()} == {"cpu"}
    assert {p.device.type for p in late.to("meta").source.parameters()} == {"meta"}, "a source moves with its cache"


@pytest.mark.parametrize("edit", EDITS)
def test_masks_of_changed_weights_are_kept_apart(tmp_path, monkeypatch, edit):
    use_small_guides(monkeypatch)
    image = photo()
    settings = dict(type="SamMasks", weights="sam/vit_b", points_per_side=2, iou_threshold=-1e9, stability_threshold=0)
    cached = CachedRegions(settings, tmp_path)
    untouched = cached.path_of(image)
    cached.masks(image)
    if edit == "changed_copy":
        cached = copy.deepcopy(cached)
        edited = EDITS["data_add"](cached.source)
    else:
        edited = EDITS[edit](cached.source)
    path = cached.path_of(image)
    assert path != untouched and not path.exists() and "content" in cached.describe()
    expected = edited.masks(image)
    for _ in range(2):
        np.testing.assert_array_equal(cached.masks(image), expected)
    assert path.exists()
    assert CachedRegions(settings, tmp_path).path_of(image) == untouched


def test_masks_survive_the_disk(tmp_path):
    masks = [RNG.random((7, 5)) > 0.5 for _ in range(3)]
    write_masks(tmp_path / "a" / "m.rle", masks)
    np.testing.assert_array_equal(read_masks(tmp_path / "a" / "m.rle", (7, 5)), masks)
    assert read_masks(tmp_path / "a" / "m.rle", (5, 7)) is None and read_masks(tmp_path / "none", (7, 5)) is None


def test_sam_masks_are_segment_anythings_whatever_the_prompt_batch(monkeypatch):
    use_small_guides(monkeypatch)
    settings = dict(points_per_side=4, iou_threshold=0.0, stability_threshold=0.0)
    one, many = SamMasks("sam/vit_b", points_per_batch=3, **settings), SamMasks("sam/vit_b", **settings)
    image = photo()
    a, b = one.records(image), many.records(image)
    assert len(a) == len(b) > 0
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x["segmentation"], y["segmentation"])
    from segment_anything import SamAutomaticMaskGenerator

    theirs = SamAutomaticMaskGenerator(many.backbone.sam, **many.settings).generate(image)
    assert [t["area"] for t in theirs] == [m.sum() for m in many.masks(image)]
    assert "SA-1B" in many.supervision
    assert SamMasks("sam/vit_b", points_per_side=2, iou_threshold=1e9).records(image) == []


@pytest.mark.parametrize(("weights", "said"), [("sam/vit_b", "SA-1B masks"), ("nano_sam", "composed scenes")])
def test_cached_masks_say_what_their_source_was_trained_on(tmp_path, weights, said):
    assert said in CachedRegions(dict(type="SamMasks", weights=weights), tmp_path).supervision


def test_transformers_sources_say_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "transformers":
            raise ImportError("absent")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'ovseg\[sam\]'"):
        Sam2Masks()
    with pytest.raises(ImportError, match="PanopticMasks needs the package transformers"):
        REGIONS.build(dict(type="PanopticMasks"))


def test_region_maps_from_files(tmp_path):
    ids = RNG.integers(0, 5, (4, 6)).astype(np.int32)
    np.savez(tmp_path / "cat.npz", instance_mask=ids)
    out = LoadRegions(tmp_path).transform(dict(img_path="x/cat.jpg", ori_shape=(4, 6)))
    np.testing.assert_array_equal(out["regions"], ids)
    with pytest.raises(ValueError, match="its photo"):
        LoadRegions(tmp_path).transform(dict(img_path="x/cat.jpg", ori_shape=(6, 4)))
    with pytest.raises(FileNotFoundError, match="dog.npz or dog.png"):
        LoadRegions(tmp_path).transform(dict(img_path="x/dog.jpg", ori_shape=(6, 4)))


@pytest.mark.parametrize(
    "content",
    [
        [{"size": [2, 3], "counts": [2, 2]}],  # two pixels are missing: pycocotools leaves them as memory has them
        [{"size": [2, 3], "counts": "22"}],
        [{"size": [2, 3], "counts": [2, -2, 6]}],
        [{"size": [2**20, 2**20], "counts": [2**40]}],
        {"size": [2, 3], "counts": [6]},
        [None],
    ],
)
def test_damaged_codes_in_the_cache_count_as_absent(tmp_path, content):
    path = tmp_path / "x.rle"
    path.write_bytes(zlib.compress(json.dumps(content).encode()))
    assert read_masks(path, (2, 3)) is None
    path.write_bytes(zlib.compress(b"[" * 100_000))
    assert read_masks(path, (2, 3)) is None
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    assert read_masks(path, (2, 3)) is None


def test_region_maps_are_stored_samples_of_whole_files(tmp_path):
    ids = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(ids).save(tmp_path / "cat.png")
    data = bytearray((tmp_path / "cat.png").read_bytes())
    data[data.index(b"IDAT") + 12] ^= 1
    (tmp_path / "cat.png").write_bytes(data)
    load = LoadRegions(tmp_path)
    with pytest.raises(ValueError, match="region map .*cat.png cannot be read"):
        load.transform(dict(img_path="x/cat.jpg", ori_shape=(4, 6)))
    for values in (ids / 2, ids + 2.0**40, (ids.astype(np.int64) + 2**40)):
        np.savez(tmp_path / "cat.npz", values)
        with pytest.raises(ValueError, match="whole numbers that fit 32 bits"):
            load.transform(dict(img_path="x/cat.jpg", ori_shape=(4, 6)))
    (tmp_path / "cat.npz").write_bytes(b"PK\3\4" + bytes(60))
    with pytest.raises(ValueError, match="cannot be read"):
        load.transform(dict(img_path="x/cat.jpg", ori_shape=(4, 6)))
