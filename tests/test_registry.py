"""Components that cannot be built: one line that names the component and what it takes."""

import pytest

from ovseg.errors import ComponentError, SetupError
from ovseg.registry import ATTENTIONS, HEADS, MODELS, REFINERS, construct
from ovseg.windows import SlidingWindows


@pytest.mark.parametrize(
    "registry, cfg, message",
    [
        (HEADS, dict(type="MaxQueryHed"), "no head 'MaxQueryHed'; did you mean 'MaxQueryHead'"),
        (HEADS, dict(type="PAMR"), "'PAMR' is a refiner; a head is expected here"),
        (
            HEADS,
            dict(type="MaxQueryHead", logitscale=50),
            "MaxQueryHead has no argument 'logitscale'; did you mean 'logit_",
        ),
        (HEADS, dict(logit_scale=50), "has no type"),
        (HEADS, 3, "expected dict"),
        (HEADS, dict(type=3), "no head 3"),
        (ATTENTIONS, dict(type="NeighbourAttention", std="wide"), "std is 'wide'; a number is expected"),
        (ATTENTIONS, dict(type="SelfSelfAttention", terms=("z",)), "SelfSelfAttention: .*z"),
        (REFINERS, dict(type="PAMR", iterations=2.5), "iterations is 2.5; a whole number is expected"),
        (MODELS, dict(type="OpenVocabSegmentor"), "needs the argument attention"),
        (MODELS, dict(type="OpenVocabSegmentor", attention=dict(type="ValueAttention")), "argument: 'backbone'"),
        (MODELS, dict(type="no.such.Thing"), "no model 'no.such.Thing'"),
    ],
)
def test_refusals_are_one_line(registry, cfg, message):
    with pytest.raises(ComponentError, match=message) as caught:
        registry.build(cfg)
    assert isinstance(caught.value, SetupError) and "\n" not in str(caught.value)


def test_parts_without_a_registry():
    assert construct(SlidingWindows, None, "windows").crop == 224
    with pytest.raises(ComponentError, match="windows: SlidingWindows has no argument 'crops'; did you mean 'crop'"):
        construct(SlidingWindows, dict(crops=3), "windows")
    with pytest.raises(ComponentError, match="windows: stride is 300"):
        construct(SlidingWindows, dict(crop=224, stride=300), "windows")
    with pytest.raises(ComponentError, match="windows: expected dict"):
        construct(SlidingWindows, [224], "windows")
