"""The towers' pieces put together must be the model itself."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.timm_model import TimmModel
from torch import nn

from ovseg.backbones.towers import EvaTower, OpenClipTower, TimmTower, build_tower
from tests.small_models import images, small_clip, small_eva_trunk, small_siglip_trunk
from tests.weight_edits import EDITS


def timm_visual(trunk: nn.Module) -> TimmModel:
    """open_clip's wrapper around a small trunk, without building the full-size one first."""
    visual = TimmModel.__new__(TimmModel)
    nn.Module.__init__(visual)
    visual.trunk, visual.head = trunk, nn.Sequential()
    return visual


def through_pieces(tower, x):
    """The whole encoder from the tower's pieces, tokens before projection."""
    grid = tower.grid_of(*x.shape[-2:])
    tokens, inputs = tower.run(tower.embed(x), grid, record=range(len(tower.blocks)))
    last = tower.blocks[-1]
    torch.testing.assert_close(inputs[len(tower.blocks) - 1], tokens)
    q, k, v = last.qkv(last.norm1(tokens), grid)
    mixed = F.scaled_dot_product_attention(q, k, v, scale=last.scale).transpose(1, 2).flatten(2)
    torch.testing.assert_close(last.split_heads(last.value(last.norm1(tokens))), v)
    z = tokens + last.out(mixed)
    return tower.post_norm(z + last.ffn(z))


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_open_clip_pieces_make_the_image_embedding(quick_gelu):
    model = small_clip(quick_gelu=quick_gelu)
    tower, x = build_tower(model.visual), images(2, 3, 64, 64)
    assert isinstance(tower, OpenClipTower)
    got = tower.project(through_pieces(tower, x)[:, 0])
    torch.testing.assert_close(got, model.encode_image(x), atol=1e-5, rtol=1e-4)


def test_siglip_pieces_make_the_tokens_and_map_head_is_defined_per_patch():
    visual = timm_visual(small_siglip_trunk())
    tower, x = build_tower(visual), images(2, 3, 64, 64)
    assert isinstance(tower, TimmTower) and tower.num_prefix == 0 and tower.embed_dim == 64
    tokens = through_pieces(tower, x)
    torch.testing.assert_close(tokens, visual.trunk.forward_features(x), atol=1e-5, rtol=1e-4)
    # MAP pooling over one token alone attends to it with weight 1
    one = tokens[:, 5:6]
    torch.testing.assert_close(tower.project(one)[:, 0], visual.trunk.attn_pool(one), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("qkv_fused", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_eva_pieces_make_the_image_embedding(qkv_fused, size):
    visual = timm_visual(small_eva_trunk(qkv_fused))
    tower, x = build_tower(visual), images(2, 3, *size)
    assert isinstance(tower, EvaTower)
    tokens = through_pieces(tower, x)
    # timm resizes the positions with antialiasing, so compare other sizes without positions
    if size != (64, 64):
        with torch.no_grad():
            visual.trunk.pos_embed.zero_()
        tower._pos_cache.clear()
        tokens = through_pieces(tower, x)
    torch.testing.assert_close(tokens, visual.trunk.forward_features(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tower.project(tokens[:, 0]), visual.trunk(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(96, 96), (64, 96), (32, 128)])
def test_eva_built_for_one_size_has_the_rotary_positions_of_others(size):
    fixed, free = (timm_visual(small_eva_trunk(True, dynamic)) for dynamic in (False, True))
    free.trunk.load_state_dict(fixed.trunk.state_dict())
    towers, x = [build_tower(visual) for visual in (fixed, free)], images(2, 3, *size)
    torch.testing.assert_close(*(through_pieces(tower, x) for tower in towers), atol=1e-5, rtol=1e-4)
    native = images(1, 3, 64, 64)  # and the built size is left as it was
    torch.testing.assert_close(*(through_pieces(tower, native) for tower in towers), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["size", "scale", "bilinear"])
def test_positions_follow_their_rule(mode):
    tower = build_tower(small_clip().visual)
    table = tower.visual.positional_embedding[1:]
    image = table.T.reshape(1, -1, 4, 4)
    want = {
        "size": lambda: F.interpolate(image, size=(3, 6), mode="bicubic"),
        "scale": lambda: F.interpolate(image, scale_factor=(3.1 / 4, 6.1 / 4), mode="bicubic"),
        "bilinear": lambda: F.interpolate(image, size=(3, 6), mode="bilinear"),
    }[mode]()
    got = tower.positions(table, (3, 6), mode)
    torch.testing.assert_close(got, want.flatten(2).transpose(1, 2))
    assert tower.positions(table, (3, 6), mode) is got
    assert tower.positions(table, (4, 4), mode).equal(table[None])
    # the scale rule counts patches, not rows and columns
    assert tower.positions(table, (2, 8), mode).equal(table[None]) == (mode == "scale")


def test_position_cache_follows_the_weights_and_stays_small():
    tower = build_tower(small_clip().visual)
    before = tower.positions(tower.visual.positional_embedding[1:], (3, 3), "size")
    with torch.no_grad():
        tower.visual.positional_embedding.mul_(2)
    after = tower.positions(tower.visual.positional_embedding[1:], (3, 3), "size")
    torch.testing.assert_close(after, 2 * before)
    for n in range(1, 100):
        tower.positions(tower.visual.positional_embedding[1:], (n, 5), "size")
    assert len(tower._pos_cache) <= 64


@pytest.mark.parametrize("edit", EDITS)
def test_positions_follow_every_edit(edit):
    visual = small_clip().visual
    tower = build_tower(visual)
    before = tower.embed(images(1, 3, 48, 96))
    edited = EDITS[edit](visual)
    edited = tower if edited is visual else build_tower(edited)
    after = edited.embed(images(1, 3, 48, 96))
    edited._pos_cache.clear()
    # close, not equal: the patch embedding is packed at one call and, where no change could be noticed, not at the next
    torch.testing.assert_close(after, edited.embed(images(1, 3, 48, 96)), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-3)


def test_positions_kept_in_inference_mode_serve_training():
    tower = build_tower(small_clip().visual)
    with torch.inference_mode():
        tower.embed(images(1, 3, 48, 96))
    x = tower.embed(images(1, 3, 48, 96).requires_grad_(True))
    (x * tower.positions(tower.visual.positional_embedding[1:], (3, 6), "size").sum()).sum().backward()


def test_what_is_not_a_plain_vit_is_refused():
    with pytest.raises(TypeError, match="not a vision transformer"):
        build_tower(nn.Conv2d(3, 8, 3))
    coca = CLIP(
        32,
        dict(
            image_size=32, layers=1, width=32, head_width=16, patch_size=16, attentional_pool=True, attn_pooler_heads=2
        ),
        dict(context_length=8, vocab_size=64, width=32, heads=2, layers=1),
    )
    with pytest.raises(TypeError, match="pools by attention"):
        build_tower(coca.visual)
    with pytest.raises(TypeError, match="has no 'patch_embed'"):
        TimmTower(SimpleNamespace(trunk=nn.Linear(2, 2), head=nn.Identity()))
    with pytest.raises(ValueError, match="smaller than one patch"):
        build_tower(small_clip().visual).embed(images(1, 3, 8, 64))


@pytest.mark.parametrize("mode", ["size", "scale"])
@pytest.mark.parametrize("grid", [(14, 15), (21, 30), (5, 40), (1, 1)])
def test_positions_by_matrices_are_those_of_interpolation(mode, grid):
    """What a GPU computes; kept matrices serve every table."""
    tower = build_tower(small_clip().visual)
    for _ in range(2):
        table = torch.randn(tower.native_grid[0] * tower.native_grid[1], 24)
        expected = tower._resized(table, grid, mode)
        torch.testing.assert_close(tower._resized_by_matrices(table, grid, mode), expected, atol=2e-5, rtol=1e-5)
