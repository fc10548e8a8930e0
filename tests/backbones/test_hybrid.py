"""A hybrid tower is its parts put together, and every method finds in it what it finds in a plain ViT."""

import pytest
import timm
import torch
import torch.nn.functional as F

import ovseg.attention  # noqa: F401  (registers)
from ovseg.backbones.stem_guide import StemGuide
from ovseg.backbones.towers import OpenClipTower, build_tower
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext
from ovseg.weights import LoadedClip, get_card
from ovseg.weights.hybrid import StemPatches, build_clip
from tests.backbones.test_towers import through_pieces
from tests.small_models import images, small_clip, small_hybrid_clip


@pytest.fixture(scope="module")
def clip():
    return small_hybrid_clip()


def test_pieces_make_the_image_embedding(clip):
    tower, x = build_tower(clip.visual), images(2, 3, 64, 64)
    assert isinstance(tower, OpenClipTower) and tower.patch_size == 16 and tower.native_grid == (4, 4)
    torch.testing.assert_close(
        tower.project(through_pieces(tower, x)[:, 0]), clip.encode_image(x), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("size", [(64, 64), (64, 80), (48, 112), (64, 95)])
def test_patch_embedding_joins_two_stages_of_the_network(clip, size):
    patches, x = clip.visual.conv1, images(1, 3, *size)
    cut = x[..., : size[0] // 16 * 16, : size[1] // 16 * 16]
    stem = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True)
    stem.load_state_dict({k: v for k, v in patches.stem.state_dict().items() if k in stem.state_dict()})
    fine = stem.eval()(cut)[3]
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    whole.load_state_dict(patches.stem.state_dict())
    coarse = whole.eval().forward_features(cut)
    coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    joined = torch.cat([fine, coarse[..., : fine.shape[2], : fine.shape[3]]], dim=1)
    got = patches(x)
    assert got.shape[-2:] == (size[0] // 16, size[1] // 16)
    torch.testing.assert_close(got, patches.join(joined), atol=1e-4, rtol=1e-4)


def test_a_stem_needs_its_own_patch_size():
    config = {
        "embed_dim": 8,
        "vision_cfg": {"stem": "tf_efficientnet_lite0", "image_size": 64, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1},
    }
    with pytest.raises(ValueError, match="16 px; patch_size is 8"):
        build_clip(config)


@pytest.mark.parametrize(
    "attention",
    [
        dict(type="PlainAttention"),
        dict(type="ValueAttention", residual=True, ffn=True),
        dict(type="SelfSelfAttention", terms=("q", "k"), residual=True, ffn=True),
        dict(type="NeighbourAttention", std=5.0, terms=("k",), residual=False, ffn=False),
        dict(type="ProxyAttention", beta=1.2, gamma=3.0),
        dict(type="RegionAttention", spatial_layers=1),
    ],
    ids=lambda a: a["type"],
)
def test_every_attention_runs_on_it_as_on_the_same_vit_with_a_plain_patch_embedding(clip, attention):
    """The blocks do not know where their tokens come from: same weights and tokens, same result."""
    plain = small_clip()
    own = clip.visual.state_dict()
    plain.visual.load_state_dict({k: v for k, v in own.items() if "conv1" not in k}, strict=False)
    module, x, outs = ATTENTIONS.build(attention).eval(), images(1, 3, 64, 96), []
    guide = StemFeatures(clip)(x)
    regions = torch.arange(64)[None, :, None] // 32 + torch.zeros(1, 64, 96, dtype=torch.int64)
    for visual in (clip.visual, plain.visual):
        tower = build_tower(visual)
        tokens, inputs = tower.run(build_tower(clip.visual).embed(x), (4, 6), record=range(3))
        context = AttentionContext(
            x=tokens,
            grid=(4, 6),
            tower=tower,
            inputs=inputs,
            guide=guide,
            regions=regions,
            images=x,
            groups=torch.zeros(1, dtype=torch.int64),
        )
        outs.append(module(context).tokens)
    assert outs[0].isfinite().all() and outs[0].std() > 0
    torch.testing.assert_close(outs[0], outs[1], atol=1e-5, rtol=1e-4)


def StemFeatures(clip, **kwargs):  # noqa: N802  (reads as the class it makes)
    """A guide over the small CLIP, as a function of windows normalised as that CLIP's."""
    guide = make_guide(clip, **kwargs)
    return lambda windows: guide(windows, guide.mean, guide.std)


def make_guide(clip, monkeypatch=None, **kwargs):
    card = get_card("nano-photo")
    loaded = LoadedClip(model=clip, mean=card.mean, std=card.std, card=card, sha256="0" * 64, tokenizer=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovseg.backbones.stem_guide.load_clip", lambda name, checkpoint=None: loaded)
        return StemGuide(**kwargs)


@pytest.mark.parametrize(("strides", "grid"), [((16, 32), (4, 5)), ((8, 16, 32), (8, 10)), ((32,), (2, 2))])
def test_guide_has_unit_features_on_the_grid_of_its_finest_stride(clip, strides, grid):
    out = StemFeatures(clip, strides=strides)(images(2, 3, 64, 80))
    assert out.grid == grid and out.num_prefix == 0
    torch.testing.assert_close(out.tokens.norm(dim=-1), torch.ones(2, grid[0] * grid[1]))


def test_guide_undoes_clips_normalisation(clip):
    guide, x = make_guide(clip), images(1, 3, 64, 64)
    mean, std = torch.tensor((122.77, 116.75, 104.09)).view(3, 1, 1), torch.tensor((68.5, 66.6, 70.3)).view(3, 1, 1)
    pixels = x * 50 + 100
    a = guide((pixels - mean) / std, mean, std).tokens
    b = guide((pixels - guide.mean) / guide.std, guide.mean, guide.std).tokens
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_guide_sees_a_whole_photo(clip):
    """As one window, its sides at the nearest multiple of the coarsest stride; 10 px are less than half of one."""
    guide, photo = make_guide(clip), torch.randint(0, 256, (3, 70, 101), dtype=torch.uint8)
    resized = F.interpolate(photo.float()[None], size=(64, 96), mode="bilinear", align_corners=False)
    want = guide((resized - guide.mean) / guide.std, guide.mean, guide.std)
    found = guide.dense(photo)
    assert found.shape == (want.tokens.shape[-1], 4, 6)
    torch.testing.assert_close(found.flatten(1).T, want.tokens[0], atol=1e-4, rtol=1e-3)
    assert guide.dense(photo[:, :10, :10]).shape[1:] == (2, 2)


def test_guide_refuses_what_it_cannot_use(clip):
    with pytest.raises(ValueError, match="without a convolutional stem"):
        make_guide(small_clip())
    with pytest.raises(ValueError, match="strides is"):
        make_guide(clip, strides=(7,))
    with pytest.raises(ValueError, match="smaller than a cell"):
        StemFeatures(clip)(images(1, 3, 8, 64))
    assert isinstance(clip.visual.conv1, StemPatches)
