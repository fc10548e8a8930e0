"""SegEarth-OV's upsampled scores against features upsampled in full."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.apis import Segmenter
from ovseg.encoder import WindowBatch
from ovseg.scores import ScoreMap
from ovseg.stitches import UpsampledStitch
from ovseg.stitches.upsampled import UpsampledScoreMap
from ovseg.weights import Loaded, get_card
from ovseg.weights.simfeatup import JointBilateralUpsampler
from tests.small_guides import MEAN, STD, shake
from tests.small_models import images

WORDS = ["cat", "dog; puppy", "grass", "car"]


@pytest.fixture
def model(monkeypatch):
    torch.manual_seed(0)
    upsampler = shake(JointBilateralUpsampler(256, key_dim=4, radius=2), 0.05)
    loaded = Loaded(upsampler, MEAN, STD, get_card("segearth/jbu_one"), "0" * 64)
    monkeypatch.setattr("ovseg.stitches.upsampled.load_heads", lambda name, checkpoint=None: loaded)
    built = Segmenter("nano", "segearth", short_side=64)
    built.set_vocabulary(WORDS)
    built.model.stitch = UpsampledStitch()
    built.model.windows.crop, built.model.windows.stride = 48, 32
    return built.model


def test_scores_are_cosines_of_upsampled_features(model):
    encoder, queries, batch = model.encoder, model.queries, WindowBatch(images(2, 3, 48, 32))
    stitch = model.stitch
    got = stitch.score(stitch.encode(batch, encoder), encoder, queries)
    tokens = encoder.tokens(batch)
    projected, tower = encoder.project(tokens), encoder.backbone.tower
    for w in range(2):
        features = projected.patches[w].unflatten(0, (3, 2))
        whole = torch.cat(list(stitch.upsampler.strips(features, batch.windows[w])))
        class_token = F.normalize(tower.project(tower.post_norm(tokens.tokens[w, 0])), dim=-1)
        cosines = torch.einsum("qc,chw->qhw", queries.text, F.normalize(whole, dim=0))
        want = cosines - 0.3 * (queries.text @ class_token)[:, None, None]
        assert got[w].shape == (5, 48, 32)
        torch.testing.assert_close(got[w], want, atol=1e-4, rtol=1e-4)


def test_the_map_is_made_of_a_few_queries_at_a_time(model):
    size = (70, 91)
    photo = model.prepare(torch.randint(0, 256, (3, 64, 83), dtype=torch.uint8), size)
    scores = model.score([photo])[0]
    assert isinstance(scores, UpsampledScoreMap) and scores.num_queries == 5
    layout = scores.layout
    windows = torch.stack([scores.scores[i] for i in range(len(layout))])
    want = ScoreMap.from_windows(windows, layout, size).block()
    torch.testing.assert_close(scores.block(slice(1, 3), slice(4, 50)), want[1:3, 4:50], atol=1e-5, rtol=1e-5)
    scores.max_values = 2 * len(layout) * 48 * 48
    seen = torch.full((5, *size), torch.nan)
    for queries, rows, columns, block in scores.blocks():
        assert queries.stop - queries.start <= 2 and seen[queries, rows, columns].isnan().all()
        seen[queries, rows, columns] = block
    torch.testing.assert_close(seen, want, atol=1e-5, rtol=1e-5)
    labels = model.predict([photo])[0]
    assert labels.shape == size and labels.max() < 4
