"""Template sets."""

from __future__ import annotations

import open_clip
import pytest

from ovseg.text import Templates, get_templates


def test_sets_are_those_of_clip():
    for name, functions in (
        ("openai_80", open_clip.OPENAI_IMAGENET_TEMPLATES),
        ("simple", open_clip.SIMPLE_IMAGENET_TEMPLATES),
    ):
        assert get_templates(name).prompts("cat") == [fill("cat") for fill in functions]
    assert len(get_templates("openai_80")) == 80 and len(get_templates("simple")) == 7
    assert get_templates("photo").prompts("cat") == ["a photo of a cat."]
    assert get_templates("plain").prompts("cat") == ["cat"]


def test_hash_covers_texts_and_order():
    first, second = get_templates(["a {}", "the {}"]), get_templates(["the {}", "a {}"])
    assert first.content_hash != second.content_hash
    assert first.content_hash == Templates(("a {}", "the {}"), "mine").content_hash
    # The 80 sentences come with open_clip: a version of it that changes them would change every result.
    assert get_templates("openai_80").content_hash == "e30aa9d7fb289e072e361fb1b2d16a295f7cb396978685fa57a0882c96c06b0d"


def test_own_templates():
    own = get_templates(["a drawing of a {}"])
    assert own.name == "custom" and get_templates(own) is own
    assert own.prompts("{0} bra}ce") == ["a drawing of a {0} bra}ce"]


@pytest.mark.parametrize("bad", [[], ["no place"], ["{} and {}"], [3]])
def test_bad_templates(bad):
    with pytest.raises(ValueError, match="template"):
        get_templates(bad)


def test_unknown_set():
    with pytest.raises(ValueError, match="known are .*openai_80"):
        get_templates("openai80")
