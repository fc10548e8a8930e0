"""ovseg.backbones.kernels against plain torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transformer import QuickGELU
from torch import nn

from ovseg.backbones import kernels
from ovseg.backbones.dino import trunk_tower
from ovseg.backbones.kernels import apply_linear, attention, feed_forward, linear, patch_embedding
from tests.small_guides import small_dinov3
from tests.small_models import small_eva_trunk
from tests.weight_edits import EDITS

needs_packing = pytest.mark.skipif(bool(kernels.packing_reasons()), reason=f"no packing: {kernels.packing_reasons()}")
ACTIVATIONS = {"gelu": nn.GELU(), "tanh": nn.GELU("tanh"), "quick": QuickGELU(), "silu": nn.SiLU()}


def frozen(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)


@needs_packing
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 50), st.integers(1, 60), st.booleans(), st.booleans(), st.integers(0, 99))
def test_linear_is_torchs(rows, inputs, outputs, bias, batched, seed):
    torch.manual_seed(seed)
    layer, x = frozen(inputs, outputs, bias), torch.randn(2 if batched else 1, rows, inputs)
    torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x), rtol=1e-5, atol=1e-5)
    part = slice(outputs // 2, outputs)
    torch.testing.assert_close(linear(x, layer.weight, layer.bias, part), layer(x)[..., part], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("bf16", [False, True])
def test_feed_forward_is_the_modules(name, bf16):
    torch.manual_seed(0)
    first, second, x = frozen(24, 96), frozen(96, 24), torch.randn(3, 17, 24)
    expected = second(ACTIVATIONS[name](first(x)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        result = feed_forward(x, first, ACTIVATIONS[name], second)
    assert result.dtype == (torch.bfloat16 if bf16 else torch.float32)
    tolerance = 2e-2 if bf16 else 2e-5
    torch.testing.assert_close(result.float(), expected, rtol=tolerance, atol=tolerance)


@needs_packing
@pytest.mark.parametrize("bf16", [False, True])
def test_feed_forward_of_many_rows_goes_in_parts(monkeypatch, bf16):
    torch.manual_seed(0)
    first, second, x = frozen(24, 96), frozen(96, 40), torch.randn(3, 17, 24)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        whole = feed_forward(x, first, nn.GELU(), second)
        monkeypatch.setattr(kernels, "HIDDEN_BYTES", 2000)
        parts = feed_forward(x, first, nn.GELU(), second)
    assert parts.shape == (3, 17, 40) and torch.equal(parts, whole)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("packing", [False, pytest.param(True, marks=needs_packing)])
def test_patch_embedding_is_the_convolution(monkeypatch, bf16, packing):
    if not packing:
        monkeypatch.setattr(kernels, "packing_reasons", lambda: ("switched off",))
    torch.manual_seed(0)
    layer, images = nn.Conv2d(3, 20, (4, 5), (4, 5)).requires_grad_(False), torch.randn(2, 3, 19, 33)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        result = patch_embedding(images, layer)
    assert result.shape == (2, 4, 6, 20) and result.dtype == (torch.bfloat16 if bf16 else torch.float32)
    tolerance = 2e-2 if bf16 else 1e-5
    torch.testing.assert_close(result.float(), layer(images).permute(0, 2, 3, 1), rtol=tolerance, atol=tolerance)


def test_patch_embedding_wants_patches():
    with pytest.raises(ValueError, match="stride must equal its kernel"):
        patch_embedding(torch.randn(1, 3, 8, 8), nn.Conv2d(3, 4, 4, stride=2))


def test_trained_layers_keep_their_gradients():
    layer, x = nn.Linear(8, 8), torch.randn(4, 8)
    linear(x, layer.weight, layer.bias).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.sum(0).expand(8, 8))


def test_a_changed_weight_is_packed_again():
    layer, x = frozen(8, 8), torch.randn(4, 8)
    linear(x, layer.weight, layer.bias)
    layer.weight.mul_(2)
    torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x))
    layer.weight.data = torch.randn(8, 8)
    torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x))


@needs_packing
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_do_not_depend_on_the_batch(dtype):
    torch.manual_seed(0)
    layer, x = frozen(192, 576).to(dtype), torch.randn(9, 50, 192).to(dtype)
    together = linear(x, layer.weight, layer.bias)
    alone = torch.cat([linear(one[None], layer.weight, layer.bias) for one in x])
    assert torch.equal(together, alone)


def test_packing_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(kernels.ENVIRONMENT_VARIABLE, "0")
    kernels.packing_reasons.cache_clear()
    try:
        layer, x = frozen(8, 8), torch.randn(4, 8)
        assert torch.equal(linear(x, layer.weight, layer.bias), F.linear(x, layer.weight, layer.bias))
        assert kernels.packing_reasons() == (f"{kernels.ENVIRONMENT_VARIABLE}=0",)
        assert layer.weight not in kernels._packed
    finally:
        kernels.packing_reasons.cache_clear()


@pytest.mark.parametrize(
    "tokens, dtype", [(7, torch.float32), (7, torch.bfloat16), (300, torch.bfloat16), (601, torch.bfloat16)]
)
def test_attention_is_the_softmax_of_its_logits(monkeypatch, tokens, dtype):
    monkeypatch.setattr(kernels, "BLOCK_BYTES", 1 << 19)  # 601 tokens: blocks of 436 and 165 rows
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, tokens, 16).to(dtype) for _ in range(3))
    weights = torch.softmax(0.25 * q.float() @ k.float().mT, dim=-1)
    expected = (weights @ v.float()).transpose(1, 2).flatten(2)
    with torch.no_grad():
        result = attention(q, k, v, 0.25)
    assert result.shape == (2, tokens, 48) and result.dtype == dtype
    error = (result.float() - expected).norm() / expected.norm()
    assert error < (1e-6 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("activation", ["gelu", "quick"])
def test_packed_copies_follow_the_weights(edit, activation):
    torch.manual_seed(0)
    module, x = nn.ModuleList([frozen(24, 96), frozen(96, 24)]), torch.randn(40, 24)
    first = feed_forward(x, module[0], ACTIVATIONS[activation], module[1])
    linear(x, module[0].weight, module[0].bias, slice(8, 20))
    edited = EDITS[edit](module)
    expected = edited[1](ACTIVATIONS[activation](edited[0](x)))
    assert not torch.allclose(first, expected, atol=1e-3)
    torch.testing.assert_close(
        feed_forward(x, edited[0], ACTIVATIONS[activation], edited[1]), expected, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        linear(x, edited[0].weight, edited[0].bias, slice(8, 20)), edited[0](x)[:, 8:20], rtol=1e-4, atol=1e-4
    )


def test_a_bias_alone_is_followed():
    layer, x = frozen(8, 8), torch.randn(4, 8)
    linear(x, layer.weight, layer.bias)
    layer.bias.data.add_(1)
    torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x))


def test_weights_of_numpy_are_followed():
    array, x = np.ones((8, 8), np.float32), torch.randn(4, 8)
    layer = nn.Linear(8, 8).requires_grad_(False)
    layer.weight = nn.Parameter(torch.from_numpy(array), requires_grad=False)
    for factor in (1, 2, 3):
        array *= factor
        torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x))


class Adapter(nn.Linear):
    """A layer with a low-rank part beside its weight, as adapters have."""

    def forward(self, x):
        return super().forward(x) + x.sum(-1, keepdim=True)


def test_adapters_hooks_and_parametrisations_are_not_passed_by():
    x = torch.randn(4, 8)
    adapted, hooked, parametrised = Adapter(8, 8).requires_grad_(False), frozen(8, 8), frozen(8, 8)
    hooked.register_forward_hook(lambda module, args, output: output * 2)
    nn.utils.parametrizations.weight_norm(parametrised)
    for layer in (adapted, hooked, parametrised):
        assert torch.equal(apply_linear(x, layer), layer(x))
        assert torch.equal(apply_linear(x, layer, slice(2, 5)), layer(x)[:, 2:5])
        expected = layer(nn.GELU()(layer(x)))
        assert torch.equal(feed_forward(x, layer, nn.GELU(), layer), expected)


@needs_packing
def test_packed_in_inference_mode_and_used_outside():
    layer, x = frozen(8, 8), torch.randn(4, 8)
    with torch.inference_mode():
        linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x))


@pytest.mark.parametrize("tokens", [7, 197, 300])
def test_bf16_attention_of_a_window_does_not_depend_on_the_others(tokens):
    torch.manual_seed(0)
    q, k, v = (torch.randn(5, 3, tokens, 16).bfloat16() for _ in range(3))
    with torch.no_grad():
        whole = attention(q, k, v, 0.25)
        alone = torch.cat([attention(q[i : i + 1], k[i : i + 1], v[i : i + 1], 0.25) for i in range(5)])
    assert torch.equal(whole, alone)


def test_hooks_of_a_patch_embedding_are_not_passed_by():
    layer, images = nn.Conv2d(3, 4, 4, 4).requires_grad_(False), torch.randn(1, 3, 8, 8)
    layer.register_forward_hook(lambda module, inputs, output: output + 1)
    torch.testing.assert_close(patch_embedding(images, layer), layer(images).permute(0, 2, 3, 1))


@needs_packing
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_layers_in_bf16_give_fp32(name):
    torch.manual_seed(0)
    first, second, x = frozen(24, 96), frozen(96, 24), torch.randn(3, 17, 24)
    with kernels.layers_in(torch.bfloat16):
        results = linear(x, first.weight, first.bias), feed_forward(x, first, ACTIVATIONS[name], second)
    for result, expected in zip(results, (first(x), second(ACTIVATIONS[name](first(x)))), strict=True):
        assert result.dtype == torch.float32 and 1e-4 < (result - expected).norm() / expected.norm() < 2e-2


@needs_packing
@pytest.mark.parametrize("build", [small_dinov3, lambda: small_eva_trunk(True), lambda: small_eva_trunk(False)])
def test_blocks_with_rotary_positions_use_packed_weights(build):
    """DINOv3's and EVA-02's: the same numbers as timm's own block, from weights that are packed."""
    tower = trunk_tower(build())
    x = torch.randn(2, tower.num_prefix + 12, tower.width, generator=torch.Generator().manual_seed(0))
    for block in tower.blocks:
        with torch.no_grad():
            torch.testing.assert_close(block(x, (3, 4)), block.block(x, rope=block.rotation((3, 4))))
        layers = [layer for layer in block.block.modules() if isinstance(layer, torch.nn.Linear)]
        assert len(layers) >= 4 and all(layer.weight in kernels._packed for layer in layers)
