"""Limits, words and answers of the page, without a browser."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from ovseg import Segmenter
from ovseg.demo.answers import Answer, Desk
from ovseg.demo.examples import examples
from ovseg.demo.kept import Kept
from ovseg.demo.limits import Limits, Refused, read_upload, read_words
from ovseg.demo.models import Models, default_choice, methods_here, weights_here
from ovseg.results import SegmentationResult


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "some words"),
        (" , ;\n,", "not clear"),
        (",\n ,", "some words"),
        ("a, b, c, d", "4 classes; 3 are the most"),
        ("a; b; c, d; e", "5 names"),
        ("cat, CAT", "occurs twice"),
        ("a" * 11, "11 letters"),
        ("a," * 100, "200 letters"),
    ],
)
def test_words_that_are_refused(text, told):
    with pytest.raises(Refused, match=told):
        read_words(text, Limits(classes=3, prompts=4, letters=10))


@pytest.mark.parametrize("text", ["ade20k", "/etc/passwd", "./words.txt", "~/.ssh/id_rsa", "../secret.json"])
def test_words_never_name_a_file(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("secret\n")
    try:
        assert read_words(text, Limits()).classes == ((text,),)
    except Refused as error:
        assert "one class as it is written" in str(error)


def test_files_that_are_refused(tmp_path):
    limits = Limits(megabytes=1, pixels=100)
    Image.new("RGB", (11, 10)).save(tmp_path / "large.png")
    (tmp_path / "heavy.jpg").write_bytes(bytes(1_000_001))
    (tmp_path / "text.jpg").write_text("hello")
    for name, told in (("large.png", "the limit is 100"), ("heavy.jpg", "1 MB are the most"), ("text.jpg", "text.jpg")):
        with pytest.raises(Refused, match=told) as caught:
            read_upload(tmp_path / name, limits)
        assert str(tmp_path) not in str(caught.value), "a folder of the server is told to a visitor"


def test_only_what_is_here_is_offered(monkeypatch, tmp_path):
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path))
    assert "nano" in weights_here()
    assert {"naclip", "trident", "clip_dinoiser"} <= set(methods_here("nano"))
    assert not {"proxyclip", "trident", "corrclip", "clip_dinoiser"} & set(methods_here("openai/ViT-B-16"))
    method, weights = default_choice()
    assert (Segmenter(weights, method).model.attention is not None) and method in methods_here(weights)


def test_a_choice_that_is_not_offered_is_refused():
    with pytest.raises(Refused, match="not on this machine"):
        Models().get(("../../etc", "nano"))


@pytest.fixture(scope="module")
def desk():
    return Desk(Models(device="cpu"), Limits())


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "my <photo>.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return path


def test_answers_are_those_of_the_library(desk, photo, tmp_path):
    choices = [default_choice(), ("sclip", "nano")]
    first, second = map(desk.answer, desk.ask(str(photo), "dog, red apple; cherry\nsky", choices))
    for answer, (method, weights) in zip((first, second), choices, strict=True):
        model = Segmenter(weights, method, device="cpu")
        model.set_vocabulary(["dog", "red apple; cherry", "sky"])
        assert np.array_equal(answer.result.labels, model.segment(photo).labels)
    labels, coco, overlay = first.write(tmp_path)
    assert labels.name == "my_photo_labels.png"
    assert np.array_equal(cv2.imread(str(labels), cv2.IMREAD_UNCHANGED), first.result.labels)
    assert sum(a["area"] for a in json.loads(coco.read_text())["annotations"]) == 40 * 60
    assert overlay.stat().st_size


def test_other_words_encode_no_photo(desk, photo, monkeypatch):
    desk.ask(str(photo), "dog, sky", [default_choice()])
    monkeypatch.setattr(Segmenter, "encode", None)
    (key,) = desk.ask(str(photo), "cat, grass", [default_choice()])
    assert desk.answer(key).result.names == ("cat", "grass")
    assert 0 < desk.answer(key).result.confidence.max() <= 1


def test_the_latest_models_stay():
    models = Models(keep=1, device="cpu")
    first = models.get(("sclip", "nano"))
    assert models.get(("sclip", "nano")) is first
    models.get(("clip", "nano"))
    assert models.get(("sclip", "nano")) is not first


def test_questions_without_a_photo_and_answers_that_are_gone(desk, tmp_path):
    for path in (None, str(tmp_path / "deleted.jpg")):
        with pytest.raises(Refused, match="photo first"):
            desk.ask(path, "cat", [default_choice()])
    with pytest.raises(Refused, match="not kept"):
        desk.answer("none")


def test_pointing_hits_the_pixel_of_a_large_photo():
    labels = np.zeros((1000, 2560), np.uint16)
    labels[900, 2000:2002] = 1
    answer = Answer(SegmentationResult(labels, ("sky", "kite"), confidence=np.full(labels.shape, 0.25)), "", "")
    assert answer.picture().shape == (500, 1280, 3)
    assert answer.pointed(1000, 450) == "kite at (2000, 900), confidence 25%"
    coded, names = answer.pixels()
    assert coded[450, 1000].tolist() == [0, 1, 64] and coded[450, 1001].tolist() == [0, 0, 64]
    assert json.loads(names) == {"names": ["sky", "kite"], "confidence": True} and coded.shape == (500, 1280, 3)
    assert answer.pointed(1279.9, 499.9).startswith("sky at (2559, 999)")


def test_what_is_kept_fits_and_the_newest_stays():
    kept = Kept(10, len)
    for name, thing in (("a", "12345"), ("b", "12345"), ("c", "1")):
        kept.put(name, thing)
        kept.get("b")
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (None, "12345", "1")
    kept.put("d", "x" * 50)
    assert kept.get("d") and kept.get("c") is None


def test_examples_show_their_words():
    found = examples(each=2)
    assert len(found) >= 2
    for path, text in found:
        assert len(read_words(text, Limits())) >= 4 and read_upload(path, Limits())[1].ndim == 3
