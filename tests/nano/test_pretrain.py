import json

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ovseg.nano.pretrain import (
    ClipPretrainer,
    build_clip,
    encode_text,
    matching_loss,
    patchify,
    pool_patches,
    run_block,
    self_attention,
    share_patches,
    value_path,
)
from ovseg.nano.probe import tokens

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "clip.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="module")
def clip(config):
    torch.manual_seed(0)
    return build_clip(config).eval()


@torch.no_grad()
def test_texts_cut_short_embed_as_open_clip_does(clip):
    texts = ["a dog", "a photo of a very large christmas tree.", "snow"]
    expected = clip.encode_text(open_clip.tokenize(texts))
    assert torch.allclose(encode_text(clip, texts), expected, atol=1e-5)


@torch.no_grad()
def test_written_out_block_equals_open_clips(clip):
    x = torch.randn(2, 5, 64)
    block = clip.visual.transformer.resblocks[0]
    assert torch.allclose(run_block(block, x), block(x), atol=1e-5)


@torch.no_grad()
def test_patchify_matches_the_patch_convolution(clip):
    images = torch.randn(2, 3, 32, 48)
    convolution = clip.visual.conv1
    by_convolution = convolution(images).flatten(2).mT
    assert torch.allclose(F.linear(patchify(images, 16), convolution.weight.flatten(1)), by_convolution, atol=1e-5)


@torch.no_grad()
def test_training_and_open_clip_agree_on_the_class_token(config):
    model = ClipPretrainer(str(config), keep=1.0, autocast=False).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    token, _, residual = model.encode_image(images)
    mean, std = model.mean.view(1, 3, 1, 1), model.std.view(1, 3, 1, 1)
    assert torch.allclose(token, model.clip.encode_image((images - mean) / std), atol=1e-4)
    assert residual.shape == (1, 4, 32)


@torch.no_grad()
def test_value_path_is_attention_to_oneself(clip):
    x = torch.randn(1, 4, 64)
    block = clip.visual.transformer.resblocks[-1]
    alone = [block.attention(block.ln_1(x[:, i : i + 1])) for i in range(4)]
    assert torch.allclose(value_path(clip.visual, x), torch.cat(alone, dim=1), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("which", ["q", "k"])
def test_self_attention_by_hand(clip, which):
    x = torch.randn(1, 5, 64)
    attn = clip.visual.transformer.resblocks[-1].attn
    qkv = F.linear(clip.visual.transformer.resblocks[-1].ln_1(x), attn.in_proj_weight, attn.in_proj_bias)[0]
    heads = []
    for head in range(2):
        part = slice(32 * head, 32 * (head + 1))
        s = qkv[:, (0 if which == "q" else 64) + 32 * head :][:, :32]
        heads.append((s @ s.T / 32**0.5).softmax(dim=-1) @ qkv[:, 128:][:, part])
    assert torch.allclose(self_attention(clip.visual, x, which)[0], attn.out_proj(torch.cat(heads, dim=1)), atol=1e-5)


@torch.no_grad()
def test_images_are_read_three_ways(config):
    model = ClipPretrainer(str(config), keep=1.0, autocast=False).eval()
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    _, patches, _ = model.encode_image(image.expand(4, -1, -1, -1))
    first, second, queries, keys = (p[p[:, 0].argsort()] for p in patches)
    assert torch.allclose(first, second, atol=1e-5)
    assert not torch.allclose(first, queries, atol=1e-3) and not torch.allclose(queries, keys, atol=1e-3)


@torch.no_grad()
def test_small_images_take_a_window_of_the_positions(config):
    model = ClipPretrainer(str(config), autocast=False)
    grid = model.clip.visual.positional_embedding[1:]
    assert torch.equal(model._places(2, 2), grid)
    place = model._places(1, 1)  # a random one
    assert any(torch.equal(place, grid[i : i + 1]) for i in range(4))
    with pytest.raises(ValueError, match="3 x 2 patches, more than the model's 2 x 2"):
        model._places(3, 2)


def test_tokens_of_the_trained_size_are_open_clips(clip):
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    seen = []
    handle = clip.visual.transformer.resblocks[-1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    mean, std = (
        torch.tensor(t).view(3, 1, 1) * 255 for t in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    with torch.no_grad():
        clip.encode_image((images - mean) / std)
        ours, grid = tokens(clip.visual, images)
    handle.remove()
    assert grid == (2, 2)
    assert torch.allclose(ours, seen[0], atol=1e-5)


def test_matching_loss_spares_the_other_positives():
    positive = torch.tensor([[True, True, False], [False, False, True]])
    scores = torch.where(positive, 20.0, -20.0)
    assert matching_loss(scores, positive) < 1e-6
    # Two positives of one image with different scores: no price, as neither is the other's negative.
    scores[0, 1] = 5.0
    assert matching_loss(scores, positive) < 1e-6
    assert matching_loss(-scores, positive) > 10


def test_matching_loss_by_hand():
    loss = matching_loss(torch.tensor([[1.0, 0.0], [0.5, 2.0]]), torch.eye(2, dtype=torch.bool))
    terms = [F.softplus(torch.tensor(x)) for x in (0.0 - 1.0, 0.5 - 2.0, 0.5 - 1.0, 0.0 - 2.0)]
    assert loss == pytest.approx(float(sum(terms) / 4), abs=1e-6)


def test_pooling_lies_between_mean_and_maximum():
    scores = torch.randn(3, 7, 5)
    pooled = pool_patches(scores)
    assert (pooled >= scores.mean(dim=1)).all() and (pooled <= scores.amax(dim=1)).all()


def test_words_share_the_patches_among_themselves():
    scores = torch.tensor([[[9.0, -9.0, -torch.inf], [-9.0, 9.0, -torch.inf], [9.0, -9.0, -torch.inf]]])
    share = share_patches(scores)[0]
    assert torch.allclose(share[:, 0], torch.tensor([0.5, 0.0, 0.5]), atol=1e-4)
    assert torch.allclose(share[:, 1], torch.tensor([0.0, 1.0, 0.0]), atol=1e-4)
    assert not share[:, 2].any()


def test_losses_reach_every_weight(config):
    torch.manual_seed(0)
    model = ClipPretrainer(str(config), keep=0.5, autocast=False, bank=["rose"])
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    losses = model(images, [["dog", "grass"], ["cat", "grass"], ["dog"], ["cat", "snow"]] * 2)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(loss for name, loss in losses.items() if "loss" in name).backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]


def test_other_modes_are_refused(config):
    with pytest.raises(ValueError, match="mode must be 'loss'"):
        ClipPretrainer(str(config))(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), [["dog"]], mode="predict")


def test_shipped_weights_load_strictly_and_are_small():
    from ovseg.nano.export import ASSETS

    shipped = build_clip(ASSETS / "clip.json")
    shipped.load_state_dict(load_file(ASSETS / "clip.safetensors"), strict=True)
    assert sum(p.numel() for p in shipped.visual.parameters()) <= 8_000_000
    assert (ASSETS / "clip.safetensors").stat().st_size <= 30_000_000
    assert all(torch.isfinite(p).all() for p in shipped.parameters())
