"""Between zero-shot and trained weights, and refusals."""

import pytest
import torch

from tools.publish_decoder import interpolated


def test_weights_lie_on_the_line_between():
    start, end = {"a": torch.zeros(3), "n": torch.tensor(1)}, {"a": torch.full((3,), 4.0), "n": torch.tensor(2)}
    assert interpolated(start, end, 0.25)["a"].tolist() == [1.0] * 3
    assert torch.equal(interpolated(start, end, 1.0)["a"], end["a"])
    assert torch.equal(interpolated(start, end, 0.0)["a"], start["a"])
    assert interpolated(start, end, 0.5)["n"] == 2


@pytest.mark.parametrize(
    ("end", "share", "message"),
    [
        ({"a": torch.zeros(3)}, 1.5, "share is 1.5"),
        ({"b": torch.zeros(3)}, 0.5, "a: not in both"),
        ({"a": torch.zeros(4)}, 0.5, "a: not in both, or of another shape"),
    ],
)
def test_what_cannot_be_mixed_is_named(end, share, message):
    with pytest.raises(ValueError, match=message):
        interpolated({"a": torch.zeros(3)}, end, share)
