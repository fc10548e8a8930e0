"""Losses against their definition, written out plainly here."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.decoders import Prediction
from ovseg.training import BinaryMapLoss, PixelLoss


def case():
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 16, 16))
    labels[0, :4] = 255
    return Prediction(torch.randn(2, 3, 8, 8)), labels


def plain(prediction, labels):
    logits = F.interpolate(prediction.maps, size=(16, 16), mode="bilinear", align_corners=False)
    target = torch.stack([(labels == word).float() for word in range(3)], dim=1)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def test_pixels_without_a_class_count_as_no_word():
    prediction, labels = case()
    found = BinaryMapLoss()(prediction, labels, 255)
    torch.testing.assert_close(found["loss_maps"], plain(prediction, labels).mean())


def test_pixels_without_a_class_can_be_left_out():
    prediction, labels = case()
    found = BinaryMapLoss(ignore=True)(prediction, labels, 255)
    known = (labels != 255)[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(found["loss_maps"], plain(prediction, labels)[known].mean())


def test_labels_beyond_the_words_are_named():
    prediction, labels = case()
    labels[1, 3, 3] = 7
    with pytest.raises(ValueError, match="labels . to 7 for the maps of 3 words"):
        BinaryMapLoss()(prediction, labels, 255)


def test_auxiliary_maps_have_the_loss_of_the_last():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 8, 8), generator=generator)
    maps, small = torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 2, 2, generator=generator)
    losses = BinaryMapLoss()(Prediction(maps, extras={"auxiliary_0": small, "class_logits": small}), labels, 255)
    assert set(losses) == {"loss_maps", "loss_auxiliary_0", "accuracy_maps"}
    torch.testing.assert_close(losses["loss_auxiliary_0"], BinaryMapLoss()(Prediction(small), labels, 255)["loss_maps"])


def test_pixels_without_a_class_are_left_out_of_the_pixel_loss():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 8, 8), generator=generator)
    labels[0] = 255
    maps = torch.randn(2, 3, 8, 8, generator=generator)
    losses = PixelLoss(2.0)(Prediction(maps), labels, 255)
    torch.testing.assert_close(losses["loss_pixels"], F.cross_entropy(2 * maps[1:], labels[1:]))
    torch.testing.assert_close(losses["accuracy_pixels"], (maps[1].argmax(0) == labels[1]).float().mean())
    assert float(PixelLoss()(Prediction(maps), torch.full_like(labels, 255), 255)["loss_pixels"]) == 0


def test_every_fourth_pixel_has_the_value_of_the_whole():
    torch.manual_seed(0)
    maps, labels = torch.randn(2, 5, 4, 6, requires_grad=True), torch.randint(0, 5, (2, 30, 41))
    labels[0, :9] = 255
    rest = torch.full_like(labels, 255)
    rest[:, 2::4, 2::4] = labels[:, 2::4, 2::4]
    some = PixelLoss(2.0, every=4)(Prediction(maps), labels, 255)
    whole = PixelLoss(2.0)(Prediction(maps), rest, 255)
    for name in whole:
        torch.testing.assert_close(some[name], whole[name])
    gradients = [torch.autograd.grad(losses["loss_pixels"], maps)[0] for losses in (some, whole)]
    torch.testing.assert_close(*gradients)
    with pytest.raises(ValueError, match="every is 0"):
        PixelLoss(every=0)
