"""Guided attentions against the formulas written out with loops and full matrices."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.attention import DinoiserAttention, ProxyAttention, RegionAttention
from ovseg.backbones.towers import build_tower
from ovseg.structures import AttentionContext, FeatureMap
from tests.small_guides import use_small_guides
from tests.small_models import images, small_clip


def context(guide_grid=(4, 4), regions=None, batch=2, seed=0):
    tower = build_tower(small_clip(layers=4).visual)
    x, inputs = tower.run(tower.embed(images(batch, 3, 64, 64, seed=seed)), (4, 4), range(4))
    n = guide_grid[0] * guide_grid[1]
    generator = torch.Generator().manual_seed(seed)
    guide = torch.randn(batch, n, 12, generator=generator) + 0.7
    return AttentionContext(
        x=x,
        grid=(4, 4),
        tower=tower,
        inputs=inputs,
        regions=regions,
        guide=FeatureMap(F.normalize(guide, dim=-1), guide_grid),
    )


@pytest.mark.parametrize("scope", ["window", "image"])
@pytest.mark.parametrize("grid", [(4, 4), (8, 8)])
def test_proxy_attention_is_the_papers_formula(scope, grid):
    c = context(grid)
    out = ProxyAttention(beta=1.2, gamma=3.0, mean_scope=scope)(c)
    assert out.grid == grid and out.num_prefix == 0
    block, f = c.tower.blocks[-1], c.guide.tokens
    v = block.value(block.norm1(c.x))[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    v = F.interpolate(v, size=grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    s = f @ f.transpose(1, 2)
    mean = s.mean((1, 2), keepdim=True) if scope == "window" else s.mean()
    s = 3.0 * (s - 1.2 * mean)
    want = block.out(s.masked_fill(s < 0, -torch.inf).softmax(-1) @ v)
    torch.testing.assert_close(out.tokens, want, atol=1e-5, rtol=1e-4)


def test_proxy_attention_says_what_it_needs():
    c = context()
    c.guide = None
    with pytest.raises(ValueError, match="needs a guide"):
        ProxyAttention()(c)
    with pytest.raises(ValueError, match="mean_scope is 'all'"):
        ProxyAttention(mean_scope="all")


REGIONS = (
    torch.stack(
        [
            torch.tensor([[0, 0, 1, 1], [0, 2, 2, 1], [3, 2, 2, 4], [3, 3, 4, 4]]),
            torch.tensor([[5, 5, 5, 5], [5, 5, 7, 7], [7, 7, 7, 7], [7, 7, 7, 7]]),
        ]
    )
    .repeat_interleave(16, 1)
    .repeat_interleave(16, 2)
)


def scope_by_hand(f, ids):
    """CorrCLIP's allowed pairs and merged ids of one window, as METHODS writes them."""
    values = ids.unique()
    merged = ids.clone()
    if len(values) > 2:
        means = F.normalize(torch.stack([f[ids == i].mean(0) for i in values[1:]]), dim=-1)
        r = means @ means.T
        group = list(range(len(means)))
        for _ in group:
            for a in range(len(group)):
                for b in range(len(group)):
                    if r.max() - r[a, b] <= 0.2:
                        group[a] = group[b] = min(group[a], group[b])
        for i, g in zip(values[1:], group, strict=True):
            merged[ids == i] = 10000 + g
    first = merged == values[0]
    s = f @ f.T
    same = (merged[:, None] == merged) & ~first[:, None]
    return same | ((first[:, None] | first) & (s > s.mean())), merged, s


def test_region_attention_is_scope_and_value_reconstruction():
    c = context(regions=REGIONS)
    out = RegionAttention(spatial_layers=2)(c).tokens
    tower, block = c.tower, c.tower.blocks[-1]
    for w in range(2):
        ids = REGIONS[w, ::16, ::16].flatten()
        allowed, merged, s = scope_by_hand(c.guide.tokens[w], ids)
        a = (4 * s).masked_fill(~allowed, -torch.inf).softmax(-1)
        total = 0
        for x in (c.x[w], (c.inputs[1][w] + c.inputs[2][w]) / 2):
            total = total + tower.post_norm(block.out(a @ block.value(block.norm1(x))[1:]))
        for i in merged.unique():  # the copy of CLS really prepended, block by block
            inside = torch.cat([torch.tensor([True]), merged == i])
            copy = c.inputs[0][w, :1]
            for layer, b in enumerate(tower.blocks):
                tokens = torch.cat([copy, c.inputs[layer][w]])[None]
                q, k, v = b.qkv(b.norm1(tokens))
                mask = torch.cat([torch.tensor([False]), inside])
                mixed = F.scaled_dot_product_attention(q[:, :, :1], k, v, attn_mask=mask[None, None, None])
                copy = copy + b.out(mixed.transpose(1, 2).flatten(2))[0]
                copy = copy + b.ffn(copy)
            total[merged == i] = total[merged == i] + 0.5 * tower.post_norm(copy)
        torch.testing.assert_close(out[w], total, atol=1e-4, rtol=1e-4)


def test_region_attention_runs_on_a_finer_guide_and_says_what_it_needs():
    out = RegionAttention(spatial_layers=2)(context((8, 8), REGIONS))
    assert out.grid == (8, 8) and torch.isfinite(out.tokens).all()
    with pytest.raises(ValueError, match="needs regions"):
        RegionAttention(spatial_layers=2)(context())
    with pytest.raises(ValueError, match="reads the inputs of blocks"):
        RegionAttention(spatial_layers=9, semantic_weight=0).needs_inputs_of(4)


def test_dinoiser_pools_and_places_background(monkeypatch):
    use_small_guides(monkeypatch)
    attention, c = DinoiserAttention(threshold=0.2), context()
    out = attention(c)
    tower = c.tower
    # the guide map: what enters the feed-forward of block -3, checked by finishing that block
    block, index = tower.blocks[1], 1
    guide_map = attention.guide_map(c)
    q, k, v = block.qkv(block.norm1(c.inputs[index]))
    mid = c.inputs[index] + block.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mid + block.ffn(mid), c.inputs[index + 1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(guide_map.flatten(2).transpose(1, 2), block.norm2(mid)[:, 1:], atol=1e-5, rtol=1e-4)
    last, x = tower.blocks[-1], c.x
    z = last.out(last.value(last.norm1(x))) + x
    values = tower.post_norm(z + last.ffn(z))[:, 1:]
    f = F.normalize(attention.heads["obj_proj"](guide_map).flatten(2).transpose(1, 2), dim=-1)
    w = f @ f.transpose(1, 2)
    w = torch.where(w < 0.2, 0.0, w)
    want = w @ values / (w.sum(-1, keepdim=True) + 1e-6)
    torch.testing.assert_close(out.tokens, want, atol=1e-4, rtol=1e-4)
    scores = torch.tensor([[0.6, 0.4], [0.995, 0.005], [0.6, 0.4]]).T.reshape(1, 2, 1, 3).clone()
    features = FeatureMap(torch.zeros(1, 3, 4), (1, 3), objectness=torch.tensor([[0.2, 0.2, 0.8]]))
    placed = attention.place_background(scores, features, 1)
    torch.testing.assert_close(placed[0, 1, 0], torch.tensor([1.0, 0.005, 0.4]))
