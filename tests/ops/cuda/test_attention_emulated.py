"""The attention kernels, run on the CPU (`emulate.py`), against the definitions.

Sizes are chosen around the tiles of 64 queries, 64 keys, 64 deep steps and 128 value columns, and so that few
instantiations have to be compiled. `test_sweep` (slow) draws the calls of the back-end sweep.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovseg import ops
from ovseg.ops.cuda import attention
from tests.ops.cases import CASES, Case, close, correlation_agrees, tolerance
from tests.ops.cuda.emulate import emulated, needs_emulation

pytestmark = needs_emulation
HALF, BF16, FP32 = torch.float16, torch.bfloat16, torch.float32


SIZES = [(1, 1, 1, 1), (7, 5, 9, 2), (65, 64, 128, 1), (130, 70, 130, 2)]


@pytest.fixture
def g():
    return torch.Generator().manual_seed(0)


def check(case: Case, backwards: bool = False) -> torch.Tensor:
    with emulated(backwards):
        result = case.run("cuda")
    case.agree(result, case.run("reference"))
    return result


def correlation(g, count, depth, columns, batch=1, features=BF16, values=BF16, **kwargs) -> Case:
    unit = F.normalize(torch.randn(batch, count, depth, generator=g) + 0.7 * torch.randn(depth, generator=g), dim=-1)
    unit, v = unit.to(features), torch.randn(batch, count, columns, generator=g).to(values)
    kwargs = dict(scale=3.0, beta=1.0, threshold=0.0, mean_scope="sample") | kwargs
    coarse = max(features, values, key=lambda t: torch.finfo(t).eps)
    return Case(ops.correlation_attention, (unit, v), kwargs, correlation_agrees(unit, kwargs, coarse))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("count", "depth", "columns", "batch"), [(1, 1, 1, 1), (7, 5, 9, 2), (65, 64, 128, 1), (130, 70, 130, 2)]
)
def test_correlation_sizes(g, count, depth, columns, batch, backwards):
    check(correlation(g, count, depth, columns, batch, mean_scope="batch"), backwards)


@pytest.mark.parametrize(("features", "values"), [(FP32, FP32), (FP32, BF16), (HALF, HALF)])
def test_correlation_types(g, features, values):
    check(correlation(g, 130, 40, 20, features=features, values=values, beta=1.2))
    check(correlation(g, 66, 40, 20, features=features, values=values, scale=100.0))


def test_correlation_is_exact_to_fp32(g):
    """Similarities of fp32 features are summed from six products of bf16 pieces: no worse than fp32 arithmetic."""
    case = correlation(g, 70, 768, 16, features=FP32, values=FP32, scale=20.0, beta=0.0, threshold=-1.0)
    features, values = case.args
    expected = (20 * (features.double() @ features.double().mT)).softmax(-1) @ values.double()
    assert (check(case) - expected).norm() / expected.norm() < 2e-5


@pytest.mark.parametrize("normaliser", ["softmax", "sum"])
@pytest.mark.parametrize("empty", ["self", "nan"])
def test_correlation_rows_that_keep_nothing(g, normaliser, empty):
    case = correlation(g, 70, 40, 20, threshold=2.0, normaliser=normaliser, empty=empty)
    result = check(case)
    expected = {("self", "softmax"): case.args[1], ("self", "sum"): case.args[1], ("nan", "sum"): torch.zeros(1)}
    if (empty, normaliser) in expected:
        assert torch.equal(result, expected[empty, normaliser].to(BF16).expand_as(result))
    else:
        assert result.isnan().all()


@pytest.mark.parametrize("values", [BF16, FP32])
def test_correlation_of_some_empty_rows(g, values):
    """Rows 0 to 9 resemble no other row and not even themselves enough: unit length is up to the caller."""
    case = correlation(g, 100, 40, 20, features=values, values=values)
    case.args[0][:, :10] *= 0.1
    result = check(Case(case.function, case.args, case.kwargs, correlation_agrees(case.args[0], case.kwargs, values)))
    assert torch.equal(result[:, :10], case.args[1][:, :10])


@pytest.mark.parametrize("unsegmented", [None, 5])
def test_correlation_regions(g, unsegmented):
    """Ids beyond 32 bits, regions of one token, whole tiles that keep nothing of each other."""
    ids = torch.randint(0, 9, (2, 200), generator=g) + (torch.arange(200) // 50) * 100 + (1 << 33)
    ids[:, 3] = -7
    given = {} if unsegmented is None else {"unsegmented": ids[:, unsegmented]}
    check(correlation(g, 200, 40, 20, 2, region_ids=ids, **given))
    check(
        correlation(g, 200, 40, 20, 2, region_ids=ids // 100, beta=4.0)
    )  # neighbouring tokens: some tiles are skipped


def test_correlation_at_vit_width(g, monkeypatch):
    """768 columns in one block: all accumulators in use (what a GPU with few multiprocessors runs)."""
    monkeypatch.setattr(attention, "device_limits", lambda device: (1, 227 << 10))
    assert attention.split_columns(2, 768, 72, 1, 1) == attention.MAX_TILES
    check(correlation(g, 70, 72, 768))


def test_growing_maxima_are_followed(g):
    """Later keys weigh e^60 times more than earlier ones: sums so far are rescaled."""
    features = torch.eye(40)[torch.zeros(200, dtype=torch.long)] * torch.linspace(0.1, 3, 200)[:, None]
    values = torch.randn(1, 200, 20, generator=g)
    kwargs = dict(scale=7.0, threshold=-1.0)
    check(Case(ops.correlation_attention, (features[None], values), kwargs, close(1e-4, 1e-4)))


def heads(g, count, width, dtype, batch=2, number=2) -> list[torch.Tensor]:
    return [torch.randn(batch, number, count, width, generator=g).to(dtype) for _ in range(3)]


def head_case(function, dtype, *args, **kwargs) -> Case:
    return Case(function, args, kwargs, close(10 * tolerance(dtype), 10 * tolerance(dtype)))


@pytest.mark.parametrize("dtype", [BF16, FP32])
@pytest.mark.parametrize("combine", ["sum", "softmax"])
def test_self_self(g, dtype, combine):
    for count, terms in ((1, ("qq",)), (65, ("qq", "kk")), (130, ("vv", "kk", "qq"))):
        q, k, v = heads(g, count, 20, dtype)
        check(head_case(ops.self_self_attention, dtype, q, k, v, terms=terms, combine=combine))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_neighbour_bias(g, prefix, backwards):
    for grid in ((1, 1), (7, 1), (1, 66), (11, 13)):
        q, k, v = heads(g, grid[0] * grid[1] + prefix, 16, HALF)
        kwargs = dict(terms=("kk",), neighbour_std=2.0, grid=grid)
        check(head_case(ops.self_self_attention, HALF, q, k, v, **kwargs), backwards)


def tables(g, grid, width, dtype) -> list[torch.Tensor]:
    return [ops.relative_positions(0.3 * torch.randn(2 * n - 1, width, generator=g), n).to(dtype) for n in grid]


@pytest.mark.parametrize(("dtype", "width"), [(BF16, 64), (FP32, 30)])
@pytest.mark.parametrize("grid", [(1, 1), (14, 14), (3, 67)])
def test_decomposed(g, dtype, width, grid):
    q, k, v = heads(g, grid[0] * grid[1], width, dtype)
    check(head_case(ops.decomposed_attention, dtype, q, k, v, *tables(g, grid, width, dtype)))


@pytest.mark.parametrize("dtype", [BF16, FP32])
@pytest.mark.parametrize(("grid", "valid"), [((1, 1), (1, 1)), ((9, 15), (9, 15)), ((12, 12), (7, 11))])
def test_guided(g, dtype, grid, valid):
    q, k, v = (t[0] for t in heads(g, grid[0] * grid[1], 70, dtype, batch=1, number=3))
    tokens = torch.randn(valid[0] * valid[1], 20, generator=g).to(dtype)
    for cos_factor, keep_negative in ((0.0, True), (1.2, False)):
        kwargs = dict(valid=valid, cos_factor=cos_factor, keep_negative=keep_negative, scale=0.1)
        arguments = (q, k, v + 0.5, *tables(g, grid, 70, dtype), tokens)
        check(head_case(ops.guided_aggregation, dtype, *arguments, **kwargs))


def test_what_is_not_taken_is_said(g, monkeypatch):
    def reasons(operator, *args):
        with emulated():
            return "; ".join(ops.not_supported_reasons(operator, "cuda", *args))

    wide = heads(g, 4, 130, BF16)
    assert "heads of width 130, at most 128" in reasons("self_self_attention", *wide, "q", 1.0, "sum", [2, 2], 0.0)
    q, k, v = heads(g, 4, 112, FP32)
    monkeypatch.setattr(attention, "device_limits", lambda device: (128, 99 << 10))
    assert "shared memory" in reasons("self_self_attention", q, k, v, "qkv", 1.0, "sum", [2, 2], 0.0)
    assert "differ in type" in reasons("self_self_attention", q, k, v.half(), "q", 1.0, "sum", [2, 2], 0.0)
    q, k, v = heads(g, 4, 64, FP32)
    assert reasons("self_self_attention", q, k, v, "q", 1.0, "sum", [2, 2], 0.0) == ""


def test_columns_are_split_where_that_fills_the_gpu():
    one_image, many = (attention.split_columns(blocks, 768, 768, 1, 132) for blocks in (64, 64 * 8))
    assert one_image == 6  # 128 blocks of 384 columns on 132 multiprocessors
    assert many == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    "operator", ["correlation_attention", "self_self_attention", "decomposed_attention", "guided_aggregation"]
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_sweep(operator, data):
    check(data.draw(CASES[operator]))
