"""SegEarth-OV's class token in the scores."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.apis import Segmenter
from ovseg.encoder import WindowBatch
from ovseg.stitches import ClassTokenStitch
from tests.small_models import images


@pytest.fixture(scope="module")
def model():
    built = Segmenter("nano", "segearth", short_side=112)
    built.set_vocabulary(["cat", "dog; puppy", "grass"])
    return built.model


def test_scores_are_cosines_minus_a_share_of_the_class_tokens(model):
    encoder, queries, batch = model.encoder, model.queries, WindowBatch(images(2, 3, 112, 80))
    tokens = encoder.tokens(batch)
    embedded = F.normalize(encoder.backbone.tower.project(encoder.backbone.tower.post_norm(tokens.tokens)), dim=-1)
    cosines = embedded @ queries.text.T
    want = (cosines[:, 1:] - 0.3 * cosines[:, :1]).transpose(1, 2).unflatten(2, (7, 5))
    got = model.stitch.score(model.stitch.encode(batch, encoder), encoder, queries)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_needs_a_class_token():
    encoder = Segmenter("nano", "proxyclip").model.encoder
    with pytest.raises(ValueError, match="class token"):
        ClassTokenStitch().encode(WindowBatch(images(1, 3, 112, 112)), encoder)
