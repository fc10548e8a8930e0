"""Score maps against the official pipelines' own steps, written out plainly here."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.scores import RefinedScoreMap, ScoreMap
from ovseg.windows import SlidingWindows


def naive_stitch(scores, layout, size):
    """Upsample every window, crop its padding, add up, divide by the visits, resize: as the official code does."""
    h, w = layout.image_size
    total, visits = torch.zeros(scores.shape[1], h, w), torch.zeros(h, w)
    places = [(y, x) for y in layout.starts[0] for x in layout.starts[1]]
    (wh, ww), (top, left) = layout.window, layout.offset
    for window, (y, x) in zip(scores, places, strict=True):
        up = F.interpolate(window[None], size=layout.padded, mode="bilinear", align_corners=False)[0]
        total[:, y : y + wh, x : x + ww] += up[:, top : top + wh, left : left + ww]
        visits[y : y + wh, x : x + ww] += 1
    assert (visits > 0).all()
    return F.interpolate((total / visits)[None], size=size, mode="bilinear", align_corners=False)[0]


@settings(max_examples=40, deadline=None)
@given(
    h=st.integers(1, 150),
    w=st.integers(1, 150),
    crop=st.sampled_from([None, 32, 48, 64]),
    pad=st.sampled_from([None, 16, 56]),
    mode=st.sampled_from(["centre", "end"]),
    out=st.tuples(st.integers(1, 180), st.integers(1, 180)),
    seed=st.integers(0, 2**16),
)
def test_stitching_equals_the_plain_pipeline(h, w, crop, pad, mode, out, seed):
    torch.manual_seed(seed)
    windows = SlidingWindows(crop=crop, stride=24 if crop else None, pad_multiple=pad, pad_mode=mode)
    layout = windows.layout(h, w, patch_size=16)
    grid = [p // 16 for p in layout.padded]
    scores = torch.randn(len(layout), 3, *grid)
    got = ScoreMap.from_windows(scores, layout, out).block()
    torch.testing.assert_close(got, naive_stitch(scores, layout, out), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (65, 130), (200, 90)])
def test_blocks_cover_every_pixel_once_and_match(size):
    score_map = ScoreMap.from_grid(torch.randn(5, 7, 9), size)
    full, seen = score_map.block(), torch.zeros(size)
    for queries, rows, columns, block in score_map.blocks():
        seen[rows, columns] += 1
        torch.testing.assert_close(block, full[queries, rows, columns])
    assert (seen == 1).all()


def test_refined_map_refines_each_query_and_streams_in_chunks():
    base = ScoreMap.from_grid(torch.randn(5, 4, 4), (16, 12))
    refined = RefinedScoreMap(base, lambda scores: scores * 2, max_values=2 * 16 * 12)
    pieces = list(refined.blocks())
    assert [p[0] for p in pieces] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    torch.testing.assert_close(torch.cat([p[3] for p in pieces]), base.block() * 2)
