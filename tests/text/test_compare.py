"""Vocabularies side by side, and the command that shows it."""

from __future__ import annotations

import json

from ovseg.cli import main
from ovseg.text import Vocabulary
from ovseg.text.compare import compare, faults


def test_the_same_words_are_the_same_wherever_they_stand(tmp_path):
    (tmp_path / "a.txt").write_text("cat\nsofa; couch\n")
    (tmp_path / "b.json").write_text('{"cat": [], "sofa": ["couch"]}')
    found = compare(Vocabulary.of(tmp_path / "a.txt"), Vocabulary.of(tmp_path / "b.json"))
    assert found.same and found.changed == ()


def test_what_differs_is_named():
    a = Vocabulary.of(dict(names=["background", "cat", ("sofa", "couch"), "dog"], background=0))
    b = Vocabulary.of(["background", "dog", ("couch", "sofa"), "cat"])
    found = compare(a, b)
    assert not found.same and (found.background_a, found.background_b) == (0, None)
    assert [(c.index, c.only_a, c.only_b, c.moved) for c in found.changed] == [
        (1, ("cat",), ("dog",), (3,)),
        (2, (), (), ()),  # the same words in another order
        (3, ("dog",), ("cat",), (1,)),
    ]


def test_voc21_of_two_papers():
    found = compare(Vocabulary.of("voc21"), Vocabulary.of("voc21_proxyclip"))
    (person,) = [c for c in found.changed if c.name == "person"]
    assert len(person.only_a) == 6 and person.only_b == ()  # 7 names for person, and one


def test_odd_words():
    vocabulary = Vocabulary.of(["cat 128 0 0", "1: dog", "traffic_light", "word " * 9, "type 2 car"])
    told = faults(vocabulary, lambda name: len(name.split()) + 2, context=10)
    assert [t.split(":")[0] for t in told] == ["class 0", "class 1", "class 2", "class 3"]
    assert "11 tokens of 10" in told[3]
    assert faults(Vocabulary.of("ade847"), lambda name: len(name.split())) == []


def test_the_commands(tmp_path, capsys):
    assert main(["data", "vocab", "diff", "voc21", "voc21"]) == 0
    assert "no number can differ" in capsys.readouterr().out
    assert main(["data", "vocab", "diff", "voc21_maskclip", "voc21_clearclip", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["same"] and all({"index", "only_a", "only_b"} <= set(c) for c in found["changed"])
    (tmp_path / "mine.txt").write_text("cat\n" + "very " * 90 + "long\n")
    assert main(["data", "vocab", "check", str(tmp_path / "mine.txt")]) == 1
    assert "tokens of 77" in capsys.readouterr().out
    assert main(["data", "vocab", "check", "voc21", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    (tmp_path / "twice.txt").write_text("cat\ndog\ncat\n")
    assert main(["data", "vocab", "check", str(tmp_path / "twice.txt")]) == 2
    assert "occurs twice" in capsys.readouterr().err
    assert main(["data", "vocab", "list", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["classes"] for line in lines if line["name"] == "voc20"] == [20]
