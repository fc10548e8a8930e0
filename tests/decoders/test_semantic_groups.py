"""SegCLIP's semantic layer and its class probabilities against the equations written out."""

import math

import pytest
import torch
import torch.nn.functional as F

from ovseg.backbones import ClipBackbone
from ovseg.decoders import SegClipDecoder, SlidingCrops
from ovseg.decoders.framing import one_hot
from ovseg.weights import LoadedClip, get_card
from tests.small_models import small_clip


@pytest.fixture
def backbone(monkeypatch):
    def load(name, checkpoint=None):
        clip = small_clip(layers=5, quick_gelu=True)
        return LoadedClip(clip, (0.5,) * 3, (0.5,) * 3, get_card("openai/ViT-B-16"), "0" * 64, None)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)
    return ClipBackbone("openai/ViT-B-16")


def make(backbone, **settings) -> SegClipDecoder:
    torch.manual_seed(1)
    decoder = SegClipDecoder(backbone.tower, groups=4, **{"centres": 6, **settings}).eval()
    for parameter in decoder.parameters():  # weights that begin as 0 or 1 would hide a fault
        parameter.data += 0.1 * torch.randn_like(parameter)
    return decoder


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def attended(block, centres, seen):
    """Cross-attention of one photo, head by head."""
    q, (k, v), size = block.q(centres), block.kv(seen).chunk(2, dim=1), centres.shape[1] // block.heads
    mixed = []
    for head in range(block.heads):
        part = slice(head * size, (head + 1) * size)
        mixed.append((q[:, part] @ k[:, part].T / math.sqrt(size)).softmax(1) @ v[:, part])
    return block.out(torch.cat(mixed, dim=1))


def grouped(conv, x):
    """A grouped 1 x 1 convolution as one product for each group of channels."""
    outs = zip(x.chunk(conv.groups, dim=1), conv.weight[..., 0].chunk(conv.groups), strict=True)
    return torch.cat([part @ weight.T for part, weight in outs], dim=1) + conv.bias


def written_out(decoder, backbone, image):
    """Assignment ``[G, N]``, regions ``[G, D]`` and photo ``[D]`` of one image."""
    visual, layer = backbone.clip.visual, decoder.semantic
    x = visual.conv1(image[None])[0].flatten(1).T + visual.positional_embedding[1:]
    x = visual.ln_pre(x)
    for block in visual.transformer.resblocks[:-2]:
        x = block(x[None])[0]
    centres = layer.centres
    for block in layer.blocks:
        centres = centres + attended(block, block.norm1(centres), block.norm1(torch.cat([centres, x])))
        hidden = quick_gelu(block.ffn[0](block.norm2(centres)))
        centres = centres + block.ffn[2](hidden)
    normed = layer.norm(x)
    logits = centres @ layer.norm_k(grouped(layer.k, normed)).T
    values, tokens = grouped(layer.v, normed), []
    for index, centre in enumerate(centres):
        own = values[logits.argmax(0) == index]
        mean = own.mean(0) if len(own) else torch.zeros_like(centre)
        hidden = layer.mlp[0][0](layer.norm_token(centre + mean))
        tokens.append(quick_gelu(layer.mlp[0][2](quick_gelu(hidden))))
    tokens = torch.stack(tokens)
    for block in visual.transformer.resblocks[-2:]:
        tokens = block(tokens[None])[0]
    regions, photo = visual.ln_post(tokens) @ visual.proj, visual.ln_post(tokens.max(0).values) @ visual.proj
    return logits.softmax(0), F.normalize(regions, dim=1), F.normalize(photo, dim=0)


@torch.no_grad()
def test_regions_and_photo_are_those_of_the_equations(backbone):
    decoder, images = make(backbone, centres=12), torch.randn(3, 3, 64, 64)
    found = decoder.features(images, backbone)
    used = []
    for i, image in enumerate(images):
        assignment, regions, photo = written_out(decoder, backbone, image)
        torch.testing.assert_close(found["assignment"][i].flatten(1), assignment, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["regions"][i], regions, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["photo"][i], photo, rtol=1e-4, atol=1e-5)
        used.append(len(set(assignment.argmax(0).tolist())))
    assert min(used) > 1 and max(used) < 12  # centres with patches and without


@torch.no_grad()
def test_classes_are_two_softmaxes_one_among_the_words_that_fit_the_photo(backbone):
    decoder, text = make(backbone, best=3), F.normalize(torch.randn(7, 32), dim=1)
    features = decoder.features(torch.randn(2, 3, 64, 64), backbone)
    scale = float(backbone.clip.logit_scale.exp())
    found = decoder(features, text).classes
    for i in range(2):
        best = (text @ features["photo"][i]).sort(descending=True).indices[:3].tolist()
        for g, region in enumerate(features["regions"][i]):
            weights = [math.exp(scale * float(region @ word)) for word in text]
            expected = [
                (w / sum(weights)) * (w / sum(weights[j] for j in best)) if c in best else 0.0
                for c, w in enumerate(weights)
            ]
            torch.testing.assert_close(found[i, g], torch.tensor(expected), rtol=1e-3, atol=1e-6)
    assert decoder(features, text[:2]).classes.shape == (2, 6, 2)  # fewer words than fit


@torch.no_grad()
def test_a_photo_does_not_depend_on_the_batch(backbone):
    decoder, images = make(backbone), torch.randn(4, 3, 64, 64)
    together = decoder.features(images, backbone)
    for i in range(4):
        alone = decoder.features(images[i : i + 1], backbone)
        for key, value in alone.items():
            torch.testing.assert_close(together[key][i : i + 1], value, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_pixel_has_the_classes_of_its_largest_centre(backbone):
    decoder, text = make(backbone), F.normalize(torch.randn(4, 32), dim=1)
    framing = SlidingCrops(crop=64, stride=64, activation="one_hot")
    photo = torch.randn(1, 3, 64, 128)
    prediction = decoder(decoder.features(framing.frames(photo), backbone), text)
    scores = framing.merge(prediction, (64, 128), (64, 128)).block()
    for window, columns in enumerate((slice(64), slice(64, None))):
        large = F.interpolate(prediction.maps[window][None], (64, 64), mode="bilinear", align_corners=False)[0]
        expected = prediction.classes[window][large.argmax(0)].permute(2, 0, 1)
        torch.testing.assert_close(scores[..., columns], expected, rtol=1e-4, atol=1e-6)


def test_one_map_of_a_pixel_is_one():
    maps = torch.tensor([[[0.2, 0.5]], [[0.7, 0.5]]])
    assert one_hot(maps).tolist() == [[[0.0, 1.0]], [[1.0, 0.0]]]


def test_training_draws_a_centre_and_keeps_the_gradients(backbone):
    layer = make(backbone).semantic.train().requires_grad_(True)
    patches = torch.randn(2, 10, 64)
    torch.manual_seed(0)
    first, second = layer(patches).assignment, layer(patches)
    torch.testing.assert_close(first.detach(), first.detach().round().clamp(0, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(first.sum(1), torch.ones(2, 10))
    assert not torch.equal(first, second.assignment)  # other noise
    second.tokens.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"before": 5}, "before is 5"), ({"best": 0}, "best is 0"), ({"groups": 5}, "groups is 5")],
)
def test_what_does_not_fit_is_refused(backbone, settings, message):
    with pytest.raises(ValueError, match=message):
        SegClipDecoder(backbone.tower, **{"groups": 4, **settings})
