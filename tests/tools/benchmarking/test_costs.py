"""What trained methods cost: on nano, whose weights are there, and with a small stand-in."""

import numpy as np
import pytest
import torch

from ovseg.apis import config_root
from tools.benchmarking.clock import Clock, PeakMemory
from tools.benchmarking.costs import cost_job, cost_row, costed, parameters, plain_clip, whole_maps
from tools.benchmarking.methods import scene_photo

SAN = config_root() / "nano" / "san_nano_scenes.py"


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    return scene_photo((120, 160), tmp_path_factory.mktemp("photos"))


def test_streamed_and_whole_maps_are_the_same_labels(photo):
    row = cost_row(SAN, None, photo, 1, Clock())
    assert row["labels_as_whole_maps"] == 1.0 and row["words"] == 180
    assert row["gmac"] > 0.01 and row["seconds"] > 0 and row["whole_maps_mib"] >= 0
    assert row["trained_m"] == ""  # nothing was trained


def test_whole_maps_are_the_sum_of_the_parts(photo):
    job = cost_job(SAN, photo)
    labels = whole_maps(job)
    assert labels.shape == (120, 160) and len(labels.unique()) > 1
    scores = job.model.score([job.model.prepare(job.item["inputs"], job.size)])[0]
    best = torch.cat([scores.block(rows=slice(y, y + 1)) for y in range(120)], dim=1).argmax(0)
    assert torch.equal(labels, job.model.wording().queries.query_to_class[best])


def test_every_parameter_is_counted_once(photo):
    model = cost_job(SAN, photo).model
    count = parameters(model)
    every = sum({id(p): p.numel() for p in model.parameters()}.values()) / 1e6
    assert np.isclose(count["image"] + count["text"], every, atol=0.02)
    assert 6 < count["text"] < 8  # nearly all of it the token table: 49,408 x 128


def test_what_cannot_be_measured_is_told(photo):
    with pytest.raises(ValueError, match="has no decoder: --costs is for trained methods"):
        cost_job(config_root() / "nano" / "sclip_nano_scenes.py", photo)
    with pytest.raises(ValueError, match="no plain CLIP odd"):
        plain_clip("odd")
    assert all(config.is_file() and (recipe is None or recipe.is_file()) for config, recipe in costed(None).items())
    assert PeakMemory().growth(lambda: np.ones(2**22)) >= 0
