"""``ovseg bulk``: vocabularies as they are written, and errors of one line."""

import pytest

from ovseg.cli import main
from ovseg.cli.bulk import vocabularies
from ovseg.errors import SetupError


def test_vocabularies_have_names(tmp_path):
    (tmp_path / "my words.txt").write_text("cat\ndog\n")
    given = ["pets=cat, dog; hound", "voc20", str(tmp_path / "my words.txt"), "sky, background"]
    found = vocabularies(given, None)
    assert [(words.name, len(words.vocabulary)) for words in found] == [
        ("pets", 2),
        ("voc20", 20),
        ("my_words", 2),
        ("words", 2),
    ]
    assert found[0].vocabulary.classes[1] == ("dog", "hound")


def test_the_background_belongs_to_those_that_have_it():
    found = vocabularies(["a=cat, sky", "b=dog, wall"], "sky")
    assert [words.background for words in found] == ["sky", None]
    with pytest.raises(SetupError, match="no vocabulary has this class"):
        vocabularies(["a=cat, sky", "b=dog, wall"], "sea")


@pytest.mark.parametrize(
    ("given", "said"), [(["a, b", "c, d"], "two vocabularies are called 'words'"), (["x=nowhere.txt"], "nowhere.txt")]
)
def test_words_that_are_not_clear(given, said):
    with pytest.raises(SetupError, match=said):
        vocabularies(given, None)


def test_a_source_that_is_not_there_is_one_line(capsys, tmp_path):
    arguments = ["bulk", str(tmp_path / "nowhere"), "--classes", "cat, dog", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "error: there is no" in capsys.readouterr().err and not (tmp_path / "out").exists()
