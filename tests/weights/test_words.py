"""Word lists beside weights, and what the library says and does with them."""

import warnings

import pytest

import ovseg
from ovseg.apis import _understood
from ovseg.text import Vocabulary
from ovseg.weights import load_clip
from ovseg.weights.words import LearnedWords, read_words, words_file, write_words

LEARNED = LearnedWords(frozenset({"car", "berry", "glass", "hot dog", "dish"}), ("sky", "grass", "car"))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("car", True),
        (" CAR ", True),
        ("cars", True),
        ("berries", True),
        ("dishes", True),
        ("glass", True),
        ("red_car", True),
        ("wine glass", True),
        ("hot dog", True),
        ("dog", False),
        ("car mortar", False),
        ("tarpaulin", False),
        ("", False),
    ],
)
def test_a_word_its_plural_and_what_ends_in_it_are_known(name, known):
    assert LEARNED.knows(name) is known


def test_unknown_words_come_once_in_order_and_background_is_none():
    asked = ["mortar", "car", "Background", "tarpaulin", "mortar"]
    assert LEARNED.unknown(asked) == ("mortar", "tarpaulin")


def test_a_list_is_read_as_it_was_written_and_lies_beside_its_weights(tmp_path):
    weights = tmp_path / "clip.v2.safetensors"
    assert read_words(weights) is None
    write_words(weights, ["Car", "bus", "car"], "a comment", ["sky", "tree"])
    assert words_file(weights).name == "clip.v2.words.txt"
    assert read_words(weights) == LearnedWords(frozenset({"car", "bus"}), ("sky", "tree"))


@pytest.mark.parametrize("name", ["nano", "nano-photo"])
def test_embedded_models_bring_theirs(name):
    words = load_clip(name).words
    assert words.knows("dog") and not words.knows("tarpaulin")
    assert (len(words.background) > 100) is (name == "nano-photo")


def test_background_means_what_the_model_learned_less_what_other_classes_are_called():
    vocabulary = _understood(Vocabulary.of(["cat", "Background", ("truck", "car")]), LEARNED)
    assert vocabulary.classes == (("cat",), ("sky", "grass"), ("truck", "car"))
    assert vocabulary.display_names == ("cat", "Background", "truck") or vocabulary.display_names[1] == "background"
    assert vocabulary.background == 1
    for words in (["cat", "dog"], ["cat", ("background", "wall")]):
        assert _understood(Vocabulary.of(words), LEARNED) == Vocabulary.of(words), "only where nothing else is meant"
    chosen = _understood(Vocabulary.of(["cat", "background"]).with_background("cat"), LEARNED)
    assert chosen.background == 0
    assert _understood(Vocabulary.of(["cat", "background"]), LearnedWords(frozenset())).background is None


def test_the_library_tells_each_unknown_word_once():
    model = ovseg.Segmenter(device="cpu")
    assert model.model.backbone.weights == "nano-photo", "the default sees photographs"
    with pytest.warns(UserWarning, match="^nano-photo has not learned: 'tarpaulin', 'scaffolding'$"):
        model.set_vocabulary(["cat", "tarpaulin", ("road", "scaffolding"), "background"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_vocabulary(["tarpaulin", "dog"])
    assert model.vocabulary.background is None
