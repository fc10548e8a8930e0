"""Weights and scores that are NaN or infinite: a named error, never labels of class 0."""

import numpy as np
import pytest
import torch

from ovseg.apis import Segmenter, method_config
from ovseg.errors import NotFinite
from ovseg.float32 import all_finite

PHOTO = np.random.default_rng(0).integers(0, 256, (96, 120, 3), dtype=np.uint8)
WORDS = ["background", "cat", "grass", "sky"]


@pytest.mark.parametrize(
    ("values", "finite"),
    [([1.0, -2.0], True), ([], True), ([1.0, np.nan], False), ([-np.inf], False), ([np.inf, -np.inf], False)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_all_finite(values, finite, dtype):
    assert all_finite(torch.tensor(values, dtype=dtype)) is finite


def test_a_sum_that_overflows_is_no_damage():
    assert all_finite(torch.full((4,), 3e38)) and all_finite(torch.arange(5))


# Their score maps are of every kind: of windows, refined, of a splice, of the photo, resized, with regions.
METHODS = {
    "naclip": {},
    "sclip": {"refiners": [dict(type="PAMR", iterations=1, dilations=[1])]},
    "trident": {},
    "cliptrase": {},
    "maskclip": {},
}


def build(method, threshold=0.0, **parts):
    config = method_config(method, "nano")
    config.model.update(parts)
    if threshold:
        config.model.head.threshold = threshold
    model = Segmenter(config=config, short_side=64, precision="fp32")
    model.set_vocabulary(WORDS, background="background" if threshold else None)
    return model


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_no_numbers_are_named(method, value):
    model = build(method, **METHODS[method])
    assert model.segment(PHOTO).labels.shape == (96, 120)
    inside = ((n, w) for n, w in model.model.backbone.named_parameters() if "blocks.0" in n and w.ndim == 2)
    name, weight = next(inside)
    with torch.no_grad():
        weight[0, 0] = value
    with pytest.raises(NotFinite, match=rf"photo of 120 x 96 pixels hold NaN.* in backbone\.{name}"):
        model.segment(PHOTO)


@pytest.mark.parametrize("threshold", [0.0, 0.4])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_cell_is_enough(value, threshold, monkeypatch):
    model = build("naclip", threshold)
    score = model.model.stitch.score

    def one_of_them(*arguments):
        scores = score(*arguments).clone()
        scores[-1, 1, 0, 0] = value
        return scores

    monkeypatch.setattr(model.model.stitch, "score", one_of_them)
    for wanted in ({}, {"top": 2}, {"confidence": True}):
        with pytest.raises(NotFinite, match="weights and words hold none: try precision='fp32'"):
            model.segment(PHOTO, **wanted)


def test_words_that_are_no_numbers_are_named():
    model = build("naclip")
    model.model.text[1] = np.nan
    with pytest.raises(NotFinite, match="words' embeddings"):
        model.segment(PHOTO)


def test_masks_that_are_no_numbers_are_named(monkeypatch):
    config = method_config("naclip", "nano")
    config.model.update(
        type="SamClipSegmentor",
        region_encoder=dict(type="MaskPooling"),
        regions=dict(type="SlicRegions"),
        uncovered="background",
    )
    model = Segmenter(config=config, short_side=64)
    model.set_vocabulary(WORDS)
    model.segment(PHOTO)
    classify = model.model.classify_regions
    monkeypatch.setattr(model.model, "classify_regions", lambda *given: classify(*given) * np.nan)
    with pytest.raises(NotFinite, match="120 x 96"):
        model.segment(PHOTO)
