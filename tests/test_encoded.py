"""A photo is encoded once and asked for many words: what comes out is what `segment` gives with these words."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch

import ovseg
from ovseg import Segmenter
from ovseg.apis import available_methods
from ovseg.text import Vocabulary

RNG = np.random.default_rng(0)
PHOTO = np.kron(RNG.integers(0, 255, (3, 4, 3), np.uint8), np.ones((40, 40, 1), np.uint8))
FIRST, SECOND = ["cat", "sofa", "grass"], ["dog; puppy", "tree", "sky", "red car", "background"]
FAST = ("clearclip", "naclip_pamr", "trident", "sam_clip")


def methods():
    return [m if m in FAST else pytest.param(m, marks=pytest.mark.slow) for m in available_methods()]


def build(method: str, **options) -> Segmenter:
    try:
        return ovseg.load(method, weights="nano", short_side=112, **options)
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error).splitlines()[0])


@pytest.mark.parametrize("method", methods())
def test_an_encoded_photo_gives_the_labels_of_segment_for_any_words(method):
    model = build(method)
    encoded = model.encode(PHOTO)  # before there are any words
    found = [encoded.segment(words, top=3, confidence=True) for words in (FIRST, SECOND, FIRST)]
    assert model.vocabulary is None
    for result, words in zip(found, (FIRST, SECOND, FIRST), strict=True):
        model.set_vocabulary(words)
        plain, ranked = model.segment(PHOTO), model.segment(PHOTO, top=3, confidence=True)
        for other in (plain, ranked, encoded.segment()):
            np.testing.assert_array_equal(result.labels, other.labels)
            assert result.names == other.names
        np.testing.assert_array_equal(result.top_classes, ranked.top_classes)
        np.testing.assert_array_equal(result.top_probabilities, ranked.top_probabilities)
        check_ranks(result, len(words))
        assert plain.confidence is None and plain.top_classes is None
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copied.segment(PHOTO).labels, found[2].labels)


def check_ranks(result, classes: int):
    """Distinct classes, probabilities that fall, and the confidence first among them."""
    k = min(3, classes)
    assert result.top_classes.shape == result.top_probabilities.shape == (k, *PHOTO.shape[:2])
    assert result.top_classes.dtype == np.uint16 and result.top_probabilities.dtype == np.float32
    assert all(len(set(column)) == k for column in result.top_classes.reshape(k, -1).T[::97].tolist())
    assert (np.diff(result.top_probabilities, axis=0) <= 0).all() and result.top_classes.max() < classes
    np.testing.assert_array_equal(result.confidence, result.top_probabilities[0])
    assert result.confidence.min() >= 0 and result.confidence.max() <= 1 + 1e-5


def test_encoding_runs_clip_once(monkeypatch):
    model, calls = build("naclip"), []
    forward = type(model.model.backbone).forward
    monkeypatch.setattr(
        type(model.model.backbone), "forward", lambda self, *a, **k: calls.append(1) or forward(self, *a, **k)
    )
    encoded = model.encode(PHOTO)
    once = len(calls)
    for words in (FIRST, SECOND):
        encoded.segment(words)
    assert once > 0 and len(calls) == once


def test_the_thresholds_belong_to_the_words():
    config = ovseg.apis.method_config("clearclip", "nano")
    config.model.head.threshold = 1.0
    model = ovseg.load(config, short_side=112)
    encoded = model.encode(PHOTO)
    cut = encoded.segment(SECOND, background="background", confidence=True, top=2)
    assert (cut.labels == 4).all()  # below the threshold: the background; the best class is told nevertheless
    plain = encoded.segment(SECOND)
    np.testing.assert_array_equal(cut.top_classes[0], plain.labels)
    assert cut.confidence.max() < 1
    np.testing.assert_array_equal(encoded.segment(Vocabulary.of(SECOND).with_background("tree")).labels, 1)
    with pytest.raises(ValueError, match="background is for words"):
        encoded.segment(background="tree")


def test_mask_classes_tell_their_confidence():
    model = build("sam_clip")
    model.set_vocabulary(FIRST)
    result = model.segment(PHOTO, confidence=True, top=9)
    assert result.top_classes.shape[0] == 3  # no more than there are
    np.testing.assert_array_equal(result.top_classes[0], result.labels)
    masks = model.model.masks_of(model._photo(PHOTO, PHOTO))
    assert len(masks) and set(np.unique(result.regions)) <= set(range(len(masks) + 1))
    for region in set(np.unique(result.regions)) - {0}:
        inside = result.regions == region
        assert masks[region - 1][inside].all() and len(np.unique(result.confidence[inside])) == 1


def test_a_changed_model_refuses_what_it_encoded_before():
    model = build("clearclip")
    encoded = model.encode(PHOTO)
    model.model.backbone.clip.visual.proj.data.mul_(-1)
    with pytest.raises(ValueError, match="encode"):
        encoded.segment(FIRST)
    assert model.encode(PHOTO).segment(FIRST).labels.shape == PHOTO.shape[:2]


def test_words_of_a_call_are_those_at_its_start(monkeypatch):
    """Words set while a photo is encoded do not reach into that call, in labels, names or thresholds."""
    model = build("clearclip")
    model.set_vocabulary(SECOND)
    second = model.segment(PHOTO)
    model.set_vocabulary(FIRST)
    first = model.segment(PHOTO)
    inside, changed = threading.Event(), threading.Event()
    prepare = model.model.prepare

    def slowly(*args):
        inside.set()
        assert changed.wait(60)
        return prepare(*args)

    monkeypatch.setattr(model.model, "prepare", slowly)
    found = []
    thread = threading.Thread(target=lambda: found.append(model.segment(PHOTO)))
    thread.start()
    assert inside.wait(60)
    model.set_vocabulary(SECOND)
    changed.set()
    thread.join(60)
    np.testing.assert_array_equal(found[0].labels, first.labels)
    assert found[0].names == first.names
    np.testing.assert_array_equal(model.segment(PHOTO).labels, second.labels)


def test_words_and_head_change_at_one_moment():
    model = build("clearclip").model
    base, stop, seen = model.head, threading.Event(), []
    pairs = []
    for names, background in ((FIRST, 1), (SECOND, 4)):
        head = copy.copy(base)
        head.threshold, head.background = 0.5, background
        pairs.append((Vocabulary.of(names), head))
    model.set_vocabulary(pairs[0][0], head=pairs[0][1])

    def watch():
        while not stop.is_set():
            wording = model.wording()
            seen.append((len(wording.vocabulary), len(wording.queries), wording.head.background))

    thread = threading.Thread(target=watch)
    thread.start()
    for turn in range(40):
        vocabulary, head = pairs[turn % 2]
        model.set_vocabulary(vocabulary, head=head)
    stop.set()
    thread.join(60)
    assert set(seen) <= {(3, 3, 1), (5, 6, 4)}


def test_the_model_moves_and_says_where():
    model = build("clearclip")
    assert model.to("cpu") is model and next(model.model.parameters()).device == torch.device("cpu")
    with pytest.raises(ValueError, match="no device 'cuda:99'"):
        model.to("cuda:99")


@pytest.mark.parametrize("top", [-1, 1.5, True, "3"])
def test_a_top_that_is_no_number_is_refused(top):
    with pytest.raises(ValueError, match="top is"):
        build("clearclip").segment(PHOTO, top=top)


def test_load_takes_names_or_a_config():
    file = ovseg.apis.config_root() / "nano" / "clearclip_nano_scenes.py"
    by_file, by_name = ovseg.load(str(file)), ovseg.load("clearclip", weights="nano")
    assert repr(by_file.model.attention) == repr(by_name.model.attention)
    assert repr(ovseg.load(config=file).model.attention) == repr(by_name.model.attention)
    default = ovseg.load()
    assert default.model.backbone.weights == Segmenter().model.backbone.weights
    with pytest.raises(ValueError, match="together with a config"):
        ovseg.load(str(file), weights="nano")
    with pytest.raises(ValueError, match="together with a config"):
        ovseg.load("clearclip", config=file)
    with pytest.raises(ValueError, match="unknown method 'claerclip'"):
        ovseg.load("claerclip")
    with pytest.raises((ValueError, OSError), match="nowhere"):
        ovseg.load("nowhere/config.py")


def test_photos_encoded_together_give_what_each_gives(tmp_path):
    model, other = build("clearclip"), PHOTO[:, ::-1][:100].copy()
    encoded = model.encode_batch([PHOTO, other])
    wording = model.wording(SECOND, "sky")
    assert model.vocabulary is None and wording.vocabulary.background == 2
    for one, photo in zip(encoded, (PHOTO, other), strict=True):
        expected = model.encode(photo).segment(FIRST)
        np.testing.assert_array_equal(one.segment(FIRST).labels, expected.labels)
        np.testing.assert_array_equal(one.image, photo)
    with pytest.raises(ValueError, match="1 names for 2 photos"):
        model.encode_batch([PHOTO, other], names=["a.jpg"])
    with pytest.raises(TypeError):
        model.encode_batch("a.jpg")
