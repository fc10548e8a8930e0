"""Convolutions are not rounded within a segmentor, whatever other threads do, and the setting is put back."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from ovseg import Segmenter
from ovseg.float32 import exact_convolutions

pytestmark = pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="PyTorch before 2.9: another switch")


def rounding() -> str:
    return torch.backends.cudnn.conv.fp32_precision


@pytest.fixture(autouse=True)
def a_process_that_rounds():
    before = rounding()
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    yield
    torch.backends.cudnn.conv.fp32_precision = before


def test_within_it_nothing_is_rounded_and_the_setting_comes_back():
    for before in ("tf32", "ieee"):
        torch.backends.cudnn.conv.fp32_precision = before
        with exact_convolutions(), exact_convolutions():
            assert rounding() == "ieee"
        assert rounding() == before
        with pytest.raises(ZeroDivisionError), exact_convolutions():
            raise ZeroDivisionError
        assert rounding() == before


def test_the_last_thread_puts_it_back():
    entered, left = Barrier(2), Barrier(2)

    def first() -> None:
        with exact_convolutions():
            entered.wait()
        left.wait()

    def second() -> str:
        with exact_convolutions():
            entered.wait()
            left.wait()
            return rounding()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(first)
        assert pool.submit(second).result() == "ieee"
    assert rounding() == "tf32"


def test_segmentors_use_it():
    segmenter = Segmenter("nano", method="maskclip")
    segmenter.set_vocabulary(["cat", "sky"])
    seen = []
    segmenter.model.backbone.register_forward_hook(lambda *_: seen.append(rounding()))
    segmenter.segment(torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert seen and set(seen) == {"ieee"} and rounding() == "tf32"
