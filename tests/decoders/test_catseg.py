"""CAT-Seg's decoder against plain definitions of its parts; parity with the official code is in tests/parity."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.backbones.towers import build_tower
from ovseg.decoders import CatSegDecoder
from ovseg.decoders.cost_layers import ClassLayer, SwinBlock, UpBlock
from ovseg.structures import AttentionContext
from tests.small_models import images, small_clip

SMALL = dict(guidance_blocks=(0, 1), dim=32, guidance_dim=32, window=2, up_dims=(32, 16), up_guidance=(16, 16))


def seeded(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def context(batch=2):
    tower = build_tower(small_clip().visual)
    x, inputs = tower.run(tower.embed(images(batch, 3, 64, 64)), (4, 4), (1, 2))
    return tower, AttentionContext(x=x, grid=(4, 4), tower=tower, inputs=inputs)


def words(count):
    return F.normalize(torch.randn(count, 32, generator=torch.Generator().manual_seed(9)), dim=1)


@torch.no_grad()
def test_padding_words_count_as_if_they_were_there():
    layer = seeded(ClassLayer(32, 32, padded=9))
    x, guidance = torch.randn(5, 4, 32), torch.randn(4, 32)
    full = torch.cat([x, layer.padding_tokens.expand(5, 5, -1)], dim=1)
    guides = torch.cat([guidance, layer.padding_guidance[0].expand(5, -1)])
    normed = layer.norm1(full)
    side = torch.cat([normed, guides.expand(5, -1, -1)], dim=-1)
    q, k = (F.elu(linear(side)) + 1 for linear in (layer.attention.q, layer.attention.k))
    v = layer.attention.v(normed)  # one head of 32 channels
    weights = q @ k.transpose(1, 2)
    full = full + weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)
    expected = (full + layer.MLP(layer.norm2(full)))[:, :4]
    torch.testing.assert_close(layer(x, guidance), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shift", [0, 2])
def test_windows_attend_to_cells_that_were_neighbours(shift):
    block, side, window = seeded(SwinBlock(32, 16, 4, shift)), 8, 4
    x, guidance = torch.randn(2, 3, side, side, 32), torch.randn(2, side, side, 16)
    normed = block.norm1(x)
    both = torch.cat([normed, guidance[:, None].expand(-1, 3, -1, -1, -1)], dim=-1)
    q, k, v = (t.flatten(2, 3) for t in (block.attn.q(both), block.attn.k(both), block.attn.v(normed)))
    place = (torch.arange(side) - shift) % side
    group = place // window
    old = (place >= side - shift).long() if shift else torch.zeros(side, dtype=torch.long)
    key = torch.stack([group[:, None].expand(side, side), group.expand(side, side)], -1).flatten(0, 1)
    tag = torch.stack([old[:, None].expand(side, side), old.expand(side, side)], -1).flatten(0, 1)
    together = (key[:, None] == key[None]).all(-1)
    allowed = together & (tag[:, None] == tag[None]).all(-1)
    logits = q @ k.transpose(-1, -2) * 32**-0.5
    logits = logits.masked_fill(~together, -torch.inf) - 100.0 * (~allowed)
    expected = x + block.attn.proj((logits.softmax(-1) @ v).unflatten(2, (side, side)))
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(block(x, guidance), expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_upsampling_equals_the_convolution_of_both_side_by_side():
    block = seeded(UpBlock(32, 16, 16))
    x, guidance = torch.randn(3, 32, 4, 4), torch.randn(1, 16, 8, 8)
    expected = block.conv["double_conv"](torch.cat([block.up(x), guidance.expand(3, -1, -1, -1)], dim=1))
    torch.testing.assert_close(block(x, guidance), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_neither_the_batch_nor_the_working_set_matter():
    tower, found = context()
    decoder = seeded(CatSegDecoder(tower, max_words=6, **SMALL))
    features, text = decoder.encode(found), words(5)
    together = decoder(features, text).maps
    assert together.shape == (2, 5, 16, 16)
    decoder.values = 1
    for index in range(2):
        own = {name: tensor[index : index + 1] for name, tensor in features.items()}
        torch.testing.assert_close(decoder(own, text).maps[0], together[index], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_only_the_best_words_of_each_image_are_looked_at():
    tower, found = context()
    decoder = seeded(CatSegDecoder(tower, max_words=4, **SMALL))
    features, text = decoder.encode(found), words(9)
    maps = decoder(features, text).maps
    cosines = torch.einsum("bdhw,td->bthw", features["dense"], text)
    for index in range(2):
        best = cosines[index].amax((1, 2)).topk(4).indices.sort().values
        own = {name: tensor[index : index + 1] for name, tensor in features.items()}
        torch.testing.assert_close(maps[index, best], decoder(own, text[best]).maps[0])
        others = [word for word in range(9) if word not in best]
        assert (maps[index, others] == -100).all()


def test_training_reaches_every_parameter_of_the_decoder():
    tower, found = context()
    decoder = seeded(CatSegDecoder(tower, max_words=6, **SMALL)).train()
    maps = decoder(decoder.encode(found), words(5)).maps
    maps.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in decoder.parameters())


def test_settings_that_do_not_fit_are_named():
    tower, found = context()
    with pytest.raises(ValueError, match="windows of 3 cells do not divide"):
        CatSegDecoder(tower, **{**SMALL, "window": 3}).encode(found)
    with pytest.raises(ValueError, match="dim 40 must be a multiple of 32"):
        CatSegDecoder(tower, **{**SMALL, "dim": 40})
    with pytest.raises(ValueError, match="has 3 blocks"):
        CatSegDecoder(tower, **{**SMALL, "guidance_blocks": (3, 7)}).encode(found)
