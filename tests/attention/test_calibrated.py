"""SC-CLIP's and SFP's last block, written out with whole matrices."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.attention import CalibratedAttention
from ovseg.attention.outliers import class_and_self_attention, local_outlier_factor, repair
from ovseg.backbones.towers import build_tower
from ovseg.structures import AttentionContext
from tests.small_models import images, small_clip

GRID = (4, 6)
LAYERS = dict(similarity_layer=-3, late_layer=-8, multi_layers=(-8, -7, -6, -5, -4, -3, -2))
SFP = dict(
    outliers="class_attention", count=5, keep_alone=False, similarity="thresholded", terms=("q", "k"), multi_terms=()
)


@pytest.fixture(scope="module")
def context():
    tower = build_tower(small_clip(layers=12).visual)
    x, inputs = tower.run(tower.embed(images(2, 3, 64, 96)), GRID, range(12))
    return AttentionContext(x=x, grid=GRID, tower=tower, inputs=inputs)


def by_hand(context, w, sfp):
    block = context.tower.blocks[-1]
    h = {n: context.inputs[n][w] for n in range(4, 11)}  # the output of block n, counted from 1
    patches = context.x[w, 1:]
    if sfp:
        of_class, own = class_and_self_attention(context.tower.blocks[-2], h[10][None], GRID, 1)
        order = of_class[0].masked_fill(1.5 * of_class[0] <= own[0], -1).argsort(descending=True)[:5]
        bad = torch.zeros(24, dtype=torch.bool)
        bad[[i for i in order.tolist() if 1.5 * of_class[0, i] > own[0, i]]] = True
    else:
        factor = local_outlier_factor(patches[None])[0]
        bad = factor > factor.quantile(0.95)
    assert bad.any()
    x = repair(patches[None], bad[None], GRID, not sfp)[0]
    m = F.normalize(repair(h[9][None, 1:], bad[None], GRID, not sfp)[0], dim=-1)
    m = m @ m.T
    m0 = m.masked_fill(m < 0.4, 0)
    x = m0 @ x / (m0.sum(-1, keepdim=True) + 1e-6)

    def last(tokens, c, terms):
        s = 3 * (m0 - m0.mean() if sfp else m - m.mean())
        maps = [s.masked_fill(s < 0, -torch.inf).softmax(-1)]
        q, k, v = block.qkv(block.norm1(tokens[None]))
        maps += [(t[0] @ t[0].mT * block.scale).softmax(-1) for t in ({"q": q, "k": k}[n] for n in terms)]
        mixed = sum(a @ v[0] for a in maps) / len(maps)
        return block.out(mixed.transpose(0, 1).flatten(1)) + 0.3 * c

    d = F.normalize(h[4][1:], dim=-1)
    d = d @ d.T
    d = d.masked_fill(d < 0.4, 0)
    d = d / (d.sum(-1, keepdim=True) + 1e-6)
    total = sum(h.values())
    first = last(x, context.x[w, 0], ("q", "k") if sfp else ("k",))
    return d @ (first + last(total[1:], total[0], () if sfp else ("k",)))


@pytest.mark.parametrize("sfp", [False, True])
def test_calibrated_attention_is_the_formula(context, sfp):
    out = CalibratedAttention(**(SFP if sfp else {}), **LAYERS)(context)
    assert out.num_prefix == 0 and out.grid == GRID
    for w in range(2):
        torch.testing.assert_close(out.tokens[w], by_hand(context, w, sfp), atol=1e-4, rtol=1e-4)


def test_outliers_of_other_kinds(context):
    patches = context.x[:, 1:]
    longest = CalibratedAttention(outliers="norm", count=3, **LAYERS).find_outliers(context)
    assert longest.sum(1).tolist() == [3, 3]
    assert (patches.norm(dim=-1)[longest].min() >= patches.norm(dim=-1)[~longest].min()).all()
    none = CalibratedAttention(outliers=None, **LAYERS)
    assert not none.find_outliers(context).any()
    assert (none(context).tokens - CalibratedAttention(**LAYERS)(context).tokens).abs().max() > 1e-4


def test_windows_do_not_see_each_other(context):
    attention = CalibratedAttention(**SFP, **LAYERS)
    both = attention(context).tokens
    one = AttentionContext(
        x=context.x[1:], grid=GRID, tower=context.tower, inputs={i: t[1:] for i, t in context.inputs.items()}
    )
    torch.testing.assert_close(attention(one).tokens, both[1:], atol=1e-5, rtol=1e-5)


def test_smallest_window():
    tower = build_tower(small_clip(layers=12).visual)
    x, inputs = tower.run(tower.embed(images(1, 3, 16, 16)), (1, 1), range(12))
    one = AttentionContext(x=x, grid=(1, 1), tower=tower, inputs=inputs)
    for options in ({}, SFP):
        assert torch.isfinite(CalibratedAttention(**options, **LAYERS)(one).tokens).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(outliers="all"), "outliers is 'all'"),
        (dict(similarity="max"), "similarity is 'max'"),
        (dict(terms=("x",)), "terms is"),
        (dict(multi_terms=("z",)), "multi_terms is"),
        (dict(quantile=1.0), "quantile 1.0"),
        (dict(neighbours=0), "neighbours 0"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        CalibratedAttention(**options)


def test_small_towers_are_named():
    with pytest.raises(ValueError, match="this tower has 6 blocks"):
        CalibratedAttention().needs_inputs_of(6)
