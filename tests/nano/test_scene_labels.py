"""Label maps of scenes: only of words that are not held out, and right."""

from pathlib import Path

import numpy as np
import pytest

from ovseg.nano.dataset import class_names
from ovseg.nano.scene_labels import IGNORED, SceneLabels, held_out_words, seen_words
from tests.nano.conftest import FIXTURES

SCENES = Path(__file__).parents[2] / "data" / "scenes"


@pytest.fixture(scope="module")
def data() -> SceneLabels:
    return SceneLabels(sprites=str(FIXTURES), size=64, length=1000, style=dict(edge=(20, 60), items=(1, 3)))


def test_at_least_forty_objects_are_held_out():
    unseen, seen = held_out_words(), seen_words()
    assert len(unseen) >= 40 and not set(unseen) & set(seen)
    assert {*unseen, *seen} == set(class_names())
    for name, words in (("seen", seen), ("unseen", unseen)):
        assert tuple((SCENES / f"{name}.txt").read_text().splitlines()) == words


def test_held_out_words_are_never_drawn(data):
    words = {word for index in range(200) for word in data.draw(index)[1]}
    assert not words & set(held_out_words())


def test_labels_are_those_of_what_is_drawn(data):
    for index in range(20):
        scene, names = data.draw(index)
        item = data[index]
        labels = item["data_samples"].gt_sem_seg.data[0].numpy()
        assert np.array_equal(item["inputs"].numpy(), scene.image.transpose(2, 0, 1))
        for value, name in enumerate(names):
            expected = seen_words().index(name) if name in seen_words() else IGNORED
            assert (labels[scene.mask == value] == expected).all()
