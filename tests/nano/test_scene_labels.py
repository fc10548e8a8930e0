"""Label maps of scenes: only of words that are not held out, and right."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg.nano.dataset import class_names
from ovseg.nano.scene_labels import IGNORED, CaptionedScenes, SceneLabels, UnlabelledScenes, held_out_words, seen_words
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


SCENE = dict(sprites=str(FIXTURES), size=64, length=1000, style=dict(edge=(20, 60), items=(1, 3)))


def test_scenes_without_labels_show_the_same_words_and_tell_none():
    unlabelled = UnlabelledScenes(pipeline=[dict(type="PackInputs")], **SCENE)
    labelled = SceneLabels(**SCENE)
    for index in range(5):
        item = unlabelled[index]
        assert "gt_sem_seg" not in item["data_samples"]
        assert torch.equal(item["inputs"], labelled[index]["inputs"])


def test_captions_name_what_is_seen_and_no_mask_leaves():
    captioned = CaptionedScenes(pipeline=[dict(type="PackInputs", keys=("captions",))], **SCENE)
    for index in range(20):
        scene, names = captioned.draw(index)
        item = captioned[index]
        assert "gt_sem_seg" not in item["data_samples"]
        words = item["captions"].removeprefix("a photo of a ").removesuffix(".")
        named = words.replace(" and a ", ", a ").split(", a ")
        assert 1 <= len(named) <= 3 and set(named) <= {*names, "scene"}
        seen = scene.seen(len(names) - 1, 0.02)
        assert all(seen[names.index(word)] for word in named if word != "scene")
        assert captioned[index]["captions"] == item["captions"]


def test_what_transforms_draw_depends_on_the_scene_alone():
    nouns = [dict(type="NounCrop", classes=str(SCENES / "seen.txt"), size=32)]
    boxes = [dict(type="BoxCrops", size=64, crop=32), dict(type="PackInputs", keys=("boxes", "crops"))]
    first, second = SceneLabels(pipeline=nouns, **SCENE), SceneLabels(pipeline=nouns, **SCENE)
    assert first[3]["captions"] in first.draw(3)[1]
    np.random.seed(5)
    expected = [first[index] for index in (3, 4)]
    np.random.seed(6)
    torch.manual_seed(6)
    random.seed(6)
    states = np.random.get_state()[1].copy(), torch.get_rng_state(), random.getstate()
    for index, item in zip((4, 3), reversed(expected), strict=True):
        found = second[index]
        assert found["captions"] == item["captions"] and torch.equal(found["inputs"], item["inputs"])
    assert np.array_equal(np.random.get_state()[1], states[0])  # and nobody else's chance is touched
    assert torch.equal(torch.get_rng_state(), states[1]) and random.getstate() == states[2]
    one, two = (UnlabelledScenes(pipeline=boxes, **SCENE)[7] for _ in range(2))
    assert np.array_equal(one["boxes"], two["boxes"]) and np.array_equal(one["crops"], two["crops"])
    assert len({len(UnlabelledScenes(pipeline=boxes, **SCENE)[index]["boxes"]) for index in range(8)}) > 1
