"""DINO and SAM taken apart must be the models themselves."""

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention

from ovseg.backbones.dino import DinoBackbone, trunk_tower
from ovseg.backbones.sam import SamBackbone
from ovseg.weights import Loaded, get_card
from tests.small_guides import MEAN, STD, small_dino, small_dinov3, small_sam, use_small_guides
from tests.small_models import images

CLIP_MEAN = torch.tensor((122.77, 116.75, 104.09)).view(3, 1, 1)
CLIP_STD = torch.tensor((68.5, 66.63, 70.32)).view(3, 1, 1)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_guides(monkeypatch)


@pytest.mark.parametrize("build", [small_dino, small_dinov3])
def test_tower_of_a_trunk_gives_its_tokens(build):
    trunk = build()
    tower, x = trunk_tower(trunk), images(2, 3, 64, 64)
    grid = tower.grid_of(64, 64)
    tokens, _ = tower.run(tower.embed(x), grid)
    torch.testing.assert_close(
        tower.post_norm(tower.blocks[-1](tokens, grid)), trunk.forward_features(x), atol=1e-5, rtol=1e-4
    )


def test_dinov3_pieces_have_its_half_rotation():
    tower, x = trunk_tower(small_dinov3()), images(1, 3, 64, 96)
    grid = tower.grid_of(64, 96)
    tokens, _ = tower.run(tower.embed(x), grid)
    block = tower.blocks[-1]
    q, k, v = block.qkv(block.norm1(tokens), grid)
    mixed = F.scaled_dot_product_attention(q, k, v, scale=block.scale).transpose(1, 2).flatten(2)
    z = tokens + block.out(mixed)
    torch.testing.assert_close(z + block.ffn(z), block(tokens, grid), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("feature", ["tokens", "q", "k", "v", "q+k"])
@pytest.mark.parametrize("block", [0, -1])
def test_guide_features_are_unit_and_those_of_the_block(feature, block):
    guide = DinoBackbone("dino/vitb8", feature=feature, block=block, pos_embed="size")
    windows = images(2, 3, 64, 64)
    out = guide(windows, CLIP_MEAN, CLIP_STD)
    assert out.grid == (8, 8) and out.num_prefix == 0
    torch.testing.assert_close(out.tokens.norm(dim=-1), torch.ones(2, 64))
    # the trunk itself, on pixels normalised the ImageNet way
    trunk = small_dino()
    pixels = windows * CLIP_STD + CLIP_MEAN
    x = (pixels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    tokens = trunk._pos_embed(trunk.patch_embed(x))
    for inner in trunk.blocks[: block % 2]:
        tokens = inner(tokens)
    last = trunk.blocks[block]
    if feature == "tokens":
        want = trunk.norm(last(tokens))
    else:
        assert isinstance(last.attn, Attention)
        parts = dict(zip("qkv", last.attn.qkv(last.norm1(tokens)).chunk(3, dim=-1), strict=True))
        want = sum(parts[p] for p in feature.split("+"))
    torch.testing.assert_close(out.tokens, F.normalize(want[:, 1:], dim=-1), atol=1e-4, rtol=1e-3)


def test_guide_says_what_is_wrong():
    with pytest.raises(ValueError, match="feature is 'z'"):
        DinoBackbone("dino/vitb8", feature="z")
    with pytest.raises(ValueError, match="has 2 blocks"):
        DinoBackbone("dino/vitb8", block=5)


def test_sam_encoder_is_segment_anythings():
    backbone, x = SamBackbone("sam/vit_b"), images(1, 3, 128, 128)
    embedding, last = backbone.encode(x)
    torch.testing.assert_close(embedding, small_sam().image_encoder(x), atol=1e-4, rtol=1e-4)
    assert last.q.shape == (2, 64, 16) and last.rel_h.shape == (8, 8, 16)


def test_sam_sees_photos_of_any_shape_and_in_tiles():
    photo = torch.randint(0, 256, (3, 50, 90), dtype=torch.uint8)
    whole = SamBackbone("sam/vit_b", multiple_of=16)(photo)
    tile = whole.tiles[0]
    assert tile.framed == (64, 96) and tile.resized == (85, 128) and tile.grid == (5, 8) and tile.size == (50, 90)
    halves = SamBackbone("sam/vit_b", tiles=(1, 2))(photo)
    assert [t.box for t in halves.tiles] == [(0, 50, 0, 45), (0, 50, 45, 90)]
    features = torch.randn(6, 7, 9)
    assert whole.aggregate(features, 1.2, 0.9, True).shape == (6, 5, 8)
    assert halves.aggregate(features, 1.2, 0.9, False).shape == (6, 8, 14)


@pytest.mark.parametrize(("width", "left"), [(89, 44), (91, 45), (93, 46)])
def test_tiles_of_odd_photos_are_cut_by_one_rule(width, left):
    halves = SamBackbone("sam/vit_b", tiles=(1, 2))(torch.zeros(3, 40, width, dtype=torch.uint8))
    assert [t.box[2:] for t in halves.tiles] == [(0, left), (left, width)]


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 1)])
def test_photos_smaller_than_the_tiles_are_cut_less(size):
    encoding = SamBackbone("sam/vit_b", tiles=(2, 2))(torch.randint(0, 256, (3, *size), dtype=torch.uint8))
    assert (
        encoding.layout == tuple(min(2, n) for n in size)
        and len(encoding.tiles) == encoding.layout[0] * encoding.layout[1]
    )
    assert torch.isfinite(encoding.aggregate(torch.randn(6, 2, 2), 1.2, 0.9, True)).all()


def test_tiles_whose_grids_differ_by_a_row():
    backbone = SamBackbone("sam/vit_b", tiles=(2, 2))
    uneven = 0
    for width in range(101, 120):
        encoding = backbone(torch.randint(0, 256, (3, 91, width), dtype=torch.uint8))
        grids = [tile.grid for tile in encoding.tiles]
        uneven += grids[0][0] != grids[1][0] or grids[0][1] != grids[2][1]
        out = encoding.aggregate(torch.randn(6, 5, 7), 1.2, 0.9, True)
        assert out.shape[0] == 6 and out.shape[1] >= grids[0][0] + grids[2][0] and torch.isfinite(out).all()
    assert uneven


def test_sam_prompts_give_masks_at_the_size_of_the_photo():
    tile = SamBackbone("sam/vit_b")(torch.randint(0, 256, (3, 50, 90), dtype=torch.uint8)).tiles[0]
    points, labels = torch.tensor([[[10.0, 12.0]], [[60.0, 40.0]]]), torch.ones(2, 1)
    low, iou = tile.predict(points, labels, multimask=True)
    assert low.shape == (2, 3, 32, 32) and iou.shape == (2, 3) and tile.upscale(low).shape == (2, 3, 50, 90)


def test_loaded_models_keep_their_card():
    assert isinstance(Loaded(small_dino(), MEAN, STD, get_card("dino/vitb8"), ""), Loaded)
