"""Split projections compute what the joint one did, in both towers, and can be trained apart."""

import open_clip
import torch

from ovseg.backbones.towers import build_tower
from ovseg.projections import split_projections
from ovseg.text.causal import CausalTextTower
from tests.small_models import images, small_clip


def test_split_projections_compute_the_same():
    joint, split = small_clip(), small_clip()
    split_projections(split)
    split_projections(split)  # twice is once
    tokens, windows = open_clip.tokenize(["a cat", "a dog on the grass"]), images(2, 3, 64, 64)
    found, expected = [], []
    for model, out in ((joint, expected), (split, found)):
        tower = build_tower(model.visual)
        x = tower.embed(windows)
        for block in tower.blocks:
            x = block(x, (4, 4))
        out += [x, tower.blocks[0].value(x), CausalTextTower(model).encode(tokens), model.encode_text(tokens)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_gradients_of_the_shared_text_tower_are_those_of_open_clip():
    model, tokens = small_clip(), open_clip.tokenize(["a cat", "a dog on the grass", "a dog"])
    split_projections(model)
    trained = [block.attn.q_proj_weight.requires_grad_(True) for block in model.transformer.resblocks]
    torch.manual_seed(0)
    weight = torch.randn(3, 32)
    own = torch.autograd.grad((CausalTextTower(model).encode(tokens) * weight).sum(), trained)
    theirs = torch.autograd.grad((model.encode_text(tokens) * weight).sum(), trained)
    for a, b in zip(own, theirs, strict=True):
        assert a.abs().max() > 0
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
