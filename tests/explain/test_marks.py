"""Weights read off marks against the attentions' formulas in plain torch."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.attention import (
    CalibratedAttention,
    DecomposedAttention,
    DinoiserAttention,
    FusedAttention,
    IntermediateAttention,
    LastBlockAttention,
    NeighbourAttention,
    PlainAttention,
    ProxyAttention,
    RegionAttention,
    SelfCorrelationAttention,
    SelfSelfAttention,
    ValueAttention,
)
from ovseg.backbones.towers import build_tower
from ovseg.explain.marks import AttentionNotReadable, read_attention
from ovseg.ops.reference import neighbour_bias
from ovseg.structures import AttentionContext, FeatureMap
from tests.small_guides import use_small_guides
from tests.small_models import images, small_clip

N, WIDTH = 16, 64  # patches and token width of the small CLIP; one CLS token


@pytest.fixture(scope="module")
def context():
    tower = build_tower(small_clip(layers=4).visual)
    x, inputs = tower.run(tower.embed(images(2, 3, 64, 64)), (4, 4), range(4))
    guide = torch.randn(2, N, 12, generator=torch.Generator().manual_seed(0)) + 0.7
    regions = torch.tensor([[0, 0, 1, 1], [0, 2, 2, 1], [3, 2, 2, 4], [3, 3, 4, 4]])
    regions = regions.repeat_interleave(16, 0).repeat_interleave(16, 1).expand(2, -1, -1)
    return AttentionContext(
        x=x,
        grid=(4, 4),
        tower=tower,
        inputs=inputs,
        guide=FeatureMap(F.normalize(guide, dim=-1), (4, 4)),
        regions=regions,
    )


def weights(attention, context, window=1):
    """``[n, 1 + N]`` of one window; the features must be the attention's own."""
    found = read_attention(attention, context, window)
    torch.testing.assert_close(found.tokens[..., :WIDTH], attention(context).tokens, atol=2e-4, rtol=1e-3)
    return found.tokens[window, :, WIDTH:]


def softmaxes(context, terms, bias=0.0, layer=-1, window=1):
    """sum over terms of the mean over heads of softmax(a b^T / sqrt(d) + bias) of a block: ``[1 + N, 1 + N]``."""
    blocks = context.tower.visual.transformer.resblocks
    block, x = blocks[layer], context.x if layer == -1 else context.inputs[len(blocks) + layer]
    qkv = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
    q, k, v = (t.unflatten(-1, (2, 32)).transpose(1, 2)[window] for t in qkv)
    pairs = {"q": (q, q), "k": (k, k), "v": (v, v), "qk": (q, k)}
    return sum((a @ b.mT / 32**0.5 + bias).softmax(-1).mean(0) for a, b in (pairs[t] for t in terms))


CLOSE = dict(atol=2e-6, rtol=2e-5)


def test_plain_attention(context):
    found = weights(PlainAttention(), context)
    torch.testing.assert_close(found, softmaxes(context, ["qk"]), **CLOSE)
    torch.testing.assert_close(found.sum(-1), torch.ones(1 + N))


def test_value_attention_attends_to_itself(context):
    torch.testing.assert_close(weights(ValueAttention(), context), torch.eye(1 + N), **CLOSE)


@pytest.mark.parametrize("terms", [("q",), ("k",), ("v",), ("q", "k"), ("q", "k", "v")])
@pytest.mark.parametrize("residual", [False, True])
def test_self_self_attention(context, terms, residual):
    found = weights(SelfSelfAttention(terms, residual=residual, ffn=residual), context)
    torch.testing.assert_close(found, softmaxes(context, terms), **CLOSE)
    torch.testing.assert_close(found.sum(-1), torch.full((1 + N,), float(len(terms))))


def test_self_correlation_attention(context):
    found = weights(SelfCorrelationAttention(), context)
    torch.testing.assert_close(found, softmaxes(context, "qkv"), **CLOSE)


def test_neighbour_attention(context):
    bias = neighbour_bias((4, 4), 2.0, 1 + N, torch.device("cpu"))
    found = weights(NeighbourAttention(std=2.0), context)
    torch.testing.assert_close(found, softmaxes(context, "k", bias), **CLOSE)


def test_intermediate_attention_mixes_layers(context):
    found = weights(IntermediateAttention(layers=(-3, -2), weight=0.25), context)
    middle = (softmaxes(context, "qk", layer=-3) + softmaxes(context, "qk", layer=-2)) / 2
    torch.testing.assert_close(found, 0.75 * softmaxes(context, "qk") + 0.25 * middle, **CLOSE)


def proxy_weights(features, scale, keep):
    return (scale * features @ features.mT).masked_fill(~keep, -torch.inf).softmax(-1)


def test_proxy_attention_has_no_cls(context):
    f = context.guide.tokens[1]
    s = f @ f.T
    found = weights(ProxyAttention(beta=1.2, gamma=3.0), context)
    torch.testing.assert_close(found[:, 1:], proxy_weights(f, 3.0, s >= 1.2 * s.mean()), **CLOSE)
    assert not found[:, 0].any()


def test_proxy_attention_on_a_finer_guide_is_read_on_clips_patches(context):
    f = torch.randn(2, 64, 12, generator=torch.Generator().manual_seed(1)) + 0.7
    finer = AttentionContext(**{**vars(context), "guide": FeatureMap(F.normalize(f, dim=-1), (8, 8))})
    f, patches = finer.guide.tokens[1], torch.eye(N).unflatten(1, (4, 4))[None]
    s = f @ f.T
    up = F.interpolate(patches, size=(8, 8), mode="bilinear", align_corners=False)[0].flatten(1)  # [N, 64]
    want = proxy_weights(f, 3.0, s >= 1.2 * s.mean()) @ up.T
    torch.testing.assert_close(weights(ProxyAttention(), finer)[:, 1:], want, **CLOSE)


def test_region_attention_is_the_sum_of_its_branches(context):
    plain = RegionAttention(merge_eps=None, spatial_weight=0.0, semantic_weight=0.0)
    f = context.guide.tokens[1]
    s, ids = f @ f.T, context.regions[1, ::16, ::16].flatten()
    loose = ids == 0
    same = (ids[:, None] == ids) & ~loose[:, None]
    main = proxy_weights(f, 4.0, same | ((loose[:, None] | loose) & (s > s.mean())))
    torch.testing.assert_close(weights(plain, context)[:, 1:], main, **CLOSE)
    both = weights(RegionAttention(merge_eps=None, spatial_layers=2, semantic_weight=0.0), context)
    torch.testing.assert_close(both[:, 1:], 2 * main, **CLOSE)
    everything = weights(RegionAttention(merge_eps=None, spatial_layers=2), context)
    torch.testing.assert_close(everything.sum(-1), torch.full((N,), 2.5))
    semantic = everything[:, 1:] - 2 * main
    assert (semantic[ids[:, None] == ids] > 0).all() and semantic[ids[:, None] != ids].abs().max() < 1e-5


def test_fused_attention_gives_its_own_map(context):
    attention = FusedAttention()
    found = read_attention(attention, context, 1).tokens[..., WIDTH:]
    sets = found.unflatten(0, (2, -1))
    assert sets.shape[:2] == (2, 4) and not sets[0].any(), "only the marked window's"
    torch.testing.assert_close(sets[1, -1], attention(context).affinity[1], **CLOSE)


def test_dinoiser_pools_after_the_block(context, monkeypatch):
    use_small_guides(monkeypatch)
    attention = DinoiserAttention(threshold=0.2)
    f = attention.read_heads(attention.guide_map(context))[0][1]
    s = f @ f.T
    want = torch.where(s < 0.2, 0.0, s)
    found = weights(attention, context)
    torch.testing.assert_close(found[:, 1:], want / (want.sum(-1, keepdim=True) + 1e-6), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("outliers", [None, "norm"])
@pytest.mark.parametrize("similarity", ["mean", "thresholded"])
def test_calibrated_attention_by_the_places_of_its_values(context, similarity, outliers):
    """Its tokens are mended and averaged before their values are taken: weights are of what stands at a place then."""
    layers = dict(similarity_layer=-2, late_layer=-3, multi_layers=(-3, -2))
    attention = CalibratedAttention(outliers, similarity=similarity, count=3, multi_terms=(), **layers)
    found = weights(attention, context)

    def cosines(tokens):
        unit = F.normalize(tokens[:, 1:], dim=-1)[1]
        return unit @ unit.T

    def averages(cosine):
        kept = torch.where(cosine >= attention.threshold, cosine, 0.0)
        return kept / (kept.sum(-1, keepdim=True) + 1e-6)

    late = averages(cosines(context.inputs[1]))
    assert not found[:, 0].any(), "the class token has no value here"
    # averaging rows that sum to 1 twice: the last block's and those of the sum of layers
    torch.testing.assert_close(found.sum(-1), 2 * late.sum(-1), atol=1e-5, rtol=1e-5)
    if outliers is not None:
        return
    cosine = cosines(context.inputs[2])
    kept = cosine if similarity == "mean" else torch.where(cosine >= attention.threshold, cosine, 0.0)
    least = cosine.mean() if similarity == "mean" else max(attention.threshold, float(kept.mean()))
    shared = (3.0 * cosine).masked_fill(cosine < least, -torch.inf).softmax(-1)
    block = context.tower.visual.transformer.resblocks[-1]
    x = averages(cosine) @ context.x[1, 1:]
    k = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)[1]
    k = k.unflatten(-1, (2, 32)).transpose(0, 1)
    own = (k @ k.mT / 32**0.5).softmax(-1).mean(0)
    torch.testing.assert_close(found[:, 1:], late @ ((shared + own) / 2 + shared), atol=1e-5, rtol=1e-4)


class Bounded(LastBlockAttention):
    """Rewrites its tokens, and weighs something else than their values."""

    rewrites_tokens = True

    def mix(self, q, k, v, context):
        return F.scaled_dot_product_attention(q, k, v.tanh(), scale=context.tower.blocks[-1].scale)


class OwnScale(LastBlockAttention):
    """Takes its scale from the width of q, as many notebooks do."""

    def mix(self, q, k, v, context):
        return F.scaled_dot_product_attention(q, k, v)


class Called(LastBlockAttention):
    """Runs the block as a whole."""

    def forward(self, context):
        return FeatureMap(context.tower.blocks[-1](context.x, context.grid), context.grid, context.num_prefix)


@pytest.mark.parametrize("attention", [OwnScale(), Called()])
def test_attentions_of_ones_own_are_read_too(context, attention):
    torch.testing.assert_close(weights(attention, context), softmaxes(context, ["qk"]), **CLOSE)


class Rectified(LastBlockAttention):
    def mix(self, q, k, v, context):
        return F.scaled_dot_product_attention(q, k, v.relu(), scale=context.tower.blocks[-1].scale)


class Squared(LastBlockAttention):
    def mix(self, q, k, v, context):
        return F.scaled_dot_product_attention(q, k, v.square(), scale=context.tower.blocks[-1].scale)


class NoValues(LastBlockAttention):
    def forward(self, context):
        return FeatureMap(context.x, context.grid, context.num_prefix)


class Around(LastBlockAttention):
    """A layer of its own on the values."""

    def mix(self, q, k, v, context):
        return F.linear(v, torch.eye(32))


@pytest.mark.parametrize(
    "attention, reason",
    [
        (Rectified(), "not linear in the values"),
        (Squared(), "not linear in the values"),
        (Bounded(), "not linear in the values"),
        (NoValues(), "does not take all its values through the last block"),
        (Around(), "does not run on values with marks"),
        (DecomposedAttention(layers=2), "takes the last norm apart"),
    ],
)
def test_what_weights_do_not_describe_is_refused(context, attention, reason):
    with pytest.raises(AttentionNotReadable, match=f"{type(attention).__name__} cannot be read: .*{reason}"):
        read_attention(attention, context, 0)
