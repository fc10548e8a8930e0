"""The commands' tests have caches of their own, as the weights' tests."""

from tests.weights.conftest import cache, clip_card, clip_model  # noqa: F401
