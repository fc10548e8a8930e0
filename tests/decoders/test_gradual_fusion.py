"""SED's decoder: attention among classes, early rejection, pieces, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from ovseg.decoders import gradual_fusion
from ovseg.decoders.cost_layers import ClassLayer
from ovseg.decoders.gradual_fusion import GradualFusionDecoder
from tests.small_models import images

CHANNELS, TEMPLATES, WIDTH = (8, 16, 24, 32), 3, 12


class Encoder:
    """A ConvNeXt as decoders know it: four maps, and a step into the text space."""

    def __init__(self):
        self.tower = SimpleNamespace(project=lambda vectors: vectors @ images(CHANNELS[-1], WIDTH, seed=4))

    def __call__(self, frames):
        sizes = [(frames.shape[2] // s, frames.shape[3] // s) for s in (4, 8, 16, 32)]
        pooled = [F.adaptive_avg_pool2d(frames, size) for size in sizes]
        waves = [torch.linspace(-1, 1, channels).view(-1, 1, 1) for channels in CHANNELS]
        return [m.repeat(1, len(w), 1, 1)[:, : len(w)] * w for m, w in zip(pooled, waves, strict=True)]


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return GradualFusionDecoder(SimpleNamespace(channels=CHANNELS), templates=TEMPLATES).eval()


def words(count, seed=2):
    return F.normalize(images(count, TEMPLATES, WIDTH, seed=seed), dim=-1)


def predict(decoder, frames, text):
    with torch.no_grad():
        return decoder(decoder.features(frames, Encoder()), text)


def test_words_attend_to_each_other_linearly_without_guidance_and_padding():
    torch.manual_seed(0)
    layer, x = ClassLayer(8, 0, padded=0, heads=4), images(2, 5, 8)
    normed = layer.norm1(x)
    q, k, v = (
        F.linear(normed, p.weight, p.bias).unflatten(-1, (4, 2)) for p in (getattr(layer.attention, n) for n in "qkv")
    )
    weights = torch.einsum("nthd,nshd->nhts", F.elu(q) + 1, F.elu(k) + 1)
    mixed = x + torch.einsum("nhts,nshd->nthd", weights / weights.sum(-1, keepdim=True), v).flatten(2)
    expected = mixed + layer.MLP(layer.norm2(mixed))
    torch.testing.assert_close(layer(x, x.new_zeros(1, 0)), expected, atol=1e-5, rtol=1e-5)
    assert not any("padding" in name for name, _ in layer.named_parameters())


def test_maps_follow_their_words_whatever_the_order_and_the_batch(decoder):
    frames, text = images(2, 3, 64, 96), words(4)
    maps = predict(decoder, frames, text).maps
    assert maps.shape == (2, 4, 16, 24)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(predict(decoder, frames, text[order]).maps, maps[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(predict(decoder, frames[1:], text).maps, maps[1:], atol=1e-6, rtol=1e-6)


def test_pieces_change_nothing(decoder, monkeypatch):
    frames, text = images(1, 3, 64, 64), words(5)
    whole = decoder(decoder.features(frames, Encoder()), text).maps.detach()  # with gradients nothing is cut
    monkeypatch.setattr(gradual_fusion, "PIECE_VALUES", 3000)
    torch.testing.assert_close(predict(decoder, frames, text).maps, whole, atol=1e-5, rtol=1e-5)


def test_rejected_classes_have_probability_zero(decoder):
    frames, text = images(1, 3, 64, 64), words(40)
    everything = predict(decoder, frames, text).maps
    decoder.early_rejection = 40
    torch.testing.assert_close(predict(decoder, frames, text).maps, everything)
    decoder.early_rejection = 1
    features = decoder.features(frames, Encoder())
    cost = torch.einsum("qpd,dhw->qphw", text, features["dense"][0])
    at_first = set(decoder.head0(decoder.conv1(cost))[:, 0].argmax(0).flatten().tolist())
    maps = predict(decoder, frames, text).maps
    kept = {i for i in range(40) if torch.isfinite(maps[0, i]).all()}
    assert 0 < len(kept) <= len(at_first) < 40 and kept <= at_first
    assert all((maps[0, i].sigmoid() == 0).all() for i in range(40) if i not in kept)


def test_training_gives_the_smaller_maps_and_spares_the_encoder_the_guidance(decoder):
    decoder.train()
    frames = images(1, 3, 64, 64).requires_grad_()
    prediction = decoder(decoder.features(frames, Encoder()), words(3))
    sizes = [prediction.extras[f"auxiliary_{i}"].shape for i in range(3)]
    assert sizes == [(1, 3, 2, 2), (1, 3, 4, 4), (1, 3, 8, 8)]
    sum(prediction.extras[f"auxiliary_{i}"].sum() for i in range(3)).backward()
    assert frames.grad is None and decoder.conv1.weight.grad is None  # the heads look at detached maps
    assert float(decoder.head1.weight.grad.norm()) > 0
    decoder.features(frames, Encoder())["guide1"].sum().backward()
    assert frames.grad is None


def test_texts_of_another_form_are_refused(decoder):
    features = decoder.features(images(1, 3, 64, 64), Encoder())
    for text in (words(3)[:, 0], words(3)[:, :2]):
        with pytest.raises(ValueError, match="templates_apart=True"):
            decoder(features, text)
    with pytest.raises(ValueError, match="at least 1"):
        GradualFusionDecoder(SimpleNamespace(channels=CHANNELS), templates=3, early_rejection=0)
