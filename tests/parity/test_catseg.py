"""CAT-Seg against its official code: inference with both sizes, more words than enter the head, one training step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from ovseg.datasets.transforms import ResizeShortestEdge
from tests.parity.trained import (
    TrainedGolden,
    build,
    figure,
    labels_of,
    outputs_of,
    photo_of,
    shared_module,
    standin_checkpoint,
    trained_goldens,
)

LOSS_BAR = 1e-4
"""Largest relative difference of a loss."""
GRADIENT_BAR = 0.01
"""Largest relative difference of a gradient's norm, and of an entry as a share of the gradient's range."""
ROUNDING = 1e-9
"""Share of the norm of all gradients below which one is nothing but rounding."""


@dataclass(frozen=True)
class Case:
    """A golden's counterpart in ovseg.

    Attributes:
        config: relative to ``configs/``.
        arch: of the stand-in weights.
        whole: without windows, and with the golden's words in place of the config's.
    """

    config: str
    arch: str
    whole: bool = False


CASES = {
    "catseg_b16": Case("catseg/catseg_vitb16_voc20.py", "b16"),
    "catseg_b16_264words": Case("catseg/catseg_vitb16_voc20.py", "b16", whole=True),
    "catseg_l14_336": Case("catseg/catseg_vitl14-336_voc20.py", "l14_336"),
}


def checkpoint(arch: str) -> Path:
    return standin_checkpoint(f"catseg_{arch}", lambda: shared_module("pseudo_weights_trained_a").catseg(arch))


def _golden_words(golden: TrainedGolden, config) -> None:
    config.model.framing = dict(type="WholePhoto", pad_multiple=32, side=384, cut_padding=False)
    config.model.vocabulary = dict(names=golden.meta["vocabulary"])


@lru_cache(maxsize=1)
@torch.no_grad()
def measured(golden: TrainedGolden) -> dict[str, np.ndarray]:
    """Everything that some golden holds, from one pass, at the full shape."""
    case = CASES[golden.name]
    model, config = build(case.config, checkpoint(case.arch), partial(_golden_words, golden) if case.whole else None)
    assert list(model.vocabulary.queries) == golden.meta["vocabulary"]
    decoder, text = model.decoder, model.wording().queries.text
    decoder.values = 1 << 40  # each layer sees all words at once: one output for each image
    contexts, encode = [], decoder.encode

    def keep_context(context):
        contexts.append(context)
        return encode(context)

    decoder.encode = keep_context
    modules = {
        "attention": decoder.attention,
        "text_guidance": decoder.text_guidance_projection,
        "corr_embed": decoder.conv1,
        **{name: getattr(decoder, name) for name in ("upsample1", "upsample2", "decoder1", "decoder2")},
    }
    for i, layer in enumerate(decoder.layers):
        spatial = layer.swin_block
        modules |= {f"l{i}_swin_block1": spatial.block_1, f"l{i}_swin": spatial, f"l{i}_class": layer}
    with outputs_of(modules) as kept:
        photo = photo_of(model, config, golden)
        (encoded,) = model.encode([photo])
        prediction = decoder(encoded.features, text)
    scores = model.framing.merge(prediction, tuple(photo.image.shape[1:]), photo.size)
    (context,), tower = contexts, model.backbone.tower
    first, second = decoder.needs_inputs_of(len(tower.blocks))
    cost = torch.einsum("bdhw,td->bthw", encoded.features["dense"], text)
    images = len(cost)
    found = {
        "text": text,
        "clip_block_a": context.inputs[first],
        "clip_block_b": context.inputs[second],
        "clip_dense": tower.project(tower.post_norm(kept["attention"][0].tokens)),
        "cost": cost,
        "guidance": encoded.features["image"].permute(0, 3, 1, 2),
        "text_guidance": kept["text_guidance"][0].expand(images, -1, -1),
        "corr_embed": torch.stack(kept["corr_embed"]),
        "logits": prediction.maps,
        "upsample1": kept["upsample1"][0],
        "upsample2": kept["upsample2"][0],
        "decoder1": torch.stack(kept["decoder1"]),
        "decoder2": torch.stack(kept["decoder2"]),
        "sem_seg": scores.block(),
        "argmax": model.label(scores, photo),
    }
    for name in [name for name in kept if name.startswith("l")]:
        found[name] = torch.cat(kept[name]).permute(0, 1, 4, 2, 3)
    if case.whole:
        found |= {"cost": cost[0], "cost_max": cost[0].amax((1, 2))}
        found["kept"] = (prediction.maps[0] > -100).any(2).any(1)
    return {name: tensor.numpy() for name, tensor in found.items()}


def _checks() -> list:
    return [
        pytest.param(golden, key, id=f"{golden}-{key}", marks=[pytest.mark.slow] if case.arch != "b16" else [])
        for name, case in CASES.items()
        for golden in trained_goldens(name)
        for key in [*golden.arrays]
    ]


@pytest.mark.parametrize(("golden", "key"), _checks())
def test_fp32_equals_the_official_code(golden: TrainedGolden, key: str) -> None:
    if not golden.photo.is_file():
        pytest.skip(f"the golden's photo {golden.photo} is missing")
    ours = measured(golden)[key]
    recorded = golden.arrays[key]
    if key == "argmax":
        recorded, ours = labels_of(golden), ours % 256  # what a PNG of 8 bits holds
    else:
        ours = golden.sampled(key, ours)
    found = figure(key, recorded, ours)
    print(found)
    assert found.passed, f"{golden}: {found}"


# --------------------------------------------------------------------------------------------------- a training step
def _to_train(config) -> None:
    model = config.model
    model.backbone.split_projections = True
    model.training_framing = dict(type="WholePhoto", pad_multiple=32, side=384, cut_padding=False)
    model.loss = dict(type="BinaryMapLoss")
    model.trained = ["decoder.*", "backbone.clip.*.attn.[qv]_proj_weight"]


def _crop(golden: TrainedGolden) -> tuple[Tensor, SegDataSample]:
    """The golden's input: short side 384, the middle of the longer side; its target is a formula in meta.json."""
    image = cv2.cvtColor(cv2.imread(str(golden.photo)), cv2.COLOR_BGR2RGB)
    resized = ResizeShortestEdge(384).transform(dict(image=image))["image"]
    top, left = ((side - 384) // 2 for side in resized.shape[:2])
    crop = torch.from_numpy(resized[top : top + 384, left : left + 384].copy()).permute(2, 0, 1)
    y, x = torch.arange(384)[:, None], torch.arange(384)
    target = ((y // 48) * 8 + x // 48) * 7 % 23
    sample = SegDataSample()
    sample.gt_sem_seg = PixelData(data=target.masked_fill(target >= 20, 255)[None].int())
    return crop, sample


def official_name(name: str) -> str:
    """A parameter's name in the official checkpoint."""
    if name.startswith("backbone.clip."):
        return "sem_seg_head.predictor.clip_model." + name.removeprefix("backbone.clip.")
    name = name.removeprefix("decoder.")
    return name if name.startswith("upsample") else "sem_seg_head.predictor.transformer." + name


@pytest.mark.slow
@pytest.mark.parametrize("golden", trained_goldens("catseg_b16_train"), ids=str)
def test_a_training_step_equals_the_official_codes(golden: TrainedGolden) -> None:
    model, _ = build("catseg/catseg_vitb16_voc20.py", checkpoint("b16"), _to_train)
    model.train()
    assert list(model.vocabulary.queries) == golden.meta["vocabulary"]
    trained = {official_name(name): p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == golden.meta["n_trainable"]
    assert sum(p.numel() for p in model.parameters()) == golden.meta["n_total"]
    crop, sample = _crop(golden)
    with outputs_of({f"layer{i}": layer for i, layer in enumerate(model.decoder.layers)}) as kept:
        losses = model([crop], [sample], mode="loss")
    loss = float(losses["loss_maps"].detach())
    print(f"loss {loss} (official {golden.meta['loss']})")
    assert abs(loss / golden.meta["loss"] - 1) < LOSS_BAR
    for name, (output,) in kept.items():
        ours = golden.sampled(name, output.detach().permute(0, 1, 4, 2, 3).numpy())
        found = figure(name, golden.arrays[name], ours)
        print(found)
        assert found.passed, str(found)
    losses["loss_maps"].backward()
    worst, compared = 0.0, 0
    for name, norm in golden.meta["grad_norms"].items():
        gradient = trained[name].grad
        ours = 0.0 if gradient is None else float(gradient.norm())
        if norm < ROUNDING * golden.meta["grad_norm_total"]:
            # zero but for rounding: a bias of softmax attention's keys shifts all logits alike
            assert ours < ROUNDING * golden.meta["grad_norm_total"], f"{name}: gradient of norm {ours}, theirs {norm}"
            continue
        worst, compared = max(worst, abs(ours / norm - 1)), compared + 1
        assert abs(ours / norm - 1) < GRADIENT_BAR, f"{name}: gradient of norm {ours}, the official code's {norm}"
    print(f"{compared} gradient norms, the worst {worst:.1e} off")
    # the last image block's queries are never used, and there are four softmax attentions
    assert compared == len(trained) - 5
    for key in [key for key in golden.arrays if key.startswith("grad:")]:
        gradient = trained[key.removeprefix("grad:")].grad
        found = figure(key, golden.arrays[key], golden.sampled(key, gradient.flatten().numpy()))
        print(found)
        assert found.value < GRADIENT_BAR, str(found)
