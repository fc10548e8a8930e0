"""ovseg.backbones.int8 against the same arithmetic in float64, and against fp32 layers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from ovseg.backbones import int8, kernels
from ovseg.backbones.clip import ClipBackbone
from ovseg.backbones.kernels import feed_forward, layers_in, linear

pytestmark = pytest.mark.skipif(
    bool(int8.int8_reasons() or kernels.packing_reasons()),
    reason=f"no int8: {int8.int8_reasons()} {kernels.packing_reasons()}",
)
ACTIVATIONS = {"gelu": nn.GELU(), "tanh": nn.GELU("tanh"), "quick": QuickGELU(), "silu": nn.SiLU()}


def rounded(x: Tensor) -> Tensor:
    """The definition: every row to 255 levels, in float64."""
    step = (x.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127).double()
    return (x.double() / step).round() * step


def defined(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return rounded(x) @ rounded(weight).T + (0 if bias is None else bias.double())


def frozen(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 130), st.integers(1, 130), st.booleans(), st.integers(-8, 8), st.integers(0, 999)
)
def test_product_is_the_definition(rows, inputs, outputs, bias, exponent, seed):
    torch.manual_seed(seed)
    x, layer = torch.randn(rows, inputs) * 10.0**exponent, frozen(inputs, outputs, bias)
    with layers_in(torch.int8):
        result = linear(x[None], layer.weight, layer.bias)[0]
    expected = defined(x, layer.weight, layer.bias)
    # a value half-way between two levels may fall to either side
    step = (x.abs().amax(1, keepdim=True) / 127) * layer.weight.abs().amax(1)
    assert ((result - expected).abs() <= 1e-5 * expected.abs() + 1.01 * step + 1e-6).all()
    assert ((result - expected).abs() <= 1e-4 * step + 1e-5 * expected.abs() + 1e-6).float().mean() > 0.9


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 600), st.integers(8, 96), st.integers(0, 999))
def test_rows_do_not_depend_on_each_other(rows, inputs, seed):
    torch.manual_seed(seed)
    x, first, second = torch.randn(rows, inputs), frozen(inputs, 24), frozen(24, inputs)
    with layers_in(torch.int8):
        alone = torch.cat([linear(row[None], first.weight, first.bias) for row in x[:5]])
        assert torch.equal(linear(x, first.weight, first.bias)[:5], alone)
        alone = torch.cat([feed_forward(row[None], first, nn.GELU(), second) for row in x[:5]])
        assert torch.equal(feed_forward(x, first, nn.GELU(), second)[:5], alone)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("bf16", [False, True])
def test_feed_forward_is_near_fp32(name, bf16):
    torch.manual_seed(0)
    first, second, x = frozen(96, 384), frozen(384, 96), torch.randn(3, 170, 96)
    expected = second(ACTIVATIONS[name](first(x)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16), layers_in(torch.int8):
        result = feed_forward(x, first, ACTIVATIONS[name], second)
    assert result.dtype == (torch.bfloat16 if bf16 else torch.float32) and result.shape == x.shape
    error = float((result - expected).norm() / expected.norm())
    assert 1e-3 < error < 0.02, "int8 ran, and is near"


def test_outputs_that_are_wanted():
    torch.manual_seed(0)
    layer, x = frozen(40, 30), torch.randn(2, 7, 40)
    with layers_in(torch.int8):
        whole, part = (linear(x, layer.weight, layer.bias, rows) for rows in (slice(None), slice(10, 20)))
    assert torch.equal(whole[..., 10:20], part)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 1e38, 1e-38])
def test_extreme_rows_stay_alone(value):
    torch.manual_seed(0)
    layer, x = frozen(16, 8), torch.randn(3, 16)
    x[1] = value
    with layers_in(torch.int8):
        result = linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(result[[0, 2]], layer(x)[[0, 2]], rtol=0.05, atol=0.05)
    if value == 0:
        torch.testing.assert_close(result[1], layer.bias)
    elif value in (1e38, 1e-38):
        torch.testing.assert_close(result[1], layer(x)[1], rtol=0.05, atol=0.05 * abs(float(layer(x)[1].abs().max())))
    else:
        assert not torch.isfinite(result[1]).any(), "what is not a number stays none"


def test_rows_of_weights_that_are_nothing():
    layer = frozen(16, 8)
    layer.weight[3] = 0
    with layers_in(torch.int8):
        result = linear(torch.randn(5, 16), layer.weight, layer.bias)
    assert torch.equal(result[:, 3], layer.bias[3].expand(5))


def test_changed_weights_are_packed_again():
    torch.manual_seed(0)
    layer, x = frozen(16, 8), torch.randn(5, 16)
    with layers_in(torch.int8):
        linear(x, layer.weight, layer.bias)
        layer.weight.data.mul_(-2)
        layer.bias.data.add_(1)
        result = linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(result, layer(x), rtol=0.05, atol=0.05)


def test_weights_are_packed_once(monkeypatch):
    packed, pack = [], int8.pack
    monkeypatch.setattr(int8, "pack", lambda weight: packed.append(1) or pack(weight))
    first, second, x = frozen(16, 64), frozen(64, 16), torch.randn(600, 16)
    with layers_in(torch.int8):
        for activation in (nn.GELU(), nn.SiLU(), nn.GELU()):
            feed_forward(x, first, activation, second)
    assert len(packed) == 2


def test_both_packings_of_a_weight_live_side_by_side():
    torch.manual_seed(0)
    layer, x = frozen(16, 8), torch.randn(5, 16)
    with layers_in(torch.int8):
        first = linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x), rtol=1e-5, atol=1e-5)
    with layers_in(torch.int8):
        assert torch.equal(linear(x, layer.weight, layer.bias), first)


def test_clip_in_int8_is_near_fp32(monkeypatch):
    torch.manual_seed(0)
    model = ClipBackbone("nano", precision="int8")
    images = torch.randn(2, 3, 64, 80)
    with torch.no_grad():
        quick, _ = model._run(images, (), model.settled)
        model.precision = "fp32"
        exact, _ = model._run(images, (), model.settled)
    error = float((quick.float() - exact).norm() / exact.norm())
    assert 1e-4 < error < 0.03


def test_reasons(monkeypatch):
    int8.int8_reasons.cache_clear()
    monkeypatch.setattr(int8, "processor", lambda: Old)
    try:
        assert int8.int8_reasons() == ("this CPU (old) has none of avx512_vnni, avx_vnni, amx_int8",)
    finally:
        int8.int8_reasons.cache_clear()


class Old:
    name, flags = "old", frozenset({"avx2"})
