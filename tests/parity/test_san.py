"""SAN against its official code: inference, and one training step with the same random points."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from ovseg.decoders.side_adapter import pooled, recognise
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

CONFIG = "san/san_vitb16_voc20.py"
LOSS_BAR, GRADIENT_BAR = 1e-4, 0.01
GOLDENS = trained_goldens("san_b16")


def _model(change=None):
    weights = standin_checkpoint("san_b16", lambda: shared_module("pseudo_weights_trained_a").san())
    return build(CONFIG, weights, change)


def _words_of(golden: TrainedGolden):
    def change(config) -> None:
        config.model.vocabulary = dict(names=golden.meta["vocabulary"])

    return change


@lru_cache(maxsize=1)
@torch.no_grad()
def measured(golden: TrainedGolden) -> dict[str, np.ndarray]:
    """Everything that the golden holds, from one pass, at the full shape."""
    model, config = _model(_words_of(golden))
    decoder, tower, text = model.decoder, model.backbone.tower, model.wording().queries.text
    network = decoder.network
    kept_clip = {}
    network.register_forward_pre_hook(lambda module, inputs: kept_clip.update(inputs[1]))
    modules = {f"block{i}": block for i, block in enumerate(network._blocks)}
    modules |= {f"fuse{i}": network.fusion_layers[f"layer_{i}"] for i in range(4)}
    with outputs_of(modules | {"proposals": network.mask_decoder, "context": model.backbone}) as kept:
        photo = photo_of(model, config, golden)
        (encoded,) = model.encode([photo])
        prediction = decoder(encoded.features, text)
    scores = model.framing.merge(prediction, tuple(photo.image.shape[1:]), photo.size)
    context, proposals, queries = kept["context"][0], kept["proposals"][0], network.query_embed.shape[1]
    found = {
        "text": torch.cat([text, F.normalize(decoder.bg_embed, dim=-1)]),
        "clip_9_cls": context.x[:, :1],
        "mask_logits": proposals.masks,
        "attn_bias": proposals.bias,
        "query_emb": encoded.features["embeddings"][0],
        "query_logits": prediction.extras["class_logits"],
        "sem_seg": scores.block(),
        "argmax": model.label(scores, photo),
    }
    for depth, (tokens, grid) in kept_clip.items():
        found[f"clip_{depth}"] = tokens.transpose(1, 2).unflatten(2, grid)
    patches = network.vit_model.patch_embed.proj(model.framing.frames(photo.image[None])).flatten(2).transpose(1, 2)
    entering = patches + network._positions(tuple(proposals.masks.shape[2:]))
    before = [entering, *(kept[f"block{i}"][0][:, queries:] for i in range(3))]
    for i, tokens in enumerate(before):
        found[f"fuse{i}"] = tokens + kept[f"fuse{i}"][0]
    for name in ("block0", "block3", "block7"):
        found[name] = kept[name][0]
    found |= _recognition(tower.blocks[decoder.split :], context.x, pooled(proposals.bias, context.grid))
    return {name: tensor.numpy() for name, tensor in found.items()}


def _recognition(blocks, tokens, bias) -> dict[str, torch.Tensor]:
    """The sequences of masks, class token and patches after each of CLIP's last blocks, ``[tokens, 1, d]``."""
    found, image = {}, tokens
    for i, block in enumerate(blocks):
        masks = recognise(blocks[: i + 1], tokens, bias)
        image = block(image)
        found[f"rec{i}"] = torch.cat([masks, image], 1).transpose(0, 1)
    return found


def _checks(goldens) -> list:
    return [pytest.param(golden, key, id=f"{golden}-{key}") for golden in goldens for key in golden.arrays]


@pytest.mark.parametrize(("golden", "key"), _checks(GOLDENS))
def test_fp32_equals_the_official_code(golden: TrainedGolden, key: str) -> None:
    if not golden.photo.is_file():
        pytest.skip(f"the golden's photo {golden.photo} is missing")
    ours = measured(golden)[key]
    recorded = labels_of(golden) if key == "argmax" else golden.arrays[key]
    found = figure(key, recorded, ours if key == "argmax" else golden.sampled(key, ours))
    print(found)
    assert found.passed, f"{golden}: {found}"


# --------------------------------------------------------------------------------------------------- a training step
def _crop(golden: TrainedGolden) -> tuple[torch.Tensor, SegDataSample]:
    """The golden's input: short side 384, the middle of the longer side; its target is a formula in meta.json."""
    image = Image.open(golden.photo).convert("RGB")
    scale = 384 / min(image.size)
    image = image.resize([int(side * scale + 0.5) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - 384) // 2 for side in image.size)
    crop = np.asarray(image)[top : top + 384, left : left + 384]
    y, x = torch.arange(384)[:, None], torch.arange(384)
    target = ((y // 96) * 4 + x // 96) * 7 % 23
    sample = SegDataSample()
    sample.gt_sem_seg = PixelData(data=target.masked_fill(target >= 20, 255)[None].int())
    return torch.from_numpy(crop.copy()).permute(2, 0, 1), sample


def _to_train(config) -> None:
    config.model.loss = dict(type="MaskSetLoss", points=1024)
    config.model.trained = ["decoder.*", "backbone.clip.visual.positional_embedding"]


def official_name(name: str) -> str:
    """A parameter's name in the official checkpoint."""
    if name.startswith("backbone.clip.visual."):
        return "clip_visual_extractor." + name.removeprefix("backbone.clip.visual.")
    name = name.removeprefix("decoder.")
    return f"ov_classifier.{name}" if name == "bg_embed" else f"side_adapter_{name}"


@pytest.mark.slow
@pytest.mark.parametrize("golden", trained_goldens("san_b16_train"), ids=str)
def test_a_training_step_equals_the_official_codes(golden: TrainedGolden, monkeypatch) -> None:
    def change(config) -> None:
        _words_of(golden)(config)
        _to_train(config)

    model, _ = _model(change)
    model.train()
    trained = {official_name(name): p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == golden.meta["n_trainable"]
    calls, uniform = [], shared_module("pseudo_weights_trained_a").uniform

    def recorded_points(*shape, **kwargs):
        calls.append(shape)
        return uniform(f"san_points/{len(calls) - 1}", *shape)

    crop, sample = _crop(golden)
    criterion = model.criterion.criterion(20)
    features, found = model.decoder.features, {}

    def keep_features(*arguments):
        found.update(features(*arguments))
        return found

    model.decoder.features = keep_features
    with outputs_of({"matching": criterion.matcher}) as kept:
        monkeypatch.setattr(torch, "rand", recorded_points)
        losses = model([crop], [sample], mode="loss")
        monkeypatch.undo()
    assert [list(shape) for shape in calls] == golden.meta["rand_shapes"]
    for ((masks, classes),), name in zip(kept["matching"], ("last", "aux0"), strict=True):
        assert [[masks.tolist(), classes.tolist()]] == golden.meta["matching"][name], name
    for place, suffix in ((1, ""), (0, "_aux")):
        for key, name in (("mask_logits", "masks"), ("query_emb", "embeddings")):
            ours = golden.sampled(key + suffix, found[name][:, place].detach().numpy())
            compared = figure(key + suffix, golden.arrays[key + suffix], ours)
            print(compared)
            assert compared.passed, str(compared)
    for name, official in golden.meta["losses"].items():
        ours = float(losses[name.replace("loss_ce", "loss_class")].detach())
        print(f"{name} {ours} (official {official})")
        assert abs(ours / official - 1) < LOSS_BAR, name
    sum(losses.values()).backward()
    assert set(golden.meta["grad_norms"]) == set(trained)
    worst = 0.0
    for name, norm in golden.meta["grad_norms"].items():
        ours = float(trained[name].grad.norm())
        worst = max(worst, abs(ours / norm - 1))
        assert abs(ours / norm - 1) < GRADIENT_BAR, f"{name}: gradient of norm {ours}, the official code's {norm}"
    print(f"{len(trained)} gradient norms, the worst {worst:.1e} off")
    for key in [key for key in golden.arrays if key.startswith("grad:")]:
        gradient = trained[key.removeprefix("grad:")].grad.flatten()
        compared = figure(key, golden.arrays[key], golden.sampled(key, gradient.numpy()))
        if len(gradient) > 1:  # one value has no range
            print(compared)
            assert compared.passed, str(compared)
