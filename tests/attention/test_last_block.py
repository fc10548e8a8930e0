"""Last-block attentions against their equations written out with plain softmax."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.attention import LastBlockAttention, NeighbourAttention, PlainAttention, SelfSelfAttention, ValueAttention
from ovseg.backbones.towers import build_tower
from ovseg.structures import AttentionContext
from tests.small_models import images, small_clip


@pytest.fixture(scope="module")
def case():
    model = small_clip()
    tower = build_tower(model.visual)
    x = images(2, 3, 48, 80)
    tokens, _ = tower.run(tower.embed(x), (3, 5))
    return model, AttentionContext(x=tokens, grid=(3, 5), tower=tower)


def plain(context, terms, bias=0.0):
    """sum over terms of softmax(t t^T / sqrt(d) + bias) v, then the output projection."""
    block = context.tower.visual.transformer.resblocks[-1]
    y = block.ln_1(context.x)
    qkv = F.linear(y, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
    q, k, v = (t.unflatten(-1, (2, 32)).transpose(1, 2) for t in qkv)
    pairs = {"q": (q, q), "k": (k, k), "v": (v, v), "qk": (q, k)}
    attention = sum((a @ b.transpose(-1, -2) / 32**0.5 + bias).softmax(-1) for a, b in (pairs[t] for t in terms))
    return block.attn.out_proj((attention @ v).transpose(1, 2).flatten(2))


def test_plain_attention_is_clips_own_block(case):
    _, context = case
    want = context.tower.visual.transformer.resblocks[-1](context.x)
    torch.testing.assert_close(PlainAttention()(context).tokens, want, atol=1e-5, rtol=1e-4)


def test_value_attention_keeps_every_tokens_own_value(case):
    _, context = case
    block = context.tower.visual.transformer.resblocks[-1]
    y = block.ln_1(context.x)
    v = F.linear(y, block.attn.in_proj_weight[128:], block.attn.in_proj_bias[128:])
    z = block.attn.out_proj(v)
    torch.testing.assert_close(ValueAttention(residual=False, ffn=False)(context).tokens, z)
    z = z + context.x
    want = z + block.mlp(block.ln_2(z))
    torch.testing.assert_close(ValueAttention()(context).tokens, want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("terms", [("q",), ("k",), ("q", "k"), ("q", "k", "v")])
@pytest.mark.parametrize("average", [False, True])
def test_self_self_attention(case, terms, average):
    _, context = case
    want = plain(context, terms)
    if average:
        bias = context.tower.visual.transformer.resblocks[-1].attn.out_proj.bias
        want = (want - bias) / len(terms) + bias
    got = SelfSelfAttention(terms, average=average)(context)
    torch.testing.assert_close(got.tokens, want, atol=1e-5, rtol=1e-4)
    assert got.grid == (3, 5) and got.patches.shape == (2, 15, 64) and got.as_image().shape == (2, 64, 3, 5)


def test_neighbour_attention_adds_the_gaussian_before_the_softmax(case):
    _, context = case
    bias = torch.zeros(16, 16)
    for i in range(15):
        for j in range(15):
            distance = (i // 5 - j // 5) ** 2 + (i % 5 - j % 5) ** 2
            bias[1 + i, 1 + j] = torch.exp(torch.tensor(-distance / (2 * 2.0**2)))
    want = plain(context, ("k",), bias)
    torch.testing.assert_close(NeighbourAttention(std=2.0)(context).tokens, want, atol=1e-5, rtol=1e-4)


def test_residual_and_ffn_switches(case):
    _, context = case
    block = context.tower.visual.transformer.resblocks[-1]
    z = plain(context, ("q",))
    torch.testing.assert_close(
        SelfSelfAttention(("q",), residual=True)(context).tokens, z + context.x, atol=1e-5, rtol=1e-4
    )
    want = z + block.mlp(block.ln_2(z))
    torch.testing.assert_close(SelfSelfAttention(("q",), ffn=True)(context).tokens, want, atol=1e-5, rtol=1e-4)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="terms is"):
        SelfSelfAttention(("qk",))
    with pytest.raises(ValueError, match="terms is"):
        SelfSelfAttention(())
    with pytest.raises(ValueError, match="std is 0"):
        NeighbourAttention(std=0)

    class Deep(LastBlockAttention):
        needs_inputs = (7, -1)

    assert Deep().needs_inputs_of(12) == (7, 11)
    with pytest.raises(ValueError, match="this tower has 6 blocks"):
        Deep().needs_inputs_of(6)
