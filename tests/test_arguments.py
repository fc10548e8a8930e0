"""Names against those there are, values against what is declared."""

import numpy as np
import pytest
import torch

from ovseg.arguments import argument_fault, side_in_pixels, suggestion, whole_number
from ovseg.datasets.transforms import ResizePIL, ResizeShortSide
from ovseg.windows import SlidingWindows


@pytest.mark.parametrize(
    "value", [0, -1, 336.0, 16.5, "abc", "336", True, None, float("nan"), 10**9, [336], np.bool_(1)]
)
def test_no_side_in_pixels(value):
    with pytest.raises(ValueError, match="short_side is .*whole number"):
        side_in_pixels("short_side", value)
    with pytest.raises(ValueError, match="short_side"):
        ResizeShortSide(value)
    with pytest.raises(ValueError, match="short_side"):
        ResizePIL(value)
    with pytest.raises(ValueError, match="max_long"):
        ResizeShortSide(336, value)
    for name in ("crop", "stride", "pad_multiple", "fit_multiple"):
        if value is not None:
            with pytest.raises(ValueError, match=name):
                SlidingWindows(**{"crop": 224, name: value})


@pytest.mark.parametrize("value", [448, np.int64(448), np.uint16(448), torch.tensor(448)])
def test_whole_numbers_of_all_kinds(value):
    number = side_in_pixels("short_side", value)
    assert number == 448 and type(number) is int


def test_windows_of_one_pixel_have_a_stride():
    assert SlidingWindows(crop=1).stride == 1


@pytest.mark.parametrize("batch", [0, 2.5, "8", True, None])
def test_window_batch(batch):
    with pytest.raises(ValueError, match="window batch"):
        SlidingWindows(batch=batch)


def test_range():
    assert whole_number("workers", 0, least=0) == 0
    with pytest.raises(ValueError, match="workers is 9; give a whole number, 0 to 8"):
        whole_number("workers", 9, least=0, most=8)


def test_suggestions_pass_over_case_and_underscores():
    assert suggestion("ShortSide", ["short_side", "crop"]) == "; did you mean 'short_side'?"
    assert suggestion("xyz", ["short_side"]) == ""


class Base:
    def __init__(self, interval: int = 1, name: str | None = None) -> None: ...


class Between:
    def __init__(self, *args, unit: str = "px", **kwargs) -> None:
        super().__init__(*args, **kwargs)


class Open(Between, Base):
    def __init__(self, size: float, **kwargs) -> None:
        super().__init__(**kwargs)


class Collects:
    def __init__(self, interval: int = 1, **kwargs) -> None: ...


@pytest.mark.parametrize(
    "given, fault",
    [
        (dict(size=1), None),
        (dict(size=1.5, interval=3, name=None), None),
        (dict(size=1, unit="cm"), None),
        (dict(size=1, anything=3), "no argument 'anything'"),
        (dict(size=1, iv=3), "no argument 'iv'"),
        (dict(size=1, intervall=3), "no argument 'intervall'; did you mean 'interval'"),
        (dict(interval=3), "needs the argument size"),
        (dict(size="large"), "size is 'large'; a number is expected"),
        (dict(size=True), "size is True"),
    ],
)
def test_arguments_of_a_class_that_hands_some_on(given, fault):
    found = argument_fault(Open, given)
    assert found is None if fault is None else fault in found


def test_a_class_without_an_end_to_its_keywords_takes_all_but_typing_errors():
    assert argument_fault(Collects, dict(interval=2, anything=3)) is None
    assert "did you mean 'interval'" in argument_fault(Collects, dict(intervall=2))


@pytest.mark.parametrize(
    "given, fault",
    [
        (dict(interval=2.0), "interval is 2.0; a whole number is expected"),
        (dict(name=3), "name is 3; text or None is expected"),
        (dict(nam="x"), "no argument 'nam'; did you mean 'name'"),
        (dict(other=1), "no argument 'other' (it has interval, name)"),
    ],
)
def test_arguments_of_a_class(given, fault):
    assert fault in argument_fault(Base, given)
