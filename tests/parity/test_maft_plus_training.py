"""MAFT+'s training branch against its official code: every loss and the norms of the gradients, on one image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ovseg.decoders import MaskDecoder
from ovseg.training import mask_loss
from ovseg.training.mask_aware_loss import MaskAwareLoss
from ovseg.weights.layouts import LAYOUTS
from tests.parity.test_mask_methods import CONFIG, checkpoint, names_of, use_small_convnext
from tests.parity.trained import TrainedGolden, build, photo_of, shared_module, standin_checkpoint
from tests.standins import PARITY

pytest.importorskip("transformers", reason="mask transformers need transformers (extra 'trained')")
LOSS_BAR = 1e-4
"""Largest relative difference of a loss."""
GRADIENT_BAR = 0.01
"""Largest relative difference of a gradient's norm."""
FOLDER = PARITY / "goldens" / "maft_plus_training"
SIDES = {"loss_ce": "loss_class", "ranking_loss": "loss_mask_aware", "rc_loss": "loss_compensation"}


def goldens() -> list[TrainedGolden]:
    files = sorted(FOLDER.glob("meta_*.json"))
    return [TrainedGolden("maft_plus_training", file.stem.removeprefix("meta_")) for file in files]


def our_name(official: str) -> str:
    """``loss_ce_3`` to ``loss_class_3``."""
    for theirs, ours in SIDES.items():
        if official.startswith(theirs):
            return ours + official.removeprefix(theirs)
    return official


def the_model(golden: TrainedGolden, monkeypatch) -> tuple:
    use_small_convnext(monkeypatch.setitem)
    file, prefix = checkpoint("maft_plus"), "backbone_t.clip_model."
    weights = shared_module("pseudo_weights_trained_b").maft_plus
    twin = standin_checkpoint(
        "maft_plus_twin",
        lambda: {k.removeprefix(prefix): v for k, v in weights(classes=6).items() if k.startswith(prefix)},
    )

    def change(config) -> None:
        model, names = config.model, names_of(golden.meta["settings"]["train_names"])
        model.backbone.weights = model.decoder.weights = "parity/maft_plus"
        model.decoder.queries = 50
        model.vocabulary = dict(names=names, allow_duplicates=True)
        model.teacher = dict(type="ConvNextClip", weights="parity/clip", checkpoint=str(twin))
        model.loss = dict(type="MaskAwareLoss", points=golden.meta["settings"]["num_points"])
        model.trained = ["decoder.*", "backbone.clip.visual.trunk.st*"]
        for step in config.test_dataloader.dataset.pipeline:
            if step["type"] == "ResizeShortestEdge":
                step["short_side"] = min(golden.meta["input"])

    model, config = build(CONFIG["maft_plus"], file, change)
    return model.train(), config


def the_targets(golden: TrainedGolden) -> tuple[list, list]:
    """The golden's masks, which overlap, so that no label map holds them."""
    formulas = shared_module("pseudo_weights_trained_b")
    (height, width), (padded_height, padded_width) = golden.meta["input"], golden.meta["padded"]
    masks = (formulas.proposals(height, width, 14)[[0, 1, 4, 6]] > 0).float()
    masks = torch.nn.functional.pad(masks, (0, padded_width - width, 0, padded_height - height))
    return [masks], [torch.tensor([0, 1, 2, 4])]


def compare(ours: float, official: float, bar: float, what: str) -> float:
    """The relative difference.

    Raises:
        AssertionError: if it is above the bar.
    """
    off = abs(ours - official) / max(abs(official), 1e-6)
    assert off < bar, f"{what}: {ours}, the official code's {official}"
    return off


@pytest.mark.slow
@pytest.mark.parametrize("golden", goldens(), ids=str)
def test_a_training_step_equals_the_official_codes(golden: TrainedGolden, monkeypatch) -> None:
    if not golden.photo.is_file():
        pytest.skip(f"the golden's photo {golden.photo} is missing")
    model, config = the_model(golden, monkeypatch)
    assert isinstance(model.decoder, MaskDecoder) and isinstance(model.criterion, MaskAwareLoss)
    found = the_targets(golden)
    monkeypatch.setattr(mask_loss, "targets", lambda *_: found)
    photo = photo_of(model, config, golden)
    frames = model.framing.frames(photo.image[None])
    vocabulary = model.require_vocabulary()
    prediction = model.decoder.predict_to_train(frames, model.backbone, model.training_text(), vocabulary)
    with torch.no_grad():
        prediction.extras["teacher_features"] = model.teacher(frames)[-1]
    labels = torch.full((1, *golden.meta["padded"]), 255)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", shared_module("pseudo_weights_trained_b").HashRand())
        losses = model.criterion(prediction, labels, 255)
    official = golden.meta["losses"]
    assert sorted(losses) == sorted(map(our_name, official))
    worst = max(
        compare(float(losses[our_name(name)].detach()), value, LOSS_BAR, name) for name, value in official.items()
    )
    print(f"{len(official)} losses, the worst {worst:.1e} off")
    layout = LAYOUTS["maft_plus"]
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for part, names in (("ranking_loss", ["loss_mask_aware"]), ("rc_loss", ["loss_compensation"]), ("total", None)):
        chosen = losses.values() if names is None else [losses[name] for name in names]
        found = torch.autograd.grad(sum(chosen), parameters.values(), retain_graph=True, allow_unused=True)
        gradients = dict(zip(parameters, found, strict=True))
        norms = official_norms(gradients, layout)
        wanted = golden.meta["grad_norms"][part]
        worst = 0.0
        for name, norm in wanted.items():
            if norm < 1e-6 * max(wanted.values()):
                assert norms[name] < 1e-4 * max(wanted.values()), name
            else:
                worst = max(worst, compare(norms[name], norm, GRADIENT_BAR, f"gradient of {part} at {name}"))
        used = sum(norm is not None for norm in gradients.values())
        print(f"{part}: {len(wanted)} gradient norms of {used} tensors, the worst {worst:.1e} off")


def official_norms(gradients: dict, layout) -> dict[str, float]:
    """Gradients' norms by the names of the official file; those of joint projections are put together."""
    decoder = {k.removeprefix("decoder."): g for k, g in gradients.items() if k.startswith("decoder.")}
    clip = {k.removeprefix("backbone.clip."): g for k, g in gradients.items() if k.startswith("backbone.clip.")}
    squares: dict[str, float] = {}
    named = [
        *((layout.name(k), g) for k, g in decoder.items()),
        *((f"backbone.clip_model.{k}", g) for k, g in clip.items()),
    ]
    for key, gradient in named:
        squares[key] = squares.get(key, 0.0) + (0.0 if gradient is None else float(gradient.double().pow(2).sum()))
    return {key: float(np.sqrt(square)) for key, square in squares.items()}
