"""Outlier tokens and their repair, against loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.attention import outliers as o
from ovseg.backbones.towers import build_tower
from tests.small_models import images, small_clip


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def factor_by_hand(x, neighbours):
    distance = ((x[:, None] - x) ** 2).sum(-1)
    order = [sorted((d.item(), j) for j, d in enumerate(row) if j != i)[:neighbours] for i, row in enumerate(distance)]
    reach = [found[-1][0] for found in order]
    return torch.tensor([sum(reach[i] / reach[j] for _, j in found) / len(found) for i, found in enumerate(order)])


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 35), st.integers(0, 1000))
def test_local_outlier_factor_is_its_definition(count, width, neighbours, seed):
    x = normal(2, count, width, seed=seed)
    got = o.local_outlier_factor(x, neighbours)
    for sample, factors in zip(x, got, strict=True):
        torch.testing.assert_close(factors, factor_by_hand(sample, min(neighbours, count - 1)), rtol=1e-3, atol=1e-4)


def test_local_outlier_factor_in_blocks_of_rows_and_at_the_edges(monkeypatch):
    x = normal(1, 50, 8)
    whole = o.local_outlier_factor(x, 30)
    monkeypatch.setattr(o, "ROW_ELEMENTS", 50 * 7)
    torch.testing.assert_close(o.local_outlier_factor(x, 30), whole)
    assert o.local_outlier_factor(x[:, :1]).tolist() == [[1.0]]
    assert o.local_outlier_factor(torch.ones(1, 9, 4), 3).tolist() == [[1.0] * 9]
    far = torch.cat([x[0], torch.full((1, 8), 30.0)])[None]
    assert int(o.local_outlier_factor(far).argmax()) == 50
    half = o.local_outlier_factor(x.half())
    assert half.dtype == torch.float32 and torch.allclose(half, o.local_outlier_factor(x.half().float()))


def test_beyond_quantile_takes_ten_of_196():
    factors = normal(3, 196)
    assert o.beyond_quantile(factors).sum(1).tolist() == [10, 10, 10]
    assert not o.beyond_quantile(torch.ones(1, 5)).any()


def test_largest_takes_candidates_only():
    values = torch.tensor([[5.0, 4, 3, 2, 1], [1, 2, 3, 4, 5]])
    allowed = torch.tensor([[False, True, True, False, True], [False, False, True, False, False]])
    assert o.largest(values, 2, allowed).tolist() == [
        [False, True, True, False, False],
        [False, False, True] + 2 * [False],
    ]
    assert o.largest(values, 99).all() and not o.largest(values, 0).any()


@pytest.mark.parametrize("keep_alone", [True, False])
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 7), st.floats(0, 1), st.integers(0, 1000))
def test_repair_is_the_mean_of_sound_neighbours(keep_alone, height, width, share, seed):
    tokens = normal(1, height * width, 3, seed=seed)
    bad = torch.rand(1, height * width, generator=torch.Generator().manual_seed(seed)) < share
    want = tokens.clone()
    for y in range(height):
        for x in range(width):
            if not bad[0, y * width + x]:
                continue
            around = [
                tokens[0, i * width + j]
                for i in range(max(0, y - 1), min(height, y + 2))
                for j in range(max(0, x - 1), min(width, x + 2))
                if (i, j) != (y, x) and not bad[0, i * width + j]
            ]
            if around:
                want[0, y * width + x] = torch.stack(around).mean(0)
            elif not keep_alone:
                want[0, y * width + x] = 0
    torch.testing.assert_close(o.repair(tokens, bad, (height, width), keep_alone), want, atol=1e-5, rtol=1e-5)


def test_class_and_self_attention_are_entries_of_the_whole_map(monkeypatch):
    tower = build_tower(small_clip().visual)
    block, x = tower.blocks[1], tower.embed(images(2, 3, 48, 80))
    q, k, _ = block.qkv(block.norm1(x))
    whole = (q @ k.mT * block.scale).softmax(-1).mean(1)
    monkeypatch.setattr(o, "ROW_ELEMENTS", 2 * 2 * 16 * 4)  # four rows at a time
    of_class, own = o.class_and_self_attention(block, x, (3, 5), 1)
    torch.testing.assert_close(of_class, whole[:, 0, 1:])
    torch.testing.assert_close(own, whole.diagonal(dim1=1, dim2=2)[:, 1:])
    with pytest.raises(ValueError, match="no class token"):
        o.class_and_self_attention(block, x, (4, 4), 0)
