"""The loss of mask decoders: targets, matching, and what it says of wrong labels."""

import pytest
import torch

from ovseg.decoders import Prediction
from ovseg.training.mask_loss import MaskSetLoss, targets

pytest.importorskip("transformers")


@pytest.fixture
def labels():
    image = torch.zeros(1, 32, 32, dtype=torch.long)
    image[0, :, 16:] = 2
    image[0, 24:] = 255
    return image


def prediction_of(labels, order=(1, 0, 2), sure=20.0):
    """Two masks that are right, in the places ``order`` gives them, and one that is "no object"."""
    masks = torch.full((1, 3, 32, 32), -sure)
    logits = torch.zeros(1, 3, 4)
    for place, label in zip(order, (0, 2, 3), strict=True):
        masks[0, place][labels[0] == label] = sure
        logits[0, place, label] = sure
    return Prediction(masks, extras={"class_logits": logits})


def test_targets_are_one_mask_for_each_class(labels):
    (masks,), (classes,) = targets(labels, 3, 255)
    assert classes.tolist() == [0, 2] and masks.shape == (2, 32, 32)
    assert torch.equal(masks[1].bool(), labels[0] == 2)
    with pytest.raises(ValueError, match="labels 0 to 2 for the maps of 2 words"):
        targets(labels, 2, 255)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_right_masks_cost_nothing_wherever_they_stand(labels, order):
    torch.manual_seed(0)
    losses = MaskSetLoss(points=256)(prediction_of(labels, order), labels, 255)
    assert set(losses) == {"loss_class", "loss_mask", "loss_dice"}
    # most points lie on the masks' borders, where a logit of 0 meets a target of 0.5
    assert float(losses["loss_class"]) < 0.1 and float(losses["loss_mask"]) < 3.5 and float(losses["loss_dice"]) < 0.5
    wrong = prediction_of(labels, order)
    wrong.extras["class_logits"] = wrong.extras["class_logits"].roll(1, -1)
    assert float(MaskSetLoss(points=256)(wrong, labels, 255)["loss_class"]) > 10


def test_weights_count_in_the_losses(labels):
    found = []
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        loss = MaskSetLoss(class_weight=2 * weight, mask_weight=5 * weight, dice_weight=5 * weight, points=64)
        found.append(loss(prediction_of(labels, sure=1.0), labels, 255))
    for name in found[0]:
        torch.testing.assert_close(3 * found[0][name], found[1][name])


def test_earlier_layers_are_trained_on_their_own(labels):
    prediction = prediction_of(labels)
    prediction.extras["earlier_masks"] = torch.stack([-prediction.maps, prediction.maps], dim=1)
    prediction.extras["earlier_class_logits"] = torch.stack([prediction.extras["class_logits"]] * 2, dim=1)
    losses = MaskSetLoss(points=256)(prediction, labels, 255)
    assert set(losses) == {f"loss_{n}{s}" for n in ("class", "mask", "dice") for s in ("", "_0", "_1")}
    assert float(losses["loss_mask_0"]) > 20 > 3.5 > float(losses["loss_mask_1"])


def test_an_image_without_labels_only_teaches_no_object():
    labels = torch.full((1, 32, 32), 255)
    prediction = prediction_of(torch.zeros(1, 32, 32, dtype=torch.long))
    prediction.maps.requires_grad_()
    prediction.extras["class_logits"].requires_grad_()
    losses = MaskSetLoss(points=64)(prediction, labels, 255)
    assert float(losses["loss_mask"]) == 0 == float(losses["loss_dice"]) and float(losses["loss_class"]) > 1
    sum(losses.values()).backward()
    assert torch.isfinite(prediction.extras["class_logits"].grad).all()
