"""The image embedding is the sum of its parts."""

import pytest
import torch

from ovseg.attention import DecomposedAttention, decompose
from ovseg.backbones.towers import build_tower
from ovseg.structures import AttentionContext
from tests.small_models import images, small_clip


@pytest.fixture(scope="module")
def clip():
    return small_clip(layers=4)


@pytest.fixture(scope="module")
def photos():
    return images(2, 3, 64, 64)


def test_all_contributions_sum_to_the_image_embedding(clip, photos):
    parts = decompose(build_tower(clip.visual), photos)
    want = clip.encode_image(photos)
    assert parts.attention.shape == (2, 4, 2, 17, 32) and parts.mlp.shape == (2, 4, 32)
    torch.testing.assert_close(parts.embedding, want, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(parts.total(), want, atol=1e-5, rtol=1e-4)
    without_a_head = parts.total() - parts.attention[:, 2, 1].sum(1)
    assert (without_a_head - want).abs().max() > 1e-3, "a part that matters was left out without anybody noticing"


@pytest.mark.parametrize("layers", [1, 3])
def test_patch_tokens_are_the_late_layers_contributions(clip, photos, layers):
    tower = build_tower(clip.visual)
    attention = DecomposedAttention(layers)
    tokens, inputs = tower.run(tower.embed(photos), (4, 4), attention.needs_inputs_of(4))
    features = attention(AttentionContext(x=tokens, grid=(4, 4), tower=tower, inputs=inputs))
    parts = decompose(tower, photos)
    want = parts.attention[:, -layers:].sum((1, 2)) / parts.embedding.norm(dim=-1)[:, None, None]
    torch.testing.assert_close(tower.project(features.tokens), want, atol=1e-5, rtol=1e-4)


def test_towers_without_a_class_token_are_refused():
    tower = build_tower(small_clip(layers=2).visual)
    tower.num_prefix = 0
    with pytest.raises(ValueError, match="class token"):
        decompose(tower, images(1, 3, 64, 64))


def test_no_layer_is_refused():
    with pytest.raises(ValueError, match="layers"):
        DecomposedAttention(0)
