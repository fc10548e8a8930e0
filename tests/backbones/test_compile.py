"""torch.compile of the backbone (slow: compiling takes about half a minute on a CPU)."""

import copy

import pytest
import torch

from ovseg.attention import SelfSelfAttention
from ovseg.backbones import ClipBackbone


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="compile is 'fast'"):
        ClipBackbone("nano", compile="fast")


@pytest.mark.slow
def test_a_copy_of_a_compiled_backbone_runs_its_own_weights():
    attention, images = SelfSelfAttention(("q",)), torch.randn(2, 3, 112, 112)
    compiled = ClipBackbone("nano", compile="default")
    with torch.no_grad():
        before = compiled(images, attention).tokens
        changed = copy.deepcopy(compiled)
        for parameter in changed.clip.visual.parameters():
            parameter.data.mul_(1.1)
        plain = ClipBackbone("nano")
        plain.clip.load_state_dict(changed.clip.state_dict())
        expected = plain(images, attention).tokens
        torch.testing.assert_close(changed(images, attention).tokens, expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(compiled(images, attention).tokens, before, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(before, expected, atol=1e-2)


@pytest.mark.slow
def test_compiled_blocks_give_the_same_tokens_for_every_batch_size():
    attention = SelfSelfAttention(("q",))
    plain, compiled = ClipBackbone("nano"), ClipBackbone("nano", compile="default")
    for count in (1, 3, 4):
        images = torch.randn(count, 3, 112, 112)
        with torch.no_grad():
            expected, got = plain(images, attention), compiled(images, attention)
        torch.testing.assert_close(got.tokens, expected.tokens, rtol=1e-4, atol=1e-4)
