"""ZegCLIP and Cascade-CLIP against their equations written out, and what a training of seen words may look at."""

import math

import pytest
import torch
import torch.nn.functional as F

from ovseg.backbones import ClipBackbone
from ovseg.decoders import RelationDecoder
from ovseg.training import FocalDiceLoss, SelfTrainingHook, pseudo_labelled, renumbered
from ovseg.weights import LoadedClip, get_card
from tests.small_models import small_clip

GROUPS = ((0, 1), (2, 3))


@pytest.fixture
def backbone(monkeypatch):
    def load(name, checkpoint=None):
        return LoadedClip(small_clip(layers=5), (0.5,) * 3, (0.5,) * 3, get_card("openai/ViT-B-16"), "0" * 64, None)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)
    return ClipBackbone("openai/ViT-B-16", pos_embed="bilinear")


def make(backbone, **settings) -> RelationDecoder:
    torch.manual_seed(1)
    decoder = RelationDecoder(backbone.tower, prompts=3, hidden=48, heads=4, layers=3, **settings).eval()
    for parameter in decoder.parameters():  # weights that begin as 0 or 1 would hide a fault
        parameter.data += 0.05 * torch.randn_like(parameter)
    return decoder


def heads_of(layer, words, memory):
    """Each head's channels and its scaled products ``[Q, N]``."""
    q, k = layer.q(words), layer.k(memory)
    size = q.shape[1] // layer.heads
    for head in range(layer.heads):
        part = slice(head * size, (head + 1) * size)
        yield part, q[:, part] @ k[:, part].T / math.sqrt(size)


def written_out(decoder: RelationDecoder, backbone: ClipBackbone, image: torch.Tensor, text: torch.Tensor):
    """Logits ``[Q, h, w]`` of one image, with nothing but the paper's equations and CLIP's own modules."""
    visual, prompts = backbone.clip.visual, decoder.prompts
    patches = visual.conv1(image[None])[0]
    grid = patches.shape[1:]
    table = visual.positional_embedding
    native = table[1:].T.reshape(1, -1, 4, 4)
    positions = F.interpolate(native, size=grid, mode="bilinear", align_corners=False)[0]
    cls = visual.class_embedding + table[0] + (visual.class_embedding if decoder.class_twice else 0)
    x = visual.ln_pre(torch.cat([cls[None], (patches + positions).flatten(1).T]))
    count, found = prompts.prompt_embeddings.shape[1], {}
    for i, block in enumerate(visual.transformer.resblocks):
        own = prompts.prompt_embeddings[0] if i == 0 else prompts.deep_prompt_embeddings[i - 1]
        own = own @ prompts.prompt_proj.weight.T + prompts.prompt_proj.bias
        x = torch.cat([x[:1], own, x[-grid[0] * grid[1] :]])
        x = block(x[None])[0]
        kept = torch.cat([x[:1], x[1 + count :]])
        found[i] = F.layer_norm(kept, kept.shape[1:], prompts.prompt_norm.weight, prompts.prompt_norm.bias, 1e-6)
    last = F.normalize(visual.ln_post(found[len(found) - 1]) @ visual.proj, dim=1)
    stages = []
    for group, weights in zip(decoder.groups, decoder.group_weights, strict=True):
        total = 0
        for weight, block in zip(weights, group, strict=True):
            mapped = decoder.tap_norms[str(block)](found[block][1:]) @ decoder.tap_projections[str(block)]
            total = total + weight * F.normalize(mapped, dim=1)
        stages.append(total)
    result = 0
    for stage, memory in zip(decoder.stages, [*stages, last[1:]], strict=True):
        words = stage.q_proj(torch.cat([text * last[0], text], dim=1))
        for layer in stage.layers:
            v, mixed = layer.v(memory), []
            for part, products in heads_of(layer, words, memory):
                mixed.append(products.softmax(1) @ v[:, part])
            words = layer.norm1(words + layer.out(torch.cat(mixed, dim=1)))
            words = layer.norm2(words + layer.ffn(words))
        maps = [products for _, products in heads_of(stage.maps, words, memory)]
        result = result + torch.stack(maps).mean(0)
    return result.unflatten(1, tuple(grid))


@pytest.mark.parametrize("groups", [(), GROUPS], ids=["zegclip", "cascade_clip"])
@pytest.mark.parametrize("twice", [True, False])
@torch.no_grad()
def test_maps_are_those_of_the_equations(backbone, groups, twice):
    decoder = make(backbone, groups=groups, class_twice=twice)
    images, text = torch.randn(2, 3, 64, 80), F.normalize(torch.randn(5, 32), dim=1)
    got = decoder(decoder.features(images, backbone), text).maps
    for image, maps in zip(images, got, strict=True):
        expected = written_out(decoder, backbone, image, text)
        torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_word_s_map_does_not_depend_on_the_others(backbone):
    decoder, text = make(backbone, groups=GROUPS), F.normalize(torch.randn(6, 32), dim=1)
    features = decoder.features(torch.randn(1, 3, 64, 64), backbone)
    torch.testing.assert_close(decoder(features, text).maps[:, 2:4], decoder(features, text[2:4]).maps)


def test_weights_of_groups_begin_as_a_half_gaussian(backbone):
    weights = RelationDecoder(backbone.tower, groups=((0, 1, 2),)).group_weights[0]
    torch.testing.assert_close(weights, torch.tensor([0.1353, 0.6065, 1.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("groups", [((0, 4),), ((0, 1), (1, 2)), ((),)])
def test_groups_of_other_blocks_are_refused(backbone, groups):
    with pytest.raises(ValueError, match="groups"):
        RelationDecoder(backbone.tower, groups=groups)


def test_focal_and_dice_written_out():
    torch.manual_seed(0)
    maps, labels = torch.randn(2, 3, 4, 4, dtype=torch.double), torch.randint(0, 3, (2, 4, 4))
    labels[labels == 1], labels[0, 0] = 2, 255  # word 1 is nowhere, a row is unknown

    class Given:
        pass

    given = Given()
    given.maps = maps.float()
    losses = FocalDiceLoss()(given, labels, 255)
    focal = dice = masks = 0.0
    for image, truth in zip(maps.sigmoid(), labels, strict=True):
        known = truth != 255
        for word, p in enumerate(image):
            t = (truth == word).double()
            right = torch.where(t > 0, p, 1 - p)
            share = torch.where(t > 0, 0.25, 0.75)
            focal += (-share * (1 - right) ** 2 * right.log())[known].mean()
            if t.any():
                masks += 1
                dice += 1 - (2 * (p * t)[known].sum() + 1) / (p[known].sum() + t[known].sum() + 1)
    assert losses["loss_focal"].item() == pytest.approx(100 * focal.item() / masks, rel=1e-5)
    assert losses["loss_dice"].item() == pytest.approx(dice.item() / masks, rel=1e-5)


def test_pixels_of_unknown_words_take_the_likeliest_of_them():
    labels = torch.tensor([[[0, 1, 255], [3, 2, 0]]])
    maps = torch.zeros(1, 4, 2, 3)
    maps[0, 0] = 9.0  # a seen word never labels anything
    maps[0, 1, :, 1:], maps[0, 3, :, 0] = 2.0, 1.0
    got = pseudo_labelled(labels, maps, [1, 3], 255)
    assert got.tolist() == [[[0, 1, 1], [3, 2, 0]]]
    assert renumbered(labels, [0, 2], 4, 255).tolist() == [[[0, 255, 255], [255, 1, 0]]]


def test_self_training_begins_when_it_is_said():
    class Runner:
        model, iter = torch.nn.Module(), 0

    hook, runner = SelfTrainingHook(begin=2), Runner()
    seen = []
    for runner.iter in range(4):
        hook.before_train_iter(runner, runner.iter)
        seen.append(runner.model.self_training)
    assert seen == [False, False, True, True]
