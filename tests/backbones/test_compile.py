"""torch.compile of the backbone (slow: compiling takes about half a minute on a CPU)."""

import pytest
import torch

from ovseg.attention import SelfSelfAttention
from ovseg.backbones import ClipBackbone


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="compile is 'fast'"):
        ClipBackbone("nano", compile="fast")


@pytest.mark.slow
def test_compiled_blocks_give_the_same_tokens_for_every_batch_size():
    attention = SelfSelfAttention(("q",))
    plain, compiled = ClipBackbone("nano"), ClipBackbone("nano", compile="default")
    for count in (1, 3, 4):
        images = torch.randn(count, 3, 112, 112)
        with torch.no_grad():
            expected, got = plain(images, attention), compiled(images, attention)
        torch.testing.assert_close(got.tokens, expected.tokens, rtol=1e-4, atol=1e-4)
