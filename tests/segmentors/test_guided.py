"""The guided segmentors as a whole, on small random models."""

import gc
import weakref

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from segment_anything.utils.transforms import ResizeLongestSide

from ovseg.apis import config_root
from ovseg.backbones.sam import SamTile
from ovseg.refiners.sam_prompt import SamPromptRefiner, mask_prompt
from ovseg.registry import MODELS, REGION_ENCODERS
from ovseg.stitches.splice import splice
from ovseg.weights import LoadedClip, get_card
from ovseg.windows import SlidingWindows
from tests.small_guides import use_small_guides
from tests.small_models import small_clip

METHODS = ["proxyclip", "clip_dinoiser", "trident", "corrclip", "sam_clip"]
WORDS = ["background", "cat", "dog; puppy", "grass"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_guides(monkeypatch)

    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        clip = small_clip(layers=7, grid=4)
        return LoadedClip(clip, mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)


def build(method, batch=8, **changes):
    config = Config.fromfile(config_root() / "_base_" / "models" / f"{method}.py").model
    config.update(templates="plain", text_cache=False, **changes)
    if "regions" in config:
        config.regions = dict(type="SlicRegions", segments=6)
    config.windows.update(crop=96, stride=48 if method != "trident" else 64, batch=batch)
    if method == "trident":
        config.label_refiners[0].update(min_area=4, iou_threshold=0.0, coarse_threshold=0.1)
    model = MODELS.build(config).eval()
    model.set_vocabulary(WORDS)
    return model


def photos():
    rng = np.random.default_rng(1)
    out = []
    for h, w in ((100, 150), (96, 96), (40, 130)):
        small = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        image = np.kron(small, np.ones((40, 40, 1), np.uint8))[:h, :w]
        out.append(torch.from_numpy(image).permute(2, 0, 1))
    return out


def predict(model, images):
    return model.predict([model.prepare(i, tuple(i.shape[1:]), i) for i in images])


@pytest.mark.parametrize("method", METHODS)
def test_labels_do_not_depend_on_batches_and_leave_no_hooks(method):
    many = build(method, batch=16)
    together = predict(many, photos())
    alone = [predict(build(method, batch=1), [p])[0] for p in photos()]
    for image, a, b in zip(photos(), together, alone, strict=True):
        assert a.shape == image.shape[1:] and a.dtype == torch.int32 and int(a.max()) < len(WORDS)
        assert (a == b).float().mean() > 0.999
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in many.modules())
    facts = many.describe()
    assert "CLIP" in facts["supervision"] and ("DINO" in facts["supervision"] or method == "sam_clip")


@pytest.mark.parametrize("method", [*METHODS, "sclip"])
def test_a_model_goes_with_its_last_user(method):
    """No part holds what holds it: models of half a GB would pile up until Python looks for cycles."""
    gc.collect()
    gc.disable()
    try:
        model = build(method)
        predict(model, photos()[:1])
        gone = weakref.ref(model), weakref.ref(model.backbone)
        del model
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


def test_missing_original_and_wrong_regions_are_said():
    model, image = build("corrclip"), photos()[0]
    with pytest.raises(ValueError, match="PackInputs"):
        model.prepare(image, (100, 150))
    with pytest.raises(ValueError, match="region map of"):
        model.prepare(image, (100, 150), image, torch.zeros(3, 3, dtype=torch.int32))


def test_voting_gives_one_label_per_region():
    model, image = build("corrclip"), photos()[0]
    ids = torch.arange(6).repeat_interleave(25).expand(100, 150).int() + 1
    labels = model.predict([model.prepare(image, (100, 150), image, ids)])[0]
    for i in range(2, 7):  # the smallest id is left alone
        assert len(labels[ids == i].unique()) == 1


def test_splice_is_the_average_of_overlapping_windows():
    layout = SlidingWindows(64, 32).layout(96, 128, 16)
    whole = torch.randn(5, 6, 8)
    parts = torch.stack(
        [whole[:, y // 16 : y // 16 + 4, x // 16 : x // 16 + 4] for y in layout.starts[0] for x in layout.starts[1]]
    )
    torch.testing.assert_close(splice(parts, layout, 16), whole)
    with pytest.raises(ValueError, match="do not lie on patches"):
        splice(parts, SlidingWindows(64, 30).layout(100, 128, 16), 16)


def test_images_are_fitted_to_the_patches():
    windows = SlidingWindows(96, 64, fit_multiple=16)
    assert windows.fit(torch.zeros(3, 448, 672)).shape == (3, 448, 672)
    assert windows.fit(torch.zeros(3, 450, 600)).shape == (3, 464, 608)
    assert windows.fit(torch.zeros(3, 30, 100)).shape == (3, 96, 112)


def test_sam_refinement_follows_the_masks(monkeypatch):
    model, image = build("trident"), photos()[0]
    photo = model.prepare(image, (100, 150), image)
    tile = photo.encoding.tiles[0]
    with torch.no_grad():
        model.label_refiners, refiner = [], model.label_refiners[0]
        labels = model.predict([photo])[0]
        evidence = model.evidence(model.score([photo])[0])
        maps = dict(refiner.refined_maps(labels, evidence, tile))
    probability = evidence.probabilities()
    for index, refined in maps.items():
        assert (refined <= probability[index] + 1e-6).all()
    best = torch.stack([maps.get(i, torch.zeros(100, 150)) for i in range(len(WORDS))])
    want = torch.where(best.amax(0) > 0, best.argmax(0).int(), labels)
    assert torch.equal(refiner(labels, photo, evidence), want)
    strict = SamPromptRefiner(coarse_threshold=0.1, iou_threshold=1.0, min_area=4)
    monkeypatch.setattr(
        "ovseg.backbones.sam.SamTile.predict",
        lambda *a, **k: (torch.zeros(len(a[1]), 1, 32, 32), torch.zeros(len(a[1]), 1)),
    )
    assert torch.equal(strict(labels, photo, evidence), labels)  # no mask passes: nothing changes


def test_evidence_resizes_before_it_takes_the_maximum():
    model, image = build("trident"), photos()[0]
    with torch.no_grad():
        evidence = model.evidence(model.score([model.prepare(image, (100, 150), image)])[0])
    full = evidence.probabilities()[:, 10:91, 5:140]
    want = F.interpolate(full[None], size=(40, 67), mode="bilinear", align_corners=False)[0].amax(0)
    torch.testing.assert_close(evidence.best_at((40, 67), slice(10, 91), slice(5, 140)), want)
    torch.testing.assert_close(evidence.of_classes([2, 0], slice(10, 91), slice(5, 140)), full[[2, 0]])


def test_mask_prompt_is_padded_and_cut():
    prompt = mask_prompt(torch.full((50, 100), 0.5), (100, 200), 0.2, 0.005)
    assert prompt.shape == (1, 256, 256) and prompt[0, :128].unique().tolist() == pytest.approx([0.0025])
    empty = mask_prompt(torch.full((50, 100), 0.1), (100, 200), 0.2, 0.005)
    assert not prompt[0, 128:].any() and not empty.any()


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((375, 500), (192, 256)),  # METHODS section 6; from the half-size map it would be 191
        ((500, 375), (256, 192)),
        ((333, 500), (170, 256)),
        ((427, 640), (171, 256)),
        ((500, 333), (256, 170)),
        ((101, 255), (101, 256)),
        ((400, 600), (171, 256)),
        ((3, 900), (1, 256)),
    ],
)
def test_mask_prompt_fits_the_photo_not_its_half_size_map(size, fitted):
    half = torch.ones(size[0] // 2, size[1] // 2)
    prompt = mask_prompt(half, size, 0.2, 0.005)[0]
    assert (int(prompt.any(1).sum()), int(prompt.any(0).sum())) == fitted


def test_prompts_of_an_odd_photo_are_as_large_as_the_photo(monkeypatch):
    """The refiner itself, at sizes whose halves give another number of rows (75 x 102: 24 of 32, its half 23)."""
    model, seen = build("trident"), []
    predict_prompts = SamTile.predict

    def watch(self, points=None, labels=None, boxes=None, masks=None, multimask=False):
        seen.append((self.size, masks))
        return predict_prompts(self, points, labels, boxes, masks, multimask)

    monkeypatch.setattr(SamTile, "predict", watch)
    model.label_refiners[0].coarse_threshold = 0.0
    sizes = [(75, 102), (69, 98), (80, 101), (96, 83)]
    for h, w in sizes:
        image = photos()[0][:, :h, :w]
        predict(model, [image])
    assert {size for size, _ in seen} == set(sizes)
    for size, masks in seen:
        side = masks.shape[-1]
        want = ResizeLongestSide.get_preprocess_shape(*size, side)
        assert (int(masks[0].any(1).sum()), int(masks[0].any(0).sum())) == want


ENCODERS = ["RegionCrop", "MaskedCrop", "BlurReverse", "RedCircle", "MaskPooling", "FovealAttention"]


@pytest.mark.parametrize("name", ENCODERS)
def test_region_encoders_give_unit_embeddings_that_depend_on_the_mask(name):
    model, image = build("sam_clip"), photos()[0]
    photo, encoder = model.prepare(image, (100, 150), image), model.encoder
    masks = np.zeros((3, 100, 150), bool)
    masks[0, :50, :60], masks[1, 50:, 100:], masks[2, 20:30, 20:30] = True, True, True
    with torch.no_grad():
        out = REGION_ENCODERS.build(dict(type=name))(photo, masks, encoder)
        assert out.shape == (3, 32)
        torch.testing.assert_close(out.norm(dim=-1), torch.ones(3))
        assert (out[0] - out[1]).norm() > 1e-4
        if name != "MaskPooling":
            torch.testing.assert_close(
                REGION_ENCODERS.build(dict(type=name, batch=1))(photo, masks, model.encoder), out
            )


def test_masks_that_vanish_at_the_windows_size_are_pooled_all_the_same():
    model, image = build("sam_clip"), torch.nn.functional.interpolate(photos()[0][None].float(), (500, 750))[0].byte()
    photo = model.prepare(photos()[0], (500, 750), image)  # the windows see 100 x 150
    masks = np.zeros((2, 500, 750), bool)
    masks[0, 121:124, 361:364], masks[1, 120:125, 360:365] = True, True
    with torch.no_grad():
        out = REGION_ENCODERS.build(dict(type="MaskPooling"))(photo, masks, model.encoder)
    torch.testing.assert_close(out[0], out[1])


def test_the_smallest_id_of_a_given_map_is_no_region():
    model, image = build("sam_clip"), photos()[1]
    model.min_area = 1
    for nothing in (-1, 0, 1):
        ids = torch.full((96, 96), nothing)
        ids[:20, :20], ids[50:, 50:] = nothing + 1, nothing + 7
        masks = model.masks_of(model.prepare(image, (96, 96), image, regions=ids))
        assert [int(m.sum()) for m in masks] == [400, 46 * 46]


def test_foveal_attention_without_weight_is_clip_itself():
    model, image = build("sam_clip"), photos()[1]
    photo, mask = model.prepare(image, (96, 96), image), np.ones((1, 96, 96), bool)
    with torch.no_grad():
        foveal = REGION_ENCODERS.build(dict(type="FovealAttention", alpha=0.0))(photo, mask, model.encoder)
        crop = REGION_ENCODERS.build(dict(type="RegionCrop"))(photo, mask, model.encoder)
    torch.testing.assert_close(foveal, crop, atol=1e-5, rtol=1e-4)


def test_alpha_channel_reads_alpha_clips_filter(tmp_path):
    model, image = build("sam_clip"), photos()[1]
    photo, mask, encoder = model.prepare(image, (96, 96), image), np.ones((1, 96, 96), bool), model.encoder
    torch.save({"visual.conv1_alpha.weight": torch.zeros(64, 1, 16, 16)}, tmp_path / "zero.pt")
    torch.save({"visual.conv1_alpha.weight": torch.randn(64, 1, 16, 16)}, tmp_path / "some.pt")
    with torch.no_grad():
        crop = REGION_ENCODERS.build(dict(type="RegionCrop"))(photo, mask, encoder)
        zero = REGION_ENCODERS.build(dict(type="AlphaChannel", checkpoint=tmp_path / "zero.pt"))(
            photo, mask, model.encoder
        )
        some = REGION_ENCODERS.build(dict(type="AlphaChannel", checkpoint=tmp_path / "some.pt"))(
            photo, mask, model.encoder
        )
    torch.testing.assert_close(zero, crop, atol=1e-5, rtol=1e-4)
    assert (some - crop).norm() > 1e-3
    torch.save({"visual.proj": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a checkpoint of Alpha-CLIP"):
        REGION_ENCODERS.build(dict(type="AlphaChannel", checkpoint=tmp_path / "other.pt"))


def test_the_surest_mask_wins_where_masks_overlap(monkeypatch):
    model, image = build("sam_clip", uncovered="background"), photos()[1]
    model.head.background = 0
    small, large = np.zeros((96, 96), bool), np.zeros((96, 96), bool)
    small[:10, :10], large[:50, :50] = True, True
    monkeypatch.setattr(model, "masks_of", lambda photo: np.stack([small, large]))
    table = torch.tensor([[0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6]])
    monkeypatch.setattr(model, "classify_regions", lambda embeddings, wording: table)
    labels = predict(model, [image])[0].numpy()
    assert (labels[small] == 1).all() and (labels[large & ~small] == 3).all() and (labels[~large] == 0).all()
