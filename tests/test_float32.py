"""Casting the weights is refused where it is asked for, with what to do instead."""

import pytest
import torch

from ovseg import Segmenter
from ovseg.backbones import ClipBackbone, DinoBackbone, SamBackbone

CASTS = {
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "double": lambda m: m.double(),
    "to float16": lambda m: m.to(torch.float16),
    "to device and bfloat16": lambda m: m.to("cpu", torch.bfloat16),
    "to float64": lambda m: m.to(dtype=torch.float64),
    "to another's": lambda m: m.to(torch.zeros(1, dtype=torch.float16)),
    "type": lambda m: m.type(torch.float16),
}


@pytest.fixture(scope="module")
def models():
    return [
        Segmenter("nano", "clearclip").model,
        ClipBackbone("nano"),
        DinoBackbone("nano_guide"),
        SamBackbone("nano_sam"),
    ]


@pytest.mark.parametrize("cast", CASTS)
def test_casts_are_refused_and_change_nothing(models, cast):
    for model in models:
        with pytest.raises(TypeError, match=f"weights of {type(model).__name__} stay in float32") as caught:
            CASTS[cast](model)
        assert ("precision='" in str(caught.value)) == ("64" not in cast and cast != "double")
        tensors = [*model.parameters(), *model.buffers()]
        assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float32}


def test_what_is_no_cast_goes_on(models):
    for model in models:
        assert model.float() is model and model.to("cpu") is model and model.to(torch.float32) is model


def test_another_default_dtype_changes_nothing():
    torch.set_default_dtype(torch.float64)
    try:
        backbone = ClipBackbone("nano")
    finally:
        torch.set_default_dtype(torch.float32)
    assert {t.dtype for t in [*backbone.parameters(), *backbone.buffers()] if t.is_floating_point()} == {torch.float32}
