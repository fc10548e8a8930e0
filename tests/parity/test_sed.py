"""SED against its official code, with every word and with early rejection; words come from the golden's generator."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

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

CONFIG = "sed/sed_convnextb_voc20.py"
NAMES = ("sed_b", "sed_b_fast")


@lru_cache(maxsize=1)
@torch.no_grad()
def measured(golden: TrainedGolden) -> dict[str, np.ndarray]:
    """Everything that the golden holds, from one pass, at the full shape."""
    generator = shared_module("pseudo_weights_trained_a")
    words = golden.meta["vocabulary"]

    def change(config) -> None:
        config.model.vocabulary = None
        config.model.decoder.early_rejection = golden.meta["topk"]

    model, config = build(CONFIG, standin_checkpoint("sed_b", lambda: generator.sed(text_tower=True)), change)
    model.set_vocabulary(dict(names=words), F.normalize(generator.sed_text(words), dim=-1))
    decoder, text = model.decoder, model.wording().queries.text
    steps = {f"d{i}": getattr(decoder, f"decoder{i}") for i in (1, 2, 3)}
    refined: dict[str, torch.Tensor] = {}
    for name, step in steps.items():
        step.refine = _keeping(step.refine, refined, name)
    modules = {f"{name}_cnext": step.cnext for name, step in steps.items()}
    modules |= {name: step.enlarge for name, step in steps.items()} | {"conv1": decoder.conv1, "maps": model.backbone}
    with outputs_of(modules) as kept:
        photo = photo_of(model, config, golden)
        (encoded,) = model.encode([photo])
        prediction = decoder(encoded.features, text)
    scores = model.framing.merge(prediction, tuple(photo.image.shape[1:]), photo.size)
    (maps,), features = kept.pop("maps"), encoded.features
    cost = torch.einsum("qpd,dhw->qphw", text, features["dense"][0])
    found = {name: torch.cat(parts) for name, parts in kept.items()}  # some words at a time
    found |= {f"res{i}": stage for i, stage in enumerate(maps, start=2)}
    found |= {f"{name}_class": words_first.transpose(0, 1)[None] for name, words_first in refined.items()}
    found |= {
        "clip_dense": model.backbone.tower.project(maps[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        "cost": cost.transpose(0, 1)[None],
        "logits": prediction.maps,
        "probs192": prediction.maps.sigmoid(),
        "classes_kept": torch.isfinite(prediction.maps[0]).flatten(1).all(1).float(),
        "sem_seg": scores.block(),
        "argmax": model.label(scores, photo),
    }
    guide = cost
    for i, project in enumerate(decoder.decoder_corr_guidance_projection):
        guide = project(guide)
        found |= {f"corr{i}": guide, f"guide{i}": features[f"guide{i + 1}"]}
    for name, head, maps_of in (("aux24", decoder.head0, "conv1"), ("aux48", decoder.head1, "d1")):
        found[name] = head(found[maps_of])[:, 0][None]
    found["aux96"] = decoder.head2(found["d2"])[:, 0][None]
    return {name: tensor.numpy() for name, tensor in found.items()}


def _keeping(refine, refined: dict, name: str):
    def keep(maps, pool):
        refined[name] = refine(maps, pool).clone()  # what comes next works in its place
        return refined[name].clone()

    return keep


def _checks() -> list:
    goldens = [golden for name in NAMES for golden in trained_goldens(name)]
    return [pytest.param(golden, key, id=f"{golden}-{key}") for golden in goldens for key in [*golden.arrays]]


@pytest.mark.slow
@pytest.mark.parametrize(("golden", "key"), _checks())
def test_fp32_equals_the_official_code(golden: TrainedGolden, key: str) -> None:
    if not golden.photo.is_file():
        pytest.skip(f"the golden's photo {golden.photo} is missing")
    ours = measured(golden)[key]
    recorded = labels_of(golden) if key == "argmax" else golden.arrays[key]
    found = figure(key, recorded, ours if key == "argmax" else golden.sampled(key, ours))
    print(found)
    assert found.passed, f"{golden}: {found}"
