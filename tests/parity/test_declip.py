"""One training step of DeCLIP against its official code: losses, dense features, gradients."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from open_clip.model import CustomTextCLIP
from PIL import Image

from ovseg.datasets.augment import BoxCrops, box_grid
from ovseg.registry import MODELS
from ovseg.segmentors import declip_training
from ovseg.weights.convert import eva_clip
from tests.parity.trained import TrainedGolden, figure, shared_module, standin_checkpoint, trained_goldens

LOSS_BAR, GRADIENT_BAR = 1e-4, 0.01
GOLDENS = trained_goldens("declip_eva_b16_train")
LAST = "clip.visual.trunk.blocks.11."
TRAINED = [
    "clip.visual.trunk.blocks.[0-9].*",
    "clip.visual.trunk.blocks.10.*",
    *(LAST + part for part in ("norm1.*", "attn.[qv]_proj.*", "attn.norm.*", "attn.proj.*")),
]


def _eva() -> Path:
    """EVA-CLIP's own layout: the stand-in's image tower, and a text tower that nothing looks at."""

    def weights():
        torch.manual_seed(0)
        config = open_clip.get_model_config("EVA02-B-16")
        config.pop("custom_text")
        text = {k: v for k, v in CustomTextCLIP(**config).state_dict().items() if not k.startswith("visual.")}
        return {**shared_module("pseudo_weights_trained_a").eva02_visual_b16(), **text}

    return standin_checkpoint("eva02_b16", weights)


def _dino() -> Path:
    """A foundation model that the golden replaces by given features."""
    return standin_checkpoint(
        "dino_random", lambda: timm.create_model("vit_small_patch16_224.dino", num_classes=0).state_dict()
    )


def _official_name(name: str) -> str:
    back = {ours: theirs for theirs, ours in _names().items()}
    return back[name.removeprefix("clip.")].removeprefix("visual.")


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """Keys of the official code to ours."""
    keys = shared_module("pseudo_weights_trained_a").eva02_visual_b16()
    return {key: next(iter(eva_clip({key: torch.zeros(1)}))) for key in keys}


@pytest.fixture(scope="module")
def trainer():
    init_default_scope("ovseg")
    return MODELS.build(
        dict(
            type="DeclipTrainer",
            student=dict(
                type="OpenVocabSegmentor",
                backbone=dict(type="ClipBackbone", weights="merged2b_s8b_b131k/EVA02-B-16", checkpoint=str(_eva())),
                attention=dict(type="DeclipAttention", scaled=False),
                text_cache=False,
            ),
            foundation=dict(type="DinoBackbone", weights="dino/vits16", checkpoint=str(_dino())),
            unit_content=False,
            trained=TRAINED,
        )
    ).train()


@pytest.mark.slow
@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_a_training_step_equals_the_official_codes(golden: TrainedGolden, trainer, monkeypatch) -> None:
    if not golden.photo.is_file():
        pytest.skip(f"the golden's photo {golden.photo} is missing")
    trained = {_official_name(name): p for name, p in trainer.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == golden.meta["n_trainable"]
    photo = np.asarray(Image.open(golden.photo).convert("RGB"))
    found = BoxCrops(size=336, crop=224).cut(dict(image=photo), box_grid(*golden.meta["grid_boxes"]))
    official = np.array([box[:4] for box in golden.meta["boxes"] if box[4]])
    np.testing.assert_allclose(found["boxes"], official, atol=1e-6)
    features = shared_module("pseudo_weights_trained_a").vfm_features(21, 21)
    monkeypatch.setattr(
        trainer, "foundation_features", lambda windows, grid: F.normalize(features.flatten(2).transpose(1, 2), dim=-1)
    )
    kept = {}
    _keep(monkeypatch, declip_training, "box_features", lambda dense, roi: kept.update(dense=dense, roi=roi))
    _keep(monkeypatch, declip_training, "content_loss", lambda roi, teacher, loss: kept.update(teacher=teacher))
    _keep(monkeypatch, declip_training, "context_loss", lambda queries, target, loss: kept.update(queries=queries))
    losses = trainer(
        [torch.from_numpy(found["image"]).permute(2, 0, 1)],
        mode="loss",
        boxes=[torch.from_numpy(found["boxes"])],
        crops=[torch.from_numpy(found["crops"])],
    )
    arrays = {
        "dense": kept["dense"],
        "roi": kept["roi"],
        "context_q": kept["queries"][0].unflatten(-1, (12, -1)).transpose(0, 1),
        "teacher_crops": F.normalize(kept["teacher"], dim=-1),
    }
    assert {key for key in golden.arrays if not key.startswith("grad:")} == set(arrays)
    for name, array in arrays.items():
        _compare(golden, name, array)
    for name, recorded in golden.meta["losses"].items():
        ours = float(losses[name].detach())
        shown = f"{name} {ours} (official {recorded})"
        print(shown)
        assert abs(ours / recorded - 1) < LOSS_BAR, shown
    sum(losses.values()).backward()
    assert set(golden.meta["grad_norms"]) == set(trained)
    worst = 0.0
    for name, norm in golden.meta["grad_norms"].items():
        ours = float(trained[name].grad.norm())
        worst = max(worst, abs(ours / norm - 1))
        assert abs(ours / norm - 1) < GRADIENT_BAR, f"{name}: gradient of norm {ours}, the official code's {norm}"
    print(f"{len(trained)} gradient norms, the worst {worst:.1e} off")
    for key in [key for key in golden.arrays if key.startswith("grad:")]:
        _compare(golden, key, trained[key.removeprefix("grad:")].grad.flatten())


def _keep(monkeypatch, module, name: str, note) -> None:
    function = getattr(module, name)

    def keeping(*arguments):
        result = function(*arguments)
        note(*arguments[: note.__code__.co_argcount - 1], result)
        return result

    monkeypatch.setattr(module, name, keeping)


def _compare(golden: TrainedGolden, name: str, array: torch.Tensor) -> None:
    compared = figure(name, golden.arrays[name], golden.sampled(name, array.detach().numpy()))
    print(compared)
    assert compared.passed, f"{golden}: {compared}"
