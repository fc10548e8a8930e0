"""SAN's side adapter: its arithmetic against definitions written out, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from ovseg.backbones.towers import build_tower
from ovseg.decoders.side_adapter import SideAdapterDecoder, pooled, recognise
from ovseg.structures import AttentionContext
from tests.small_models import images, small_clip

NETWORK = dict(width=24, depth=4, num_heads=2, queries=5, image_size=64)


@pytest.fixture
def tower():
    return build_tower(small_clip().visual)


def small_decoder(tower, **settings):
    torch.manual_seed(1)
    settings = dict(split=2, fusion=((0, 0), (1, 1), (2, 3)), network=NETWORK, supervised=(3, 4)) | settings
    return SideAdapterDecoder(tower, **settings)


def encoder_of(tower):
    """A backbone as decoders know it, around a bare tower."""

    def encode(frames, record=(), depth=None):
        grid = tower.grid_of(*frames.shape[-2:])
        x, inputs = tower.run(tower.embed(frames), grid, record, depth=depth)
        return AttentionContext(x=x, grid=grid, tower=tower, inputs=inputs)

    encode.tower, encode.clip = tower, SimpleNamespace(logit_scale=torch.tensor(3.0))
    return encode


def masked_blocks(blocks, tokens, bias):
    """The paper's form: one sequence of masks, class token and patches, -100 where nothing is to be seen."""
    count, patches = bias.shape[2], bias.shape[3]
    x = torch.cat([tokens[:, :1].expand(-1, count, -1), tokens], dim=1)
    mask = torch.zeros(*bias.shape[:2], x.shape[1], x.shape[1])
    mask[..., :count] = -100
    mask[..., :count, count] = -100
    mask[..., torch.arange(count), torch.arange(count)] = 0
    mask[..., :count, count + 1 :] = bias
    assert x.shape[1] == count + 1 + patches
    for block in blocks:
        q, k, v = block.qkv(block.norm1(x))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=block.scale)
        x = x + block.out(mixed.transpose(1, 2).flatten(2))
        x = x + block.ffn(x)
    return x[:, :count]


def test_recognition_is_attention_under_the_papers_mask(tower):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 1 + 12, 64, generator=generator)
    bias = 3 * torch.randn(2, 2, 5, 12, generator=generator)
    ours = recognise(tower.blocks, tokens, bias)
    torch.testing.assert_close(ours, masked_blocks(tower.blocks, tokens, bias), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, recognise(tower.blocks, tokens, 0 * bias), atol=1e-2)


def test_bias_of_a_patch_of_clip_is_the_largest_of_its_cells():
    bias = torch.arange(2 * 16.0).view(1, 1, 2, 4, 4)
    assert pooled(bias, (2, 2))[0, 0, 0].tolist() == [5, 7, 13, 15]


def test_masks_of_a_layer_are_the_same_in_training_and_whatever_the_batch(tower):
    decoder, encode = small_decoder(tower), encoder_of(tower)
    frames, text = images(2, 3, 96, 64), F.normalize(images(3, 32), dim=-1)
    trained = decoder.train()(decoder.features(frames, encode), text)
    alone = decoder.eval()(decoder.features(frames[1:], encode), text)
    assert trained.extras["earlier_masks"].shape == (2, 1, 5, 6, 4)
    assert trained.extras["earlier_class_logits"].shape == (2, 1, 5, 4)
    torch.testing.assert_close(trained.maps[1:], alone.maps, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(trained.extras["class_logits"][1:], alone.extras["class_logits"], atol=1e-4, rtol=1e-4)
    assert "earlier_masks" not in alone.extras and alone.classes.shape == (1, 5, 3)
    assert (alone.classes.sum(-1) < 1).all()  # "no object" takes its share


def test_gradients_reach_the_side_network_through_clip(tower):
    decoder, encode = small_decoder(tower).train(), encoder_of(tower)
    prediction = decoder(decoder.features(images(1, 3, 64, 64), encode), F.normalize(images(3, 32), dim=-1))
    prediction.extras["class_logits"][..., 0].sum().backward()
    assert float(decoder.network.mask_decoder.attn_mlp.layers[2].weight.grad.norm()) > 0
    assert float(decoder.network.fusion_layers["layer_3"].input_proj[1].weight.grad.norm()) > 0
    assert decoder.network.mask_decoder.pix_mlp.layers[2].weight.grad is None  # class logits do not look at the masks


def test_another_clip_scale_and_sizes_that_do_not_divide(tower):
    decoder, encode = small_decoder(tower, clip_scale=0.7).eval(), encoder_of(tower)
    features = decoder.features(images(1, 3, 96, 160), encode)
    assert features["masks"].shape == (1, 1, 5, 6, 10) and features["embeddings"].shape == (1, 1, 5, 32)
    torch.testing.assert_close(features["embeddings"].norm(dim=-1), torch.ones(1, 1, 5))


@pytest.mark.parametrize("settings", [dict(split=3), dict(split=1), dict(fusion=((3, 1),))])
def test_blocks_that_do_not_exist_are_refused(tower, settings):
    with pytest.raises(ValueError, match="3 blocks"):
        small_decoder(tower, **settings)


def test_an_unknown_argument_of_the_network_is_named(tower):
    with pytest.raises(ValueError, match="network.*quieries"):
        small_decoder(tower, network=dict(quieries=5))
