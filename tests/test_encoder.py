"""Photos are cut into windows, and these are put into batches."""

from types import SimpleNamespace

import pytest
import torch

from ovseg.backbones.precision import FP32
from ovseg.encoder import WindowBatch, WindowEncoder
from ovseg.photo import Photo
from ovseg.queries import Queries, unit_patches
from ovseg.region_maps import PAD_REGION
from ovseg.structures import AttentionContext, FeatureMap
from ovseg.windows import SlidingWindows


class Backbone:
    """A backbone whose tokens are the mean colours of patches of 4 pixels."""

    patch_size, mean, std = 4, torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    tower = SimpleNamespace(blocks=[None] * 5, num_prefix=0)
    settled = FP32

    def __call__(self, images, record=()):
        self.record = record
        pooled = torch.nn.functional.avg_pool2d(images, 4)
        return AttentionContext(pooled.flatten(2).transpose(1, 2), tuple(pooled.shape[2:]), self.tower, images=images)

    def project(self, features, post_norm=True):
        self.post_norm = post_norm
        return features


class Attention:
    """Gives back what enters the last block and keeps what it was shown."""

    window_scope, post_norm, rescores = "window", False, False

    def needs_inputs_of(self, blocks):
        return (blocks - 2,)

    def __call__(self, context):
        self.context = context
        return FeatureMap(context.x, context.grid)

    def place_background(self, scores, features, background):
        return torch.full_like(scores, background)


def encoder(batch=3, scope="window", **parts) -> WindowEncoder:
    attention = Attention()
    attention.window_scope = scope
    return WindowEncoder(SlidingWindows(8, 4, batch=batch), Backbone(), attention, **parts)


def photos() -> list[Photo]:
    """Two of 3 windows each, and one whose single window is smaller."""
    return [Photo(torch.full((3, *size), float(i)), size) for i, size in enumerate([(8, 16), (6, 8), (8, 16)])]


def batches_of(ours: WindowEncoder) -> list[tuple[list[int], WindowBatch]]:
    return list(ours.batches(photos(), [ours.layout(photo) for photo in photos()]))


def test_windows_of_one_shape_share_batches_across_photos():
    found = batches_of(encoder())
    assert [owners for owners, _ in found] == [[0, 0, 0], [2, 2, 2], [1]]
    found = batches_of(encoder(batch=4))
    assert [owners for owners, _ in found] == [[0, 0, 0, 2], [2, 2], [1]]
    for owners, batch in found:
        assert batch.groups.tolist() == owners and batch.regions is None
        assert batch.windows[:, 0, 0, 0].tolist() == owners


def test_an_attention_of_scope_image_gets_the_windows_of_one_photo():
    found = batches_of(encoder(batch=2, scope="image"))
    assert [owners for owners, _ in found] == [[0, 0, 0], [1], [2, 2, 2]]
    assert [batch.groups.tolist() for _, batch in found] == [[0, 0, 0], [1], [2, 2, 2]]


def test_regions_are_cut_with_the_windows():
    ours = WindowEncoder(SlidingWindows(8, 4, pad_multiple=12), Backbone(), Attention())
    photo = Photo(torch.zeros(3, 8, 12), (16, 24), regions=torch.arange(24).repeat_interleave(1).expand(16, 24))
    batch = ours.cut(photo, ours.layout(photo))
    assert batch.regions.shape == (2, 12, 12) and (batch.regions[:, 0] == PAD_REGION).all()
    assert batch.regions[0, 5, 2:10].tolist() == list(range(0, 16, 2))
    assert batch.regions[1, 5, 2:10].tolist() == list(range(8, 24, 2))


def test_the_attention_is_shown_guide_regions_and_groups():
    guide = FeatureMap(torch.zeros(2, 4, 5), (2, 2))
    ours = encoder(guide=lambda windows, mean, std: guide)
    batch = WindowBatch(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), torch.zeros(2, 8, 8, dtype=torch.int32))
    features = ours.encode(batch)
    shown = ours.attention.context
    assert shown.guide is guide and shown.groups is batch.groups and shown.regions is batch.regions
    assert ours.backbone.record == (3,) and ours.backbone.post_norm is False
    assert features.grid == (2, 2)


@pytest.mark.parametrize("background", [None, 0])
@pytest.mark.parametrize("scale", [None, 10.0])
def test_the_background_is_placed_among_probabilities_only(background, scale):
    words = Queries(torch.eye(3), torch.tensor([1, 0, 1]), 2, background=background, probability_scale=scale)
    ours, batch = encoder(), WindowBatch(torch.rand(1, 3, 8, 8))
    got = ours.score(batch, words)
    placed = background is not None and scale is not None
    assert torch.equal(got, torch.ones_like(got)) == placed


def test_views_are_encoded_one_by_one():
    seen = []

    def views(windows, encode):
        seen.append(windows)
        return (unit_patches(encode(windows)) + unit_patches(encode(2 * windows))) / 2

    words, batch = Queries(torch.eye(3), torch.arange(3), 3), WindowBatch(torch.rand(1, 3, 8, 8))
    torch.testing.assert_close(encoder(views=views).score(batch, words), encoder().score(batch, words))
    assert seen[0] is batch.windows
