"""torch.compile of the backbone (slow: compiling takes about half a minute on a CPU)."""

import copy

import pytest
import torch

from ovseg.backbones import ClipBackbone


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="compile is 'fast'"):
        ClipBackbone("nano", compile="fast")


@pytest.mark.slow
def test_a_copy_of_a_compiled_backbone_runs_its_own_weights():
    images = torch.randn(2, 3, 112, 112)
    compiled = ClipBackbone("nano", compile="default")
    with torch.no_grad():
        before = compiled(images).x
        changed = copy.deepcopy(compiled)
        for parameter in changed.clip.visual.parameters():
            parameter.data.mul_(1.1)
        plain = ClipBackbone("nano")
        plain.clip.load_state_dict(changed.clip.state_dict())
        expected = plain(images).x
        torch.testing.assert_close(changed(images).x, expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(compiled(images).x, before, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(before, expected, atol=1e-2)


@pytest.mark.slow
def test_compiled_blocks_give_the_same_tokens_for_every_batch_size():
    plain, compiled = ClipBackbone("nano"), ClipBackbone("nano", compile="default")
    for count in (1, 3, 4):
        images = torch.randn(count, 3, 112, 112)
        with torch.no_grad():
            expected, got = plain(images, (2,)), compiled(images, (2,))
        for a, b in ((got.x, expected.x), (got.inputs[2], expected.inputs[2])):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
