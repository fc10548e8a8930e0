"""Every test has caches of its own and no way to the network."""

import pytest

from ovseg.weights import catalogue
from tests.weights.small import small_card, small_clip


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """ovseg's cache directory of the test; the user's caches are neither seen nor changed."""
    root = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("OVSEG_CACHE", str(root / "ovseg"))
    monkeypatch.setenv("OVSEG_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(root / "torch"))
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return root / "ovseg"


@pytest.fixture(scope="session")
def clip_model():
    """A small CLIP of OpenAI's architecture with random weights."""
    return small_clip()


@pytest.fixture
def clip_card(tmp_path, monkeypatch):
    """The catalogue's entry ``test/clip`` for ``clip_model``."""
    card = small_card(tmp_path)
    monkeypatch.setitem(catalogue(), card.name, card)
    return card
