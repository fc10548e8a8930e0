"""Framings against the official pipelines' own steps, written out plainly here."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.decoders import CropsAndWhole, Prediction, SlidingCrops, WholePhoto
from ovseg.windows import window_starts

SIZE = (70, 90)


def resize(x, size):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def image(h, w):
    return torch.randn(1, 3, h, w, generator=torch.Generator().manual_seed(1))


def maps(n, k=5, side=8):
    return 3 * torch.randn(n, k, side, side, generator=torch.Generator().manual_seed(2))


def test_padded_photo_follows_detectron2():
    framing, photo = WholePhoto(pad_multiple=32), image(50, 80)
    frames = framing.frames(photo)
    assert frames.shape == (1, 3, 64, 96)
    assert torch.equal(frames[..., :50, :80], photo) and not frames[..., 50:, :].any() and not frames[..., 80:].any()
    logits = maps(1)
    found = framing.merge(Prediction(logits), (50, 80), SIZE).block()
    expected = resize(resize(logits, (64, 96)).sigmoid()[..., :50, :80], SIZE)[0]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_masks_are_mixed_by_their_classes():
    logits, classes = maps(1, k=6), torch.rand(1, 6, 4)
    found = WholePhoto().merge(Prediction(logits, classes), (50, 80), SIZE)
    masks = resize(resize(logits, (64, 96)).sigmoid()[..., :50, :80], SIZE)[0]
    expected = torch.einsum("kq,khw->qhw", classes[0], masks)
    assert found.num_queries == 4 and found.size == SIZE
    torch.testing.assert_close(found.block(), expected, atol=1e-6, rtol=0)
    part = found.block(slice(1, 3), slice(20, 40), slice(5, 50))
    torch.testing.assert_close(part, expected[1:3, 20:40, 5:50], atol=1e-6, rtol=0)


def test_squeezed_photo_keeps_its_padding():
    framing, photo = WholePhoto(pad_multiple=32, side=48, cut_padding=False), image(50, 80)
    torch.testing.assert_close(framing.frames(photo), resize(F.pad(photo, (0, 16, 0, 14)), (48, 48)))
    logits = maps(1)
    found = framing.merge(Prediction(logits), (50, 80), SIZE).block()
    torch.testing.assert_close(found, resize(logits.sigmoid(), SIZE)[0], atol=1e-6, rtol=0)


def test_crops_and_whole_follow_cat_seg():
    framing, photo = CropsAndWhole(canvas=40, crop=24, stride=16, side=21), image(50, 80)
    canvas = resize(photo, (40, 40))
    places = [(y, x) for y in (0, 16) for x in (0, 16)]
    parts = [canvas[..., y : y + 24, x : x + 24] for y, x in places] + [resize(photo, (24, 24))]
    torch.testing.assert_close(framing.frames(photo), resize(torch.cat(parts), (21, 21)))
    logits = maps(5)
    up = resize(logits, (24, 24)).sigmoid()
    total, visits = torch.zeros(5, 40, 40), torch.zeros(40, 40)
    for part, (y, x) in zip(up, places, strict=False):
        total[:, y : y + 24, x : x + 24] += part
        visits[y : y + 24, x : x + 24] += 1
    mean = (total / visits + resize(up[4:], (40, 40))[0]) / 2
    found = framing.merge(Prediction(logits), (50, 80), SIZE)
    expected = resize(mean[None], SIZE)[0]
    torch.testing.assert_close(found.block(), expected, atol=1e-6, rtol=0)
    for queries, rows, columns, block in found.blocks():
        torch.testing.assert_close(block, expected[queries, rows, columns], atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(50, 80), (20, 30)])
def test_sliding_crops_are_averaged_where_they_meet(shape):
    framing, photo = SlidingCrops(crop=24, stride=16), image(*shape)
    frames = framing.frames(photo)
    padded = F.pad(photo, (0, max(0, 24 - shape[1]), 0, max(0, 24 - shape[0])))
    starts = [window_starts(n, 24, 16) for n in padded.shape[2:]]
    places = [(y, x) for y in starts[0] for x in starts[1]]
    assert torch.equal(frames, torch.cat([padded[..., y : y + 24, x : x + 24] for y, x in places]))
    logits = maps(len(places))
    total, visits = torch.zeros(5, *padded.shape[2:]), torch.zeros(padded.shape[2:])
    for part, (y, x) in zip(resize(logits, (24, 24)).sigmoid(), places, strict=True):
        total[:, y : y + 24, x : x + 24] += part
        visits[y : y + 24, x : x + 24] += 1
    expected = resize((total / visits)[None, :, : shape[0], : shape[1]], SIZE)[0]
    found = framing.merge(Prediction(logits), shape, SIZE).block()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_several_photos_are_framed_like_one():
    framing, photos = CropsAndWhole(canvas=40, crop=24, stride=16), torch.cat([image(50, 80), 2 * image(50, 80)])
    single = torch.cat([framing.frames(photo[None]) for photo in photos])
    assert torch.equal(framing.frames(photos), single)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="activation is 'softmax'"):
        WholePhoto(activation="softmax")
    with pytest.raises(ValueError, match="canvas 20, crop 24"):
        CropsAndWhole(canvas=20, crop=24, stride=16)
