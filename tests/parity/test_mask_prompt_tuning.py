"""OVSeg's mask prompt tuning and its mask-adapted CLIP against the official code: one training step."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from PIL import Image
from torchvision.transforms import functional as vision

from ovseg.datasets.nouns import FILL, masked_crop
from ovseg.registry import MODELS
from ovseg.weights.catalogue import catalogue
from tests.parity.test_ovseg import CARD, checkpoint
from tests.parity.trained import TrainedGolden, figure, shared_module, trained_goldens

LOSS_BAR = 1e-4
"""Largest relative difference of a loss."""
GRADIENT_BAR = 0.01
"""Largest relative difference of a gradient's norm."""
GOLDENS = trained_goldens("ovseg_mask_prompt_tuning")
PROMPTS = ("mask_embedding", "backbone.clip.logit_scale")


def crops(golden: TrainedGolden) -> torch.Tensor:
    """The golden's inputs, made as its ``meta.json`` says: uint8 ``[5, 3, 224, 224]``."""
    photo = np.array(Image.open(golden.photo).convert("RGB"))
    masks = shared_module("pseudo_weights_trained_b").proposals(*photo.shape[:2], 14)[golden.meta["proposals"]] > 0
    found = []
    for mask, (x0, y0, x1, y1) in zip(masks.numpy(), golden.meta["boxes_xyxy"], strict=True):
        filled = Image.fromarray(masked_crop(photo, mask))
        assert filled.size == (x1 - x0, y1 - y0)
        resized = vision.resize(filled, 224, vision.InterpolationMode.BICUBIC)
        found.append(torch.from_numpy(np.array(vision.center_crop(resized, 224))).permute(2, 0, 1))
    return torch.stack(found)


def trainer(**settings: Any) -> torch.nn.Module:
    init_default_scope("ovseg")
    catalogue()[CARD.name] = CARD
    try:
        backbone = dict(type="ClipBackbone", weights=CARD.name, checkpoint=str(checkpoint()), precision="fp32")
        model = MODELS.build(dict(type="MaskAdaptationTrainer", backbone=backbone, **settings)).train()
    finally:
        del catalogue()[CARD.name]
    weights = shared_module("pseudo_weights_trained_b").ovseg_clip()
    with torch.no_grad():
        model.mask_embedding.copy_(weights["visual.mask_embedding"][: len(model.mask_embedding)])
    return model


def _close(ours: float, official: float, bar: float, what: str) -> None:
    print(f"{what} {ours:.8g} (official {official:.8g})")
    assert abs(ours / official - 1) < bar, f"{what}: {ours}, the official code's {official}"


@lru_cache(maxsize=1)
def step(golden: TrainedGolden) -> tuple[torch.nn.Module, dict]:
    model = trainer(trained=PROMPTS)
    losses = model(list(crops(golden)), golden.meta["captions"])
    losses["loss_contrastive"].backward()
    return model, losses


@pytest.mark.slow
@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_a_step_of_mask_prompt_tuning(golden: TrainedGolden) -> None:
    images, arrays, wanted = crops(golden), golden.arrays, golden.meta["mpt"]
    model, losses = step(golden)
    outside = (images == torch.tensor(FILL).view(1, 3, 1, 1)).all(1)
    assert (np.packbits(~outside.numpy()) == arrays["masks"]).all(), "the masks that are read off the pictures"
    tokens = model.backbone.tokenizer(golden.meta["captions"])
    assert (tokens.numpy() == arrays["tokens"]).all()
    with torch.no_grad():
        found = {
            "images": torch.stack([model.backbone.normalise(image) for image in images])[:, :, 8::16, 8::16],
            "image_features": torch.nn.functional.normalize(model.encode_crops(images), dim=-1),
            "text_features": model.encode_captions(golden.meta["captions"]),
            "grad_mask_embedding": model.mask_embedding.grad[:, ::14, ::12],
        }
    for key, ours in found.items():
        result = figure(key, arrays[key], ours.numpy())
        print(result)
        assert result.passed, str(result)
    _close(float(losses["loss_contrastive"].detach()), wanted["loss"], LOSS_BAR, "loss")
    for depth, norm in enumerate(wanted["grad_norm_per_depth"]):
        _close(float(model.mask_embedding.grad[depth].norm()), norm, GRADIENT_BAR, f"gradient at depth {depth}")
    scale = float(model.backbone.clip.logit_scale.grad.norm())
    _close(scale, wanted["grad_norms"]["logit_scale"], GRADIENT_BAR, "gradient of logit_scale")
    trained = sorted(name for name, p in model.named_parameters() if p.requires_grad)
    assert trained == ["backbone.clip.logit_scale", "mask_embedding"]


@pytest.mark.slow
@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_the_optimisers_step(golden: TrainedGolden) -> None:
    wanted, model = golden.meta["mpt"]["step1"], trainer(trained=PROMPTS)
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], wanted["lr"], (0.9, 0.98), 1e-6, weight_decay=0.0
    )
    batch = dict(inputs=list(crops(golden)), captions=golden.meta["captions"])
    before = model.mask_embedding.detach().clone()
    model.train_step(batch, OptimWrapper(optimiser))
    update = (model.mask_embedding.detach() - before).norm()
    _close(float(update), wanted["update_norm"], GRADIENT_BAR, "size of the update")
    _close(float(model.backbone.clip.logit_scale), wanted["logit_scale"][1], LOSS_BAR, "logit_scale")
    with torch.no_grad():
        after = model(batch["inputs"], batch["captions"])["loss_contrastive"]
    _close(float(after), wanted["loss_after"], GRADIENT_BAR, "loss after the step")


@pytest.mark.slow
@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_a_step_of_the_mask_adapted_tower(golden: TrainedGolden) -> None:
    wanted = golden.meta["finetune"]
    model = trainer(trained=("backbone.clip.visual.*", "backbone.clip.logit_scale"), prompt_depth=0)
    loss = model(list(crops(golden)), golden.meta["captions"])["loss_contrastive"]
    loss.backward()
    _close(float(loss.detach()), wanted["loss"], LOSS_BAR, "loss")
    gradients = {n.removeprefix("backbone.clip."): p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == wanted["n_trainable_with_grad"]
    for name, norm in wanted["grad_norms"].items():
        ours = float(gradients[name].norm())
        assert abs(ours / norm - 1) < GRADIENT_BAR, f"gradient of {name}: {ours}, the official code's {norm}"
    total = sum(float(g.double().pow(2).sum()) for g in gradients.values()) ** 0.5
    _close(total, wanted["grad_norm_total"], GRADIENT_BAR, "all gradients")
