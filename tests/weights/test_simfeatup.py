"""SimFeatUp's upsampler against the plain form: every tap padded, sliced and summed, all channels at pixel size."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ovseg.weights import simfeatup
from ovseg.weights.simfeatup import JointBilateralUpsampler, Tiles, reflected, upsampler_keys

GRID = (3, 4)


@pytest.fixture(scope="module")
def upsampler():
    torch.manual_seed(0)
    model = JointBilateralUpsampler(width=12, key_dim=6, radius=2).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def plainly(model, features, image):
    layer, r, maps = model.up, model.up.radius, features.permute(2, 0, 1)[None]
    for stage in range(1, 5):
        size = (GRID[0] * 2**stage, GRID[1] * 2**stage)
        g = F.adaptive_avg_pool2d(image[None], size)
        source = F.pad(F.interpolate(maps, size=size, mode="bicubic", align_corners=False), [r] * 4, mode="reflect")
        keys = layer.range_proj(g)
        around = F.unfold(F.pad(keys, [r] * 4, mode="reflect"), 2 * r + 1).view(1, 6, -1, *size)
        logits = layer.range_temp.exp().clamp(1e-4, 1e4) * (around * keys[:, :, None]).sum(1)
        y, x = torch.meshgrid(torch.linspace(-1, 1, 2 * r + 1), torch.linspace(-1, 1, 2 * r + 1), indexing="ij")
        spatial = torch.exp(-(x**2 + y**2) / (2 * layer.sigma_spatial**2)).flatten()[None, :, None, None]
        kernel = logits.softmax(1) * spatial
        kernel = kernel / kernel.sum(1, keepdim=True).clamp(min=1e-7)
        kernel = kernel + 0.1 * layer.fixup_proj(torch.cat([kernel, g], 1))
        taps = F.unfold(source, 2 * r + 1).view(1, 12, -1, *size)
        maps = (taps * kernel[:, None]).sum(2)
    return (maps + 0.1 * model.fixup_proj(maps))[0]


@pytest.mark.parametrize("values", [1 << 22, 500])
def test_features_words_and_lengths_are_those_of_the_plain_form(upsampler, monkeypatch, values):
    monkeypatch.setattr(simfeatup, "BLOCK_VALUES", values)
    g = torch.Generator().manual_seed(1)
    features, image = torch.randn(*GRID, 12, generator=g), torch.randn(3, 48, 64, generator=g)
    want = plainly(upsampler, features, image)
    got = torch.cat(list(upsampler.strips(features, image, channels=5)))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    kernels, mixed = upsampler.kernels(image, GRID), upsampler.mix(features)
    torch.testing.assert_close(upsampler.lengths(mixed, kernels), want.norm(dim=0), atol=1e-4, rtol=1e-4)
    words = torch.randn(7, 12, generator=g)
    products = torch.einsum("hwc,qc->qhw", mixed, words)
    dots = upsampler.upsample(products, kernels) + (words @ upsampler.offset)[:, None, None]
    torch.testing.assert_close(dots, torch.einsum("chw,qc->qhw", want, words), atol=1e-3, rtol=1e-3)


def test_lengths_where_there_are_fewer_cells_than_channels():
    """The basis of the cells takes the place of the channels, and the bias has a part beyond it."""
    torch.manual_seed(1)
    model = JointBilateralUpsampler(width=30, key_dim=6, radius=2).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    features, image = torch.randn(*GRID, 30), torch.randn(3, 48, 64)
    want = torch.cat(list(model.strips(features, image))).norm(dim=0)
    got = model.lengths(model.mix(features), model.kernels(image, GRID))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    assert GRID[0] * GRID[1] < 30 and model.offset.norm() > 0.1


@pytest.mark.parametrize("size", [(9, 7), (16, 6)])
def test_what_kernels_see(size):
    """The taps of a pixel are those of a padded, sliced image."""
    image = torch.arange(size[0] * size[1], dtype=torch.float32).view(1, 1, *size)
    want = F.unfold(F.pad(image, [5] * 4, mode="reflect"), 11)[0].T.unflatten(0, size)
    tiles = Tiles(size, 5)
    around = tiles.around(image[0].permute(1, 2, 0)).flatten(2)  # [rows, columns, side * side]
    pairs = around[:, :, None].expand(-1, -1, 64, -1).flatten(2)[..., tiles.taps(image.device)].unflatten(2, (64, -1))
    out = tiles.empty(image, 121)
    tiles.write(pairs.flatten(0, 1), out, slice(0, tiles.count[0]))
    assert torch.equal(out[: size[0], : size[1]], want)


def test_maps_narrower_than_the_radius():
    assert reflected(torch.arange(-2, 3), 1).tolist() == [0] * 5
    assert reflected(torch.arange(-2, 5), 3).tolist() == [2, 1, 0, 1, 2, 1, 0]


def test_keys_of_training_checkpoints():
    model = JointBilateralUpsampler(8, 4, 1)
    plain = model.state_dict()
    trained = {f"upsampler.{k}": v for k, v in plain.items()} | {"model.x": torch.zeros(1)}
    assert set(upsampler_keys(trained)) == set(upsampler_keys(plain)) == set(plain)
    assert isinstance(model.fixup_proj[1], nn.Conv2d)
