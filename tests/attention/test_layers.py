"""Attentions that look at earlier blocks, against their definitions written out with whole maps."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.attention import FusedAttention, IntermediateAttention, SelfCorrelationAttention, SelfSelfAttention
from ovseg.backbones.towers import build_tower
from ovseg.structures import AttentionContext
from tests.small_models import images, small_clip

GRID = (3, 5)


@pytest.fixture(scope="module")
def context():
    tower = build_tower(small_clip(layers=4).visual)
    tokens, inputs = tower.run(tower.embed(images(2, 3, 48, 80)), GRID, range(4))
    return AttentionContext(x=tokens, grid=GRID, tower=tower, inputs=inputs)


def softmax_of(block, t):
    return (t @ t.transpose(-1, -2) * block.scale).softmax(-1)


def test_intermediate_attention_averages_the_maps(context):
    blocks, last = context.tower.blocks, context.tower.blocks[-1]

    def self_map(i, x):
        q, k, _ = blocks[i].qkv(blocks[i].norm1(x))
        return softmax_of(blocks[i], q) + softmax_of(blocks[i], k)

    own = self_map(3, context.x)
    middle = (self_map(0, context.inputs[0]) + self_map(2, context.inputs[2])) / 2
    _, _, v = last.qkv(last.norm1(context.x))
    want = context.x + last.out(((0.3 * own + 0.7 * middle) @ v).transpose(1, 2).flatten(2))
    got = IntermediateAttention(layers=(0, -2), weight=0.7)(context)
    torch.testing.assert_close(got.tokens, want, atol=1e-5, rtol=1e-4)


def test_intermediate_attention_without_weight_is_self_self_attention(context):
    want = SelfSelfAttention(("q", "k"), residual=True)(context).tokens
    torch.testing.assert_close(IntermediateAttention(layers=(1,), weight=0.0)(context).tokens, want)


def test_intermediate_attention_names_a_tower_that_is_too_small(context):
    with pytest.raises(ValueError, match="4 blocks"):
        IntermediateAttention(layers=(9,)).needs_inputs_of(4)


@pytest.mark.parametrize("options", [dict(layers=()), dict(weight=1.5), dict(terms=("x",))])
def test_intermediate_attention_refuses(options):
    with pytest.raises(ValueError, match="layer|weight|terms"):
        IntermediateAttention(**options)


def test_affinity_is_the_mean_correlation_minus_the_class_tokens(context):
    block, want = context.tower.blocks[2], 0
    for t in block.qkv(block.norm1(context.inputs[2])):
        want = want + torch.stack([F.cosine_similarity(h[:, :, None], h[:, None], dim=-1) for h in t.unbind(1)]).mean(0)
    want = want / 3
    want = (want[:, 1:, 1:] - want[:, :1, 1:]).clamp(min=0)
    features = SelfCorrelationAttention()(context)
    torch.testing.assert_close(features.affinity, want, atol=1e-5, rtol=1e-4)
    plain = SelfSelfAttention(("q", "k", "v"), residual=True, ffn=True)(context)
    torch.testing.assert_close(features.tokens, plain.tokens)


def fused_by_the_book(context, in_place):
    """Per head and window, with explicit loops; ``in_place`` as the official code."""
    blocks, last = context.tower.blocks, context.tower.blocks[-1]
    outputs, maps = [], []
    for b in range(len(context.x)):
        shared, sets = 0, []
        for i in range(3):
            y = blocks[i].norm1(context.inputs[i][b : b + 1])
            q, k, _ = blocks[i].qkv(y)
            shared = shared + (q @ k.transpose(-1, -2) * blocks[i].scale).softmax(-1)
            sets.append(y)
        sets.append(context.x[b : b + 1])
        for x in sets:
            work = shared if in_place else shared.clone()
            work /= work.sum(-2, keepdim=True)
            work /= work.sum(-1, keepdim=True)
            a = (work + work.transpose(-1, -2)) / 2
            a = (a - a.mean(-2, keepdim=True)).clamp(min=0)
            a = a / a.sum(-1, keepdim=True)
            _, _, v = last.qkv(last.norm1(x))
            outputs.append(last.out((a @ v).transpose(1, 2).flatten(2)))
        maps.append(a.mean(1))
    return torch.cat(outputs), torch.cat(maps)


@pytest.mark.parametrize("cumulative", [True, False])
def test_fused_attention(context, cumulative):
    tokens, maps = fused_by_the_book(context, cumulative)
    features = FusedAttention(cumulative)(context)
    torch.testing.assert_close(features.tokens, tokens, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.affinity, maps, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(features.affinity.sum(-1), torch.ones(2, 16))


def test_the_in_place_division_changes_the_result(context):
    a, b = (FusedAttention(c)(context).tokens for c in (True, False))
    torch.testing.assert_close(a[0], b[0], atol=1e-6, rtol=1e-5)  # the first set sees one round either way
    assert (a[3] - b[3]).abs().max() > 1e-5
