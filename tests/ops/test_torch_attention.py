"""Correlation attention on CPU: the symmetric path at its block borders, its two kinds of product, when it is left."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg import ops
from ovseg.ops import torch_attention
from tests.ops.cases import correlation_agrees, integers, normal, seeded


def blocks(side: int, share: float):
    """Blocks of ``side`` tokens; products by single rows where less than ``share`` of a block is kept."""
    return mock.patch.multiple(
        torch_attention, BLOCK=side, REGION_BLOCK=max(1, side // 2), SPARSE_WIDTH=1, SPARSE_SHARE=share
    )


def count_sparse_products():
    return mock.patch.object(torch_attention.F, "embedding_bag", wraps=F.embedding_bag)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_block_size_gives_the_definition(data):
    draw = data.draw
    g, dtype = seeded(draw), draw(st.sampled_from((torch.float32, torch.float32, torch.bfloat16)))
    batch, count, d = (
        draw(st.integers(1, 3)),
        draw(st.sampled_from((1, 2, 19, 33, 50, 70))),
        draw(st.sampled_from((24, 3, 1))),
    )
    features = F.normalize(normal(g, batch, count, d) + draw(st.sampled_from((0.0, 0.7))), dim=-1)
    features[integers(g, 0, draw(st.sampled_from((1, 2, 6, 9))), batch, count) == 1] = 0  # similar to nothing
    features = features * draw(st.sampled_from((1.0, 0.3)))
    kwargs = dict(
        scale=draw(st.sampled_from((1.0, 4.0))),  # at 30 a token sees little but itself
        beta=draw(st.sampled_from((0.0, 1.2))),
        threshold=draw(st.sampled_from((-1.1, 0.0, 0.1, 0.25, 0.95))),
        mean_scope=draw(st.sampled_from(("sample", "batch"))),
        normaliser=draw(st.sampled_from(("softmax", "sum"))),
        empty=draw(st.sampled_from(("self", "nan"))),
    )
    if kwargs["normaliser"] == "sum":  # as in cases.py: weights of both signs make the sum arbitrarily small
        kwargs["threshold"], kwargs["scale"] = max(0.0, kwargs["threshold"]), 3.0
    elif draw(st.booleans()):
        kwargs["region_ids"] = integers(g, -1, draw(st.sampled_from((1, 5, 100))), batch, count)
    values = normal(g, batch, count, draw(st.integers(1, 6))).to(dtype)
    side, share = draw(st.sampled_from((1, 5, 7, 16))), draw(st.sampled_from((2.0, 0.3, 0.0)))
    with blocks(side, share):
        result = ops.correlation_attention(features, values, **kwargs, backend="torch")
    expected = ops.correlation_attention(features, values, **kwargs, backend="reference")
    correlation_agrees(features, kwargs, dtype)(result, expected)


@pytest.mark.parametrize("scale", [31.0, 0.0, -2.0, 1e-40])
@pytest.mark.parametrize("with_regions", [False, True])
def test_scales_that_need_the_general_path(scale, with_regions):
    g = torch.Generator().manual_seed(0)
    features, values = F.normalize(normal(g, 2, 40, 6), dim=-1), normal(g, 2, 40, 5)
    kwargs = dict(scale=scale, threshold=0.2, region_ids=integers(g, 0, 3, 2, 40) if with_regions else None)
    with mock.patch.object(torch_attention, "_symmetric", side_effect=AssertionError("not for this scale")):
        result = ops.correlation_attention(features, values, **kwargs, backend="torch")
    expected = ops.correlation_attention(features, values, **kwargs, backend="reference")
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("with_regions", [False, True])
@pytest.mark.parametrize("longer", [3.0, 100.0])
def test_a_sample_does_not_depend_on_its_batch(longer, with_regions):
    """Not even in the last bit: a neighbour of long features must change neither the exponents nor the path."""
    g = torch.Generator().manual_seed(0)
    features, values = F.normalize(normal(g, 2, 90, 16) + 0.5, dim=-1), normal(g, 2, 90, 16)
    features[1] *= longer
    ids = integers(g, 0, 4, 2, 90) if with_regions else None
    call = dict(scale=3.0, beta=1.2, backend="torch")
    with blocks(32, 0.15):
        both = ops.correlation_attention(features, values, region_ids=ids, **call)
        for i in range(2):
            one = slice(i, i + 1)
            alone = ops.correlation_attention(
                features[one], values[one], region_ids=ids[one] if with_regions else ids, **call
            )
            assert torch.equal(both[one], alone)


@pytest.mark.parametrize(
    ("threshold", "dtype", "width", "sparse"),
    [
        (0.8, torch.float32, 512, True),
        (-1.1, torch.float32, 512, False),  # keeps all
        (0.8, torch.float32, 511, False),  # a matrix product of narrow values costs little
        (0.8, torch.bfloat16, 512, False),  # bf16 products are fast
    ],
)
def test_products_by_single_rows_where_they_pay(threshold, dtype, width, sparse):
    g = torch.Generator().manual_seed(0)
    count = torch_attention.BLOCK + 30
    features, values = F.normalize(normal(g, 1, count, 6), dim=-1), normal(g, 1, width, count).mT.to(dtype)
    kwargs = dict(scale=3.0, threshold=threshold)
    with count_sparse_products() as products:
        result = ops.correlation_attention(features, values, **kwargs, backend="torch")
    assert products.called == sparse
    expected = ops.correlation_attention(features, values, **kwargs, backend="reference")
    correlation_agrees(features, dict(kwargs, beta=0.0, mean_scope="sample"), dtype)(result, expected)


@pytest.mark.parametrize("scale", [30.0, 31.0])
def test_a_zero_feature_keeps_everything_or_itself(scale):
    """With the largest exponents of the path without a row maximum (30: from -60 to 0) and just above."""
    g = torch.Generator().manual_seed(0)
    features, values = F.normalize(normal(g, 1, 40, 6), dim=-1), normal(g, 1, 40, 5)
    features[0, 7] = 0
    with blocks(16, 0.15):
        all_alike = ops.correlation_attention(features, values, scale=scale, threshold=-1.1, backend="torch")
        cut_off = ops.correlation_attention(features, values, scale=scale, threshold=0.1, backend="torch")
    torch.testing.assert_close(all_alike[0, 7], values[0].mean(0), atol=1e-5, rtol=1e-5)
    assert torch.equal(cut_off[0, 7], values[0, 7])


@pytest.mark.parametrize("normaliser", ["softmax", "sum"])
def test_a_similarity_at_the_limit_is_kept(normaliser):
    """Basis vectors: similarities of exactly 0 and 1, limits of exactly those."""
    features, values = torch.eye(20)[None], torch.arange(20.0)[None, :, None]
    for share in (0.0, 2.0):
        with blocks(8, share):
            own = ops.correlation_attention(
                features, values, scale=2.0, threshold=1.0, normaliser=normaliser, backend="torch"
            )
        torch.testing.assert_close(own, values, atol=1e-4, rtol=1e-5)
        with blocks(8, share):
            every = ops.correlation_attention(features, values, scale=2.0, threshold=0.0, backend="torch")
        weight = torch.ones(20, 20) + torch.eye(20) * (torch.tensor(2.0).exp() - 1)
        torch.testing.assert_close(every[0], weight / weight.sum(1, keepdim=True) @ values[0])
