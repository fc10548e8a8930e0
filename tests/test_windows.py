"""Windows: where they lie, how they are padded."""

import pytest
import torch

from ovseg.windows import SlidingWindows, window_starts


def test_window_starts_follow_the_slide_rule():
    assert window_starts(336, 224, 112) == [0, 112]
    assert window_starts(504, 224, 112) == [0, 112, 224, 280]
    assert window_starts(100, 224, 112) == [0]


def test_windows_are_padded_with_the_mean_or_black():
    image = torch.ones(3, 20, 33)
    mean, std = torch.full((3, 1, 1), 100.0), torch.full((3, 1, 1), 50.0)
    centred = SlidingWindows(crop=None, pad_multiple=16)
    layout = centred.layout(20, 33, 16)
    assert (layout.padded, layout.offset) == ((32, 48), (6, 7))
    window = centred.cut(image, layout)[0]
    assert window[:, 6:26, 7:40].eq(1).all() and window.sum() == 3 * 20 * 33
    black = SlidingWindows(crop=None, pad_multiple=16, pad_mode="end", pad_value="black")
    layout = black.layout(20, 33, 16)
    window = black.cut(image, layout, mean, std)[0]
    assert window[:, :20, :33].eq(1).all() and window[:, 20:].eq(-2).all()


def test_region_ids_get_their_own_padding_id():
    windows = SlidingWindows(crop=None, pad_multiple=4)
    ids = windows.cut_ids(torch.arange(6).view(2, 3), windows.layout(2, 3, 1), pad_id=-7)
    assert ids.shape == (1, 4, 4)
    assert ids[0, 1:3, 0:3].tolist() == [[0, 1, 2], [3, 4, 5]] and (ids == -7).sum() == 10


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(crop=0), "crop is 0"),
        (dict(crop=8, stride=9), "stride is 9"),
        (dict(pad_mode="left"), "pad_mode is 'left'"),
        (dict(batch=0), "window batch is 0"),
    ],
)
def test_senseless_windows_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SlidingWindows(**kwargs)
