"""SegCLIP's losses against loops written out."""

import math

import pytest
import torch
import torch.nn.functional as F

from ovseg.training.grouping import PatchReconstruction, patches_of, superpixel_loss


def test_superpixel_loss_written_out():
    torch.manual_seed(0)
    logits, ids = torch.randn(2, 3, 6), torch.tensor([[4, 4, 7, 7, 7, 9], [4, 4, 4, 4, 7, 7]])
    total = 0.0
    for photo, own in zip(logits, ids, strict=True):
        shares = photo.softmax(0).T
        for patch, segment in zip(shares, own, strict=True):
            mean = shares[own == segment].mean(0)
            there = sum(float(p) * math.log(p / m) for p, m in zip(patch, mean, strict=True))
            back = sum(float(m) * math.log(m / p) for p, m in zip(patch, mean, strict=True))
            total += (there + back) / 2 / ids.numel()
    assert float(superpixel_loss(logits, ids)) == pytest.approx(total, rel=1e-5)


def test_patches_that_agree_have_no_superpixel_loss_and_sure_ones_a_finite_one():
    logits = torch.randn(1, 4, 1).expand(1, 4, 5)
    assert float(superpixel_loss(logits, torch.zeros(1, 5, dtype=torch.long))) == pytest.approx(0, abs=1e-6)
    apart = torch.tensor([[[500.0, 0.0], [0.0, 500.0]]], requires_grad=True)
    loss = superpixel_loss(apart, torch.zeros(1, 2, dtype=torch.long))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(apart.grad).all()


def test_patches_hold_the_pixels_of_their_place():
    images = torch.randn(1, 3, 32, 48)
    got = patches_of(images, 16)
    assert got.shape == (1, 6, 768)
    torch.testing.assert_close(got[0, 4], images[0, :, 16:32, 16:32].flatten())


def test_only_patches_that_were_left_out_count_and_know_nothing_of_their_pixels():
    torch.manual_seed(0)
    module = PatchReconstruction(32, 2, 8, decoder_width=16, decoder_heads=2, decoder_blocks=1)
    seen = module.choose(2, 16, torch.device("cpu"))
    assert seen.shape == (2, 4) and all(len(set(row)) == 4 for row in seen.tolist())
    tokens, images = torch.randn(2, 4, 32), torch.randn(2, 3, 32, 32)
    predicted, pixels, errors = module(tokens, seen, (4, 4)), patches_of(images, 8), []
    for row in range(2):
        errors += [F.mse_loss(predicted[row, n], pixels[row, n]) for n in range(16) if n not in seen[row].tolist()]
    torch.testing.assert_close(module.loss(tokens, seen, images), torch.stack(errors).mean())
    with pytest.raises(ValueError, match="share is 1"):
        PatchReconstruction(32, 2, 8, share=1)
