"""Vocabularies: reading, errors, hashes, and the words of the official code."""

from __future__ import annotations

import doctest
import hashlib
import re
import sys
import warnings
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from ovseg.datasets import MESS
from ovseg.text import Vocabulary, packaged_vocabularies
from tests.standins import PARITY

DOCS = Path(__file__).parents[2] / "docs" / "vocabularies.md"
SIZES = {name: benchmark.num_classes for name, benchmark in MESS.items()}
SIZES |= dict(
    ade20k=150,
    ade847=847,
    ade847_first=847,
    cityscapes=19,
    coco_object=81,
    coco_object_plain=81,
    coco_panoptic=133,
    coco_stuff=171,
    context59=59,
    context60=60,
    pc459=459,
    pc459_joined=459,
    voc20=20,
    voc20_joined=20,
    voc20_photo=20,
)
GOLDEN_FILES = dict(
    sclip="voc21",
    naclip="voc21",
    clearclip="voc21_clearclip",
    maskclip="voc21_maskclip",
    clip_dinoiser="voc21_maskclip",
    proxyclip_b8="voc21_proxyclip",
    trident="voc21_proxyclip",
    corrclip_b8="voc21_corrclip",
    cliptrase_224="voc21_cliptrase",
    itaclip="voc21_itaclip",
    cliper_noslide="voc21_cliper",
    scclip="voc21",
    sfp="voc21_sfp",
    resclip="voc21",
    lposs="voc21_lposs",
    corrclipv2_nobank="voc21_corrclip",
    segearth_noup="voc21_clearclip",
)


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "classes.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_lines_are_classes_and_names_are_queries():
    v = Vocabulary.from_list(["sky; wall", "cat", "sofa; couch"], background=0)
    assert len(v) == 3
    assert v.names == ("sky", "cat", "sofa")
    assert v.display_names == ("background", "cat", "sofa")
    assert v.queries == ("sky", "wall", "cat", "sofa", "couch")
    assert v.query_to_class.tolist() == [0, 0, 1, 2, 2]
    with pytest.raises(FrozenInstanceError):
        v.background = 1


@pytest.mark.parametrize(
    "text", ["cat\nsofa; couch\n", "cat\r\nsofa; couch\r\n", "cat\nsofa; couch", "\ufeffcat \n sofa ;  couch\n\n"]
)
def test_file_layouts(tmp_path, text):
    assert Vocabulary.from_file(write(tmp_path, text), separator="; ").classes[0] == ("cat",)
    assert Vocabulary.from_file(write(tmp_path, text), separator=";") == Vocabulary.from_list(["cat", "sofa; couch"])


def test_names_with_accents_and_separators(tmp_path):
    assert Vocabulary.from_file(write(tmp_path, "café\nTür\n")).names == ("café", "Tür")
    names = ["person with clothes, people, human", ["sofa", "couch"]]
    assert Vocabulary.from_names(names).queries == ("person with clothes, people, human", "sofa", "couch")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no classes"),
        (["cat", "", "dog"], "entry 1: empty name"),
        (["cat; ; dog"], "entry 0: empty name"),
        (["cat", "dog; Cat"], "'Cat' occurs twice, on entry 0 and entry 1"),
        (["cat", "dog; dog"], "'dog' occurs twice, on entry 1"),
    ],
)
def test_errors_name_the_place(lines, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Vocabulary.from_list(lines)


def test_file_errors(tmp_path):
    with pytest.raises(ValueError, match="classes.txt: no classes"):
        Vocabulary.from_file(write(tmp_path, " \n\n"))
    with pytest.raises(ValueError, match="line 2: empty name"):
        Vocabulary.from_file(write(tmp_path, "cat\n\ndog\n"))
    with pytest.raises(ValueError, match="'cat' occurs twice, on line 1 and line 3"):
        Vocabulary.from_file(write(tmp_path, "cat\ndog\ncat\n"))
    with pytest.raises(ValueError, match="not UTF-8"):
        Vocabulary.from_file(write(tmp_path, "café".encode("latin-1")))
    with pytest.raises(FileNotFoundError, match="did you mean voc21"):
        Vocabulary.from_file("voc12")
    with pytest.raises(FileNotFoundError, match="packaged: ade20k, "):
        Vocabulary.from_file(tmp_path / "absent.txt")
    with pytest.raises(ValueError, match="separates names by '; ', not by ', '"):
        Vocabulary.from_file("voc21", separator=", ")
    with pytest.raises(ValueError, match="separator between names is empty"):
        Vocabulary.from_list(["cat"], separator="")
    with pytest.raises(TypeError, match="list with one string per class"):
        Vocabulary.from_list("cat")
    with pytest.raises(TypeError, match="list with one entry per class"):
        Vocabulary.from_names("cat")


@pytest.mark.parametrize("background", [-1, 2, 99])
def test_background_out_of_range(background):
    with pytest.raises(ValueError, match=f"background={background}, but the classes are 0 to 1"):
        Vocabulary.from_list(["cat", "dog"], background=background)


def test_duplicates_can_be_allowed():
    v = Vocabulary.from_list(["cat", "bed; bed"], allow_duplicates=True)
    assert v.queries == ("cat", "bed", "bed")


@pytest.mark.parametrize(
    ("line", "separator"), [("sofa, couch", "; "), ("sofa; couch", ", "), ("sofa;couch", "; "), ("a|b", ",")]
)
def test_wrong_separator_is_noticed(tmp_path, line, separator):
    with pytest.warns(UserWarning, match="line 2: .* is the separator right"):
        v = Vocabulary.from_file(write(tmp_path, f"cat\n{line}\n"), separator=separator)
    assert v.queries == ("cat", line)


def test_right_separator_is_not_suspected(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Vocabulary.from_file(write(tmp_path, "cat\nsofa, settee; couch\n"), separator="; ")
        Vocabulary.from_file(write(tmp_path, "cat\nsofa, couch\n"), separator=",")


def test_hash_covers_names_mapping_and_background():
    reference = Vocabulary.from_list(["sky; wall", "cat"], background=0)
    others = [
        Vocabulary.from_list(["sky; wall", "cat"]),
        Vocabulary.from_list(["sky", "wall; cat"], background=0),
        Vocabulary.from_list(["wall; sky", "cat"], background=0),
        Vocabulary.from_list(["sky; walls", "cat"], background=0),
    ]
    assert len({v.content_hash for v in (reference, *others)}) == 5
    again = Vocabulary.from_names([["sky", "wall"], "cat"], background=0)
    assert again == reference and again.content_hash == reference.content_hash


def test_hash_is_the_same_everywhere():
    content = b'[[["sky", "wall"], ["caf\\u00e9"]], 0]'
    v = Vocabulary.from_list(["sky; wall", "café"], background=0)
    assert v.content_hash == hashlib.sha256(content).hexdigest()
    # An edit of a packaged file changes results: it must be deliberate.
    assert (
        Vocabulary.from_file("voc21").content_hash == "85c81b2965380f5c1095763dbb7377cd698e4a7dfcd64ec8c4f59217c1f1f042"
    )


@pytest.mark.parametrize("name", packaged_vocabularies())
def test_packaged_file(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        v = Vocabulary.from_file(name)
    assert len(v) == SIZES.get(name, 21)
    if name not in ("voc21_cliptrase", "ade847_first"):
        assert len({query.lower() for query in v.queries}) == len(v.queries), "a shared name can never win"
    row = next(line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{name}` |"))
    assert f"| {len(v)} | {len(v.queries)} | `{v.content_hash[:12]}` |" in row, "docs/vocabularies.md is out of date"


def test_order_of_the_long_lists():
    """Places in the published id tables, spread over the lists."""
    ade847, pc459 = Vocabulary.from_file("ade847").names, Vocabulary.from_file("pc459").names
    ids = {
        0: "wall",
        100: "buffet",
        259: "dog",
        361: "greenhouse",
        500: "cat",
        607: "camera",
        729: "cellular telephone",
    }
    assert {i: ade847[i] for i in ids} == ids and ade847[846] == "adding machine"
    assert list(pc459) == sorted(pc459), "the data set numbers its labels alphabetically"
    assert (pc459[0], pc459[283], pc459[430], pc459[458]) == ("accordion", "person", "unknown", "wool")


def test_names_agree_with_mmseg():
    from mmseg.datasets import (
        ADE20KDataset,
        CityscapesDataset,
        COCOStuffDataset,
        PascalContextDataset,
        PascalContextDataset59,
    )

    classes = dict(
        ade20k=ADE20KDataset,
        cityscapes=CityscapesDataset,
        coco_stuff=COCOStuffDataset,
        context60=PascalContextDataset,
        context59=PascalContextDataset59,
    )
    for name, dataset in classes.items():
        assert Vocabulary.from_file(name).names == tuple(c.strip() for c in dataset.METAINFO["classes"])
    things = Vocabulary.from_file("coco_object")
    assert things.names[1:] == Vocabulary.from_file("coco_stuff").names[:80]
    stuff = Vocabulary.from_file("voc21").classes[0]
    assert things.classes[0] == tuple(name for name in stuff if name not in things.names[1:])
    assert Vocabulary.from_file("coco_object_plain").classes == (("background",), *things.classes[1:])
    assert Vocabulary.from_file("voc20").names == Vocabulary.from_file("voc21_maskclip").names[1:]


@pytest.mark.parametrize("method", GOLDEN_FILES)
def test_words_of_the_official_code(method):
    path = PARITY / "goldens" / method / "text.npz"
    if not path.is_file():
        pytest.skip(f"no {path} (set OVSEG_SHARED)")
    golden = np.load(path)
    order = np.argsort(golden["idx"], kind="stable")  # CLIPer lists its background words last
    v = Vocabulary.from_file(GOLDEN_FILES[method])
    assert list(v.queries) == golden["words"][order].tolist()
    assert v.query_to_class.tolist() == golden["idx"][order].tolist()


def test_from_config(tmp_path):
    v = Vocabulary.from_file("voc21", background=0)
    assert Vocabulary.from_config(dict(file="voc21", background=0, separator="; ")) == v
    assert Vocabulary.from_config(v) is v
    assert Vocabulary.from_config("voc21") == Vocabulary.from_file("voc21")
    assert Vocabulary.from_config(["cat", "sofa; couch"]) == Vocabulary.from_list(["cat", "sofa; couch"])
    config = dict(names=["cat", "sofa, couch"], separator=", ", background=0)
    assert Vocabulary.from_config(config) == Vocabulary.from_list(["cat", "sofa; couch"], background=0)
    path = write(tmp_path, "cat\ncat\n")
    assert len(Vocabulary.from_config(dict(file=path, allow_duplicates=True))) == 2
    with pytest.raises(ValueError, match=r"unknown keys \['seperator'\]"):
        Vocabulary.from_config(dict(file="voc21", seperator=","))
    for config in (dict(background=0), dict(file="voc21", names=["cat"])):
        with pytest.raises(ValueError, match="either 'file' or 'names'"):
            Vocabulary.from_config(config)


def test_docstring_examples():
    results = doctest.testmod(sys.modules[Vocabulary.__module__])
    assert results.attempted and not results.failed


@pytest.mark.parametrize(
    ("value", "classes"),
    [
        (["cat", "sofa; couch"], (("cat",), ("sofa", "couch"))),
        (("cat", ("sofa", "couch")), (("cat",), ("sofa", "couch"))),
        ([["cat"], ["sofa", "couch"]], (("cat",), ("sofa", "couch"))),
        ({"cat": [], "sofa": ["couch", "settee"]}, (("cat",), ("sofa", "couch", "settee"))),
        ({"cat": None, "sofa": "couch"}, (("cat",), ("sofa", "couch"))),
        ({"background": ["sky", "wall"], "cat": "kitten"}, (("background", "sky", "wall"), ("cat", "kitten"))),
        ({0: "cat", 1: "dog"}, (("cat",), ("dog",))),
        (np.array(["cat", "dog"]), (("cat",), ("dog",))),
        ({"cat": 1, "dog": 2}.keys(), (("cat",), ("dog",))),
        (dict(names=[("sofa", "couch"), "cat"]), (("sofa", "couch"), ("cat",))),
    ],
)
def test_of_takes_what_a_person_means(value, classes):
    assert Vocabulary.of(value).classes == classes


@pytest.mark.parametrize("name", packaged_vocabularies())
def test_of_takes_packaged_names(name):
    assert Vocabulary.of(name) == Vocabulary.from_file(name) and len(Vocabulary.of(name)) == SIZES.get(name, 21)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cat", "Words are given as a list: ['cat']"),
        ("ade20", "did you mean ade20k"),
        ("cat, dog", "Words are given as a list: ['cat', 'dog']"),
        ("cat . dog .", "Words are given as a list: ['cat', 'dog']"),
        ("cat. dog. traffic light.", "Words are given as a list: ['cat', 'dog', 'traffic light']"),
        ("cat; dog", "Words are given as a list: ['cat', 'dog']"),
        ("cat|dog", "Words are given as a list: ['cat', 'dog']"),
        ("cat/dog", "Words are given as a list: ['cat', 'dog']"),
        ("cat\ndog\n", "Words are given as a list: ['cat', 'dog']"),
        ("['cat', 'dog']", "Words are given as a list: ['cat', 'dog']"),
        ("", "neither a file nor a packaged name"),
        ("words.txt", "neither a file nor a packaged name"),
        ("x" * 5000, "neither a file nor a packaged name"),
        (None, "None (NoneType) is no list of class names"),
        (5, "5 (int)"),
        (2.5, "2.5 (float)"),
        (True, "True (bool)"),
        (b"cat", "b'cat' (bytes)"),
        ({"cat", "dog"}, "has no order"),
        ([], "no classes"),
        ((), "no classes"),
        ({}, "either 'file' or 'names'"),
        (["cat", 5], "entry 1: 5 (int) is no name"),
        (["cat", None], "entry 1: None"),
        (["cat", b"dog"], "entry 1: b'dog'"),
        (["cat", []], "entry 1: empty name"),
        (["cat", ["dog", 3]], "entry 1: 3 (int)"),
        ({"cat": 3.5}, "entry 0: 3.5 (float)"),
        (["cat . dog ."], "write the classes apart: ['cat', 'dog']"),
        (["cat", "dog . bird"], "entry 1: 'dog . bird' would be one prompt"),
        (["cat", ("dog . bird",)], "entry 1: 'dog . bird' would be one prompt"),
        (["cat\ndog"], "write the classes apart: ['cat', 'dog']"),
        (["cat, dog, sofa"], "one entry for each: ['cat', 'dog', 'sofa']"),
        (["cat|dog"], "one entry for each: ['cat', 'dog']"),
        (["['cat', 'dog']"], "write the classes apart: ['cat', 'dog']"),
        (dict(file=5), "file=5"),
        (dict(names="cat"), "list with one string per class"),
        (dict(names=["cat", "dog"], background="cat"), "background='cat'"),
        ([":= sky"], "empty name beside ':='"),
    ],
)
def test_of_refuses_with_one_clear_error(tmp_path, monkeypatch, value, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Vocabulary.of(value)
    assert isinstance(caught.value, TypeError), "whichever of the two a caller waits for"


def test_shown_names_come_from_the_file_and_change_no_hash(tmp_path):
    for name in ("voc21", "voc21_proxyclip", "voc21_corrclip", "voc21_itaclip", "voc21_cliper", "coco_object"):
        v = Vocabulary.from_file(name)
        assert v.display_names[0] == "background" and v.display_names[1:] == v.names[1:]
        assert "background" not in v.classes[0], "shown, never encoded"
    v = Vocabulary.from_file(write(tmp_path, "rest := sky; wall\ncat\n"))
    plain = Vocabulary.from_list(["sky; wall", "cat"])
    assert v.display_names == ("rest", "cat") and v.queries == ("sky", "wall", "cat")
    assert v == plain and v.content_hash == plain.content_hash
    assert v.with_background("rest").background == v.with_background("sky").background == 0
    assert v.with_background("rest").display_names == ("rest", "cat")
    with pytest.raises(ValueError, match="'dog' is not among the names rest, cat"):
        v.with_background("dog")
    with pytest.raises(ValueError, match="shown under one name"):
        Vocabulary.from_list(["cat := kitten", "cat"])
    assert Vocabulary.from_list(["sky", "background"], background=0).display_names == ("sky", "background")


def test_numbers_from_one_are_told(tmp_path):
    with pytest.warns(UserWarning, match="numbered from 1; here they count from 0, so 'cat' is class 0"):
        assert Vocabulary.of(write(tmp_path, "1: cat\n2: dog\n")).names == ("cat", "dog")


def test_words_of_a_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Vocabulary.from_argument("cat, sofa; couch,dog").classes == (("cat",), ("sofa", "couch"), ("dog",))
    assert Vocabulary.from_argument("cat").names == ("cat",)
    assert Vocabulary.from_argument("ade20k") == Vocabulary.from_file("ade20k")
    for name, text in (
        ("a.json", '["cat", "dog"]'),
        ("b", "cat\ndog\n"),
        ("c.names", "cat\ndog"),
        ("d.csv", "0,cat\n1,dog"),
    ):
        Path(name).write_text(text)
        assert Vocabulary.from_argument(name).names == ("cat", "dog"), name
    for text in (
        "cat . dog .",
        "cat. dog.",
        "cat|dog",
        "cat; dog",
        "cat/dog",
        "cat\ndog",
        "cat\tdog",
        "['cat', 'dog']",
    ):
        with pytest.raises(ValueError, match="for 2 classes write 'cat, dog'"):
            Vocabulary.from_argument(text)
    for text, message in (
        ("words.txt", "neither a file"),
        ("words.yaml", "neither a file"),
        ("cat,,dog", "entry 1: empty"),
    ):
        with pytest.raises(ValueError, match=message):
            Vocabulary.from_argument(text)
    Path("e.txt").symlink_to("gone.txt")
    with pytest.raises(FileNotFoundError, match="a link to gone.txt"):
        Vocabulary.from_argument("e.txt")
