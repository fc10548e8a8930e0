"""Auxiliary texts."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.text import Vocabulary
from ovseg.text.auxiliary import PACKAGED_DIR, AuxiliaryText

VOCABULARIES = {
    "voc21": "voc21_itaclip",
    "context60": "context60",
    "coco_stuff": "coco_stuff",
    "coco_object_synonyms": "coco_object",
    "cityscapes_synonyms": "cityscapes",
}
BACKGROUND = {"voc21_itaclip", "context60", "coco_object"}


class Letters:
    """An encoder whose embedding counts letters."""

    def encode(self, vocabulary):
        counts = [[query.count(chr(97 + i)) + 0.1 for i in range(26)] for query in vocabulary.queries]
        return F.normalize(torch.tensor(counts), dim=-1)


def write(tmp_path, text):
    path = tmp_path / "texts.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_mixture_is_not_normalised_and_leaves_the_background(tmp_path):
    path = write(tmp_path, "cat >= a small animal, with: whiskers\nsofa >= a seat\n")
    vocabulary = Vocabulary.from_list(["sky; wall", "cat", "sofa; couch"], background=0)
    names = Letters().encode(vocabulary)
    got = AuxiliaryText(path, weight=0.1, separator=">=").mix(names, vocabulary, Letters())
    cat, seat = Letters().encode(Vocabulary.from_names(["a small animal, with: whiskers", "a seat"]))
    want = names.clone()
    want[2] = 0.9 * names[2] + 0.1 * cat
    want[3:] = 0.9 * names[3:] + 0.1 * seat
    torch.testing.assert_close(got, want)
    assert got[2].norm() < 0.999


@pytest.mark.parametrize("name", sorted(VOCABULARIES))
def test_packaged_texts_cover_their_vocabulary(name):
    texts = AuxiliaryText(name, weight=0.1)
    vocabulary = VOCABULARIES[name]
    v = Vocabulary.from_file(vocabulary, background=0 if vocabulary in BACKGROUND else None)
    mixed = texts.mix(Letters().encode(v), v, Letters())
    assert mixed.shape == (len(v.queries), 26)
    assert set(texts.texts) <= set(v.names)


def test_every_packaged_file_is_tested():
    assert {path.stem for path in PACKAGED_DIR.glob("*.txt")} == set(VOCABULARIES)


@pytest.mark.parametrize(
    ("text", "message"), [("cat a small animal", "line 1"), ("cat: x\ncat: y", "second text"), ("cat: ", "line 1")]
)
def test_files_that_cannot_be_meant(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        AuxiliaryText(write(tmp_path, text), weight=0.1)


def test_a_class_without_text_is_named(tmp_path):
    texts = AuxiliaryText(write(tmp_path, "cat: an animal"), weight=0.1)
    v = Vocabulary.from_list(["cat", "dog"])
    with pytest.raises(ValueError, match="dog"):
        texts.mix(Letters().encode(v), v, Letters())


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="voc12"):
        AuxiliaryText("voc12", weight=0.1)
