"""FC-CLIP and MAFT+ against their official code, from the same checkpoint's keys: every recorded stop on the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models import ConvNeXt, register_model
from timm.models.convnext import _create_convnext

from ovseg.decoders import WholePhoto
from ovseg.decoders.mask_pooling import class_logits, mask_pool
from ovseg.weights.catalogue import WeightCard, catalogue
from tests.parity.measure import RANGE_BAR, Figure
from tests.parity.trained import (
    TrainedGolden,
    build,
    figure,
    labels_of,
    photo_of,
    shared_module,
    standin_checkpoint,
    trained_goldens,
)

pytest.importorskip("transformers", reason="mask transformers need transformers (extra 'trained')")
SAMPLING = re.compile(r"\[[\d:, ]+\]")


@register_model
def convnext_parity(pretrained: bool = False, **options: Any) -> ConvNeXt:
    """The goldens' trunk: convnext_base's widths, few blocks."""
    options = {key: value for key, value in options.items() if not key.startswith("pretrained")}
    return _create_convnext("convnext_base", depths=(1, 1, 2, 1), dims=(128, 256, 512, 1024), **options)


def sampled(golden: TrainedGolden, key: str, array: np.ndarray) -> np.ndarray:
    """``array`` where the golden was recorded: its ``meta.json`` says it in words with numpy's slices in them."""
    said = golden.meta["sampling"] | {"semseg_resized_masks": golden.meta["sampling"]["semseg"]}
    text = said.get(key) or next((said[k] for k in said if key in k.split("_") and "_" in k), "")
    if not (slices := SAMPLING.search(text)) or array.shape == golden.arrays[key].shape:
        return array
    return array[shared_module("compare_trained").parse(slices[0].replace(" ", ""))]


def use_small_convnext(put: Callable[[dict, str, Any], None]) -> None:
    """Cards ``parity/fcclip``, ``parity/maft_plus`` and ``parity/clip`` of a CLIP with the goldens' sizes."""
    config = open_clip.get_model_config("convnext_base_w_320")
    config["vision_cfg"]["timm_model_name"] = "convnext_parity"
    config["text_cfg"].update(width=128, heads=2, layers=2)
    put(open_clip.factory._MODEL_CONFIGS, "convnext_parity", config)
    for layout in ("fcclip", "maft_plus", ""):
        card = WeightCard(
            name=f"parity/{layout or 'clip'}",
            kind="decoder" if layout else "clip",
            family="parity",
            arch="convnext_parity",
            sources=(),
            licence="",
            commercial="ask",
            image_size=320,
            mean=open_clip.OPENAI_DATASET_MEAN,
            std=open_clip.OPENAI_DATASET_STD,
            layout=layout,
        )
        put(catalogue(), card.name, card)


def checkpoint(method: str) -> Path:
    weights = shared_module("pseudo_weights_trained_b")
    return standin_checkpoint(method, lambda: getattr(weights, method)(classes=6))


def names_of(lines: list[str]) -> list[list[str]]:
    """The official files' lines: names of a class with commas between them."""
    return [[name.strip() for name in line.split(",")] for line in lines]


def as_golden(golden: TrainedGolden) -> Callable:
    """Changes a config to the golden's words, its number of masks and its image size."""
    settings = golden.meta["settings"]

    def change(config) -> None:
        model = config.model
        model.backbone.weights = model.decoder.weights = f"parity/{golden.name}"
        model.decoder.queries = 50
        model.vocabulary = dict(names=names_of(settings["test_names"]), allow_duplicates=True)
        if golden.name == "fcclip":
            model.decoder.trained_classes = names_of(settings["train_names"])
            assert model.decoder.alpha == settings["geometric_ensemble_alpha"]
            assert model.decoder.beta == settings["geometric_ensemble_beta"]
        for step in config.test_dataloader.dataset.pipeline:
            if step["type"] == "ResizeShortestEdge":
                step["short_side"] = min(golden.meta["resized"])

    return change


CONFIG = {
    "fcclip": "fcclip/fcclip_convnext-large_voc20.py",
    "maft_plus": "maft_plus/maft_plus_convnext-base_voc20.py",
}


@lru_cache(maxsize=1)
@torch.no_grad()
def measured(golden: TrainedGolden) -> dict[str, np.ndarray]:
    """Everything that the golden holds, from one pass, at the full shape."""
    undo: list[tuple[dict, str]] = []
    use_small_convnext(lambda table, key, value: (undo.append((table, key)), table.__setitem__(key, value)))
    try:
        model, config = build(CONFIG[golden.name], checkpoint(golden.name), as_golden(golden))
    finally:
        for table, key in undo:
            del table[key]
    photo = photo_of(model, config, golden)
    wording = model.wording()
    (encoded,) = model.encode([photo])
    prediction = model.predict_masks(encoded, wording)
    decoder, backbone = model.decoder, model.backbone
    frames = model.framing.frames(photo.image[None])
    maps = backbone(frames)
    proposals, multi_scale = decoder.proposals(maps)
    text = torch.cat([wording.queries.text, F.normalize(decoder.void_embedding.weight, dim=-1)])
    words = wording.vocabulary
    pooled = backbone.tower.project(mask_pool(maps[-1], proposals[-1].masks))
    found = {f"res{i + 2}": stage[0] for i, stage in enumerate(maps)}
    found |= {f"ms{i}": stage[0] for i, stage in enumerate(multi_scale)}
    scores = model.score_map(encoded, wording)
    found |= {
        "query": text,
        "mask_features": proposals[-1].features[0],
        "pred_masks": encoded.features["masks"][0],
        "first_masks": proposals[0].masks[0],
        "first_logits": decoder.inside_logits(decoder.classes(proposals[0]), wording.queries.text, words)[0],
        "in_vocab_logits": prediction.extras["class_logits"][0],
        "clip_pooled": pooled[0],
        "final_log_probs": (prediction.extras["probabilities"][0] + 1e-8).log(),
        "semseg": scores.block(),
        "argmax": model.label(scores, photo, wording),
    }
    outside, index = encoded.features["outside"], F.pad(words.query_to_class, (0, 1), value=len(words))
    if golden.name == "maft_plus":
        found["img_feat"] = encoded.features["dense"][0]
        text = decoder.transfer(text, encoded.features["dense"])[0]
        found["cdt"] = text
    found["out_vocab_logits"] = class_logits(outside[0], text, index, len(words) + 1)
    framing = WholePhoto(pad_multiple=32, activate_at="photo")
    found["semseg_resized_masks"] = framing.merge(prediction, tuple(photo.image.shape[1:]), photo.size).block()
    return {name: tensor.numpy() for name, tensor in found.items()}


def _checks() -> list:
    return [
        pytest.param(golden, key, id=f"{golden}-{key}")
        for name in CONFIG
        for golden in trained_goldens(name)
        for key in ["query", *golden.arrays]
    ]


POOLED = {  # rows of masks whose features were pooled where the mask is positive: which masks, on which grid
    "in_vocab_logits": ("pred_masks", "mask_features"),
    "first_logits": ("first_masks", "mask_features"),
    "clip_pooled": ("pred_masks", "res5"),
    "out_vocab_logits": ("pred_masks", "res5"),
    "final_log_probs": ("pred_masks", "res5"),
}
NEAR = 1e-5
"""A mask's logit within this share of their range may be on either side of zero in another computation."""
FORGIVEN = 0.1
"""Share of the masks that may be off for that reason."""


def but_for_pixels_at_the_cut(key: str, recorded: np.ndarray, ours: np.ndarray, arrays: dict) -> Figure:
    """The figure without masks of which a pixel lies so near to zero that rounding decides whether it is pooled."""
    masks, grid = (torch.from_numpy(arrays[name]) for name in POOLED[key])
    margin = NEAR * float(masks.max() - masks.min())
    pooled = F.interpolate(masks[None], size=grid.shape[-2:], mode="bilinear", align_corners=False)[0]
    undecided = ((masks.abs() < margin).flatten(1).any(1) | (pooled.abs() < margin).flatten(1).any(1)).numpy()
    off = np.abs(recorded - ours).max(1) > RANGE_BAR * np.ptp(recorded)
    if (off & ~undecided).any() or off.mean() > FORGIVEN:
        return figure(key, recorded, ours)
    return figure(key, recorded[~off], ours[~off])


@pytest.mark.parametrize(("golden", "key"), _checks())
def test_fp32_equals_the_official_code(golden: TrainedGolden, key: str) -> None:
    if not golden.photo.is_file():
        pytest.skip(f"the golden's photo {golden.photo} is missing")
    ours = measured(golden)[key]
    if key == "query":
        found = figure("text", golden.text["query"], ours)
    elif key == "argmax":
        found = figure(key, labels_of(golden), ours)
    else:
        recorded, ours = golden.arrays[key], sampled(golden, key, ours)
        found = figure(key, recorded, ours)
        if key in POOLED and not found.passed:
            print(f"{golden} {found}")
            found = but_for_pixels_at_the_cut(key, recorded, ours, measured(golden))
    print(f"{golden} {found}")
    assert found.passed, f"{golden}: {found}"


def test_timm_knows_the_small_trunk():
    assert timm.create_model("convnext_parity").num_features == 1024


def test_a_wrong_mask_is_not_forgiven():
    rng = np.random.default_rng(0)
    recorded = rng.normal(size=(20, 5))
    masks = rng.choice([-1.0, 1.0], size=(20, 8, 8)).astype(np.float32)
    arrays = {"pred_masks": masks, "mask_features": np.zeros((4, 8, 8), np.float32)}
    wrong = recorded.copy()
    wrong[3] += 0.1
    assert not but_for_pixels_at_the_cut("in_vocab_logits", recorded, wrong, arrays).passed
    masks[3, 2, 2] = 1e-7
    assert but_for_pixels_at_the_cut("in_vocab_logits", recorded, wrong, arrays).passed
    masks[:] = 1e-7
    assert not but_for_pixels_at_the_cut(
        "in_vocab_logits", recorded, recorded + 0.1 * rng.normal(size=(20, 5)), arrays
    ).passed
