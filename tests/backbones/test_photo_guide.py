"""The guide of photo scope against the whole map at pixel size, built in full."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.backbones import DinoBackbone, PhotoGuide, photo_guide
from ovseg.encoder import WindowEncoder
from ovseg.ops import bilinear_matrix
from ovseg.photo import Photo
from ovseg.windows import SlidingWindows
from tests.small_guides import use_small_guides


@pytest.fixture
def guide(monkeypatch):
    use_small_guides(monkeypatch)
    return PhotoGuide(dict(type="DinoBackbone", weights="dino/vitb16"))


def picture(height, width, resized, seed=0):
    g = torch.Generator().manual_seed(seed)
    original = torch.randint(0, 256, (3, height, width), generator=g, dtype=torch.uint8)
    return Photo(torch.zeros(3, *resized), (height, width), original)


def whole_map(photo, size):
    return F.normalize(F.interpolate(photo.dense[None], size=size, mode="bilinear", align_corners=False)[0], dim=0)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(20, 120),
    st.integers(20, 120),
    st.sampled_from((None, 32, 48)),
    st.sampled_from((None, 56)),
    st.integers(1, 3),
)
def test_windows_are_cut_from_the_map_and_shrunk(h, w, crop, pad, scale):
    with pytest.MonkeyPatch.context() as patch:
        use_small_guides(patch)
        guide = PhotoGuide(dict(type="DinoBackbone", weights="dino/vitb16"), scale)
    photo = picture(75, 90, (h, w))
    layout = SlidingWindows(crop=crop, stride=24 if crop else None, pad_multiple=pad).layout(h, w, 16)
    got = guide.cut(photo, layout, 16)
    full = whole_map(photo, (h, w))
    (wh, ww), (ph, pw), (top, left) = layout.window, layout.padded, layout.offset
    cells = (scale * (ph // 16), scale * (pw // 16))
    places = [(y, x) for y in layout.starts[0] for x in layout.starts[1]]
    for (y, x), features in zip(places, got, strict=True):
        window = full[None, :, y : y + wh, x : x + ww]
        window = F.pad(window, (left, pw - ww - left, top, ph - wh - top), mode="replicate")
        want = F.interpolate(window, size=cells, mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(features, F.normalize(want, dim=0).permute(1, 2, 0), atol=1e-4, rtol=1e-4)


def test_the_photo_is_encoded_once_at_its_own_size(guide, monkeypatch):
    seen = []
    patches = DinoBackbone.patches
    monkeypatch.setattr(DinoBackbone, "patches", lambda self, x: seen.append(tuple(x.shape)) or patches(self, x))
    photo = picture(40, 56, (64, 90))
    layout = SlidingWindows(crop=48, stride=24).layout(64, 90, 16)
    first, again = guide.cut(photo, layout, 16), guide.cut(photo, layout, 16)
    assert torch.equal(first, again)
    assert seen == [(1, 3, 32, 64)], "40 / 16 = 2.5 and 56 / 16 = 3.5: halves go to the even side"


def test_dense_features_are_those_of_the_source_before_it_normalises(guide):
    source, photo = guide.source, picture(32, 48, (32, 48))
    windows = photo.original[None].float()
    zero, one = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    want = source(windows, zero, one)
    got = guide.dense(photo)
    torch.testing.assert_close(F.normalize(got, dim=0), want.as_image()[0], atol=1e-5, rtol=1e-4)
    assert (got.norm(dim=0) - 1).abs().max() > 0.1


@pytest.mark.parametrize("weights", [1 << 24, 1, 26])
@pytest.mark.parametrize("size", [(20, 33), (2, 3), (96, 130)])
def test_region_means_are_means_over_pixels(guide, monkeypatch, weights, size):
    monkeypatch.setattr(photo_guide, "WEIGHTS", weights)
    photo = picture(48, 64, size)
    regions = torch.randint(-2, 5, size, generator=torch.Generator().manual_seed(1)) * 1000
    ids, means = guide.region_means(photo, regions)
    full = whole_map(photo, size)
    assert ids.tolist() == sorted(regions.unique().tolist())
    for i, mean in zip(ids, means, strict=True):
        torch.testing.assert_close(mean, F.normalize(full[:, regions == i].mean(1), dim=0), atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (4, 1), (3, 6)])
def test_lengths_of_pixels_that_are_never_made(grid):
    dense = torch.randn(7, *grid, generator=torch.Generator().manual_seed(2)) + 0.3
    rows, columns = (bilinear_matrix(n, m) for n, m in zip(grid, (11, 17), strict=True))
    want = F.interpolate(dense[None], size=(11, 17), mode="bilinear", align_corners=False)[0].norm(dim=0)
    torch.testing.assert_close(photo_guide.pixel_lengths(dense, rows, columns), want, atol=1e-5, rtol=1e-4)


def test_the_encoder_hands_every_window_its_part(guide, monkeypatch):
    class Clip:
        patch_size = 16
        mean = std = torch.ones(3, 1, 1)

    class Attention:
        window_scope = "window"

    windows = SlidingWindows(crop=32, stride=16, batch=3)
    encoder = WindowEncoder(windows, Clip(), Attention(), guide)
    photos = [picture(40, 50, (40, 50)), picture(50, 40, (32, 64), seed=1)]
    layouts = [encoder.layout(p) for p in photos]
    wanted = [guide.cut(p, layout, 16) for p, layout in zip(photos, layouts, strict=True)]
    place = [0, 0]
    for owners, batch in encoder.batches(photos, layouts):
        features = encoder.guide_of(batch)
        assert features.grid == (4, 4)
        for owner, own in zip(owners, features.tokens, strict=True):
            torch.testing.assert_close(own, wanted[owner][place[owner]].flatten(0, 1))
            place[owner] += 1
    assert place == [len(w) for w in wanted]


def test_refuses(guide):
    with pytest.raises(ValueError, match="dense features"):
        PhotoGuide(dict(type="CachedGuide", source=dict(type="StemGuide")))
    with pytest.raises(ValueError, match="scale is 0"):
        PhotoGuide(dict(type="DinoBackbone", weights="dino/vitb16"), 0)
    with pytest.raises(ValueError, match="needs the photo"):
        guide(torch.zeros(1, 3, 32, 32), torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
