"""ResCLIP's second pass as a stitch."""

import pytest
import torch
import torch.nn.functional as F

from ovseg import ops
from ovseg.apis import Segmenter
from ovseg.encoder import WindowBatch
from ovseg.stitches import FeedbackStitch
from tests.small_models import images


@pytest.fixture(scope="module")
def model():
    built = Segmenter("nano", "resclip", short_side=112)
    built.set_vocabulary(["cat", "dog; puppy", "grass", "brick wall", "car", "tree"])
    return built.model


@pytest.mark.parametrize(("height", "width"), [(112, 112), (50, 75)])
@pytest.mark.parametrize("queries", [1, 5, 847])
def test_patch_labels_are_the_mode_of_the_refined_maps(height, width, queries):
    stitch = FeedbackStitch(threshold=0.3, logit_scale=8.0, iterations=2, dilations=(2,))
    window, (gh, gw) = images(3, height, width), (height // 16, width // 16)
    cosines = torch.randn(queries, gh, gw, generator=torch.Generator().manual_seed(0))
    up = F.interpolate(cosines[None], size=(height, width), mode="bilinear", align_corners=False)
    best = (ops.pamr(window[None], up, 2, (2,))[0] * 8).softmax(0).max(0)
    labels = best.indices.masked_fill(best.values < 0.3, 0)
    cells = labels[: gh * 16, : gw * 16].unflatten(0, (gh, 16)).unflatten(2, (gw, 16)).transpose(1, 2).flatten(2)
    want = [[torch.bincount(cell, minlength=queries).argmax() for cell in row] for row in cells]
    assert stitch.patch_labels(cosines, window, 16).tolist() == torch.tensor(want).tolist()


def test_windows_do_not_see_each_other(model):
    encoder, queries, stitch = model.encoder, model.queries, model.stitch
    windows = images(3, 3, 112, 112)
    together = stitch.score(stitch.encode(WindowBatch(windows), encoder), encoder, queries)
    alone = stitch.score(stitch.encode(WindowBatch(windows[1:2]), encoder), encoder, queries)
    assert together.shape == (3, 6 + 1, 7, 7)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


def test_feedback_of_no_weight_is_the_first_pass(model):
    encoder, queries, stitch = model.encoder, model.queries, model.stitch
    attention, batch = encoder.attention, WindowBatch(images(1, 3, 112, 112))
    before = attention.feedback, attention.sharpness
    attention.feedback, attention.sharpness = 0.0, 1.0
    features = stitch.encode(batch, encoder)
    got, first = stitch.score(features, encoder, queries), queries.products(features["embeddings"])
    attention.feedback, attention.sharpness = before
    torch.testing.assert_close(got, first, atol=1e-5, rtol=1e-5)
    assert (stitch.score(features, encoder, queries) - first).abs().max() > 1e-3


def test_needs_an_attention_with_a_second_pass(model):
    encoder = Segmenter("nano", "clearclip").model.encoder
    with pytest.raises(ValueError, match="ResidualAttention"):
        model.stitch.encode(WindowBatch(images(1, 3, 112, 112)), encoder)


def test_photos_of_any_size(model):
    for size in ((96, 150), (1, 1)):
        photo = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        assert model.predict([model.prepare(photo, size)])[0].shape == size
