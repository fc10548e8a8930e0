"""Score maps against the official pipelines' own steps, written out plainly here."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.scores import RefinedScoreMap, ResizedScoreMap, ScoreMap, every
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


def early_max(base, size, q2c, classes):
    """Maximum over the queries of a class at the base's size, then bilinear."""
    full = base.block()
    merged = torch.stack([full[q2c == c].amax(0) for c in range(classes)])
    return F.interpolate(merged[None], size=size, mode="bilinear", align_corners=False)[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 9), st.tuples(st.integers(1, 90), st.integers(1, 90)), st.integers(0, 99))
def test_resized_maps_of_queries_and_of_classes(classes, extra, size, seed):
    torch.manual_seed(seed)
    q2c = torch.cat([torch.arange(classes), torch.randint(classes, (extra,))])
    base = ScoreMap.from_grid(torch.randn(len(q2c), 3, 4), (30, 41))
    plain = F.interpolate(base.block()[None], size=size, mode="bilinear", align_corners=False)[0]
    scores = ResizedScoreMap(base, size)
    torch.testing.assert_close(scores.block(), plain, atol=1e-5, rtol=1e-5)
    by_class = scores.by_class(q2c, classes)
    want = early_max(base, size, q2c, classes)
    assert by_class.num_queries == classes and by_class.size == size
    torch.testing.assert_close(by_class.block(), want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        by_class.block(slice(0, 1), slice(size[0] // 2, None)), want[:1, size[0] // 2 :], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("refined", [False, True])
def test_blocks_of_resized_maps_cover_everything(refined):
    q2c = torch.tensor([3, 0, 1, 0, 2, 2, 1, 0])
    base = ScoreMap.from_grid(torch.randn(8, 3, 4), (30, 41))
    if refined:
        base = RefinedScoreMap(base, lambda maps: maps * 2)
    size = (150, 130)
    scores = ResizedScoreMap(base, size, q2c, 4, max_values=size[0] * size[1] * 2)
    seen = torch.full((4, *size), torch.nan)
    for queries, rows, columns, block in scores.blocks():
        assert seen[queries, rows, columns].isnan().all()
        seen[queries, rows, columns] = block
    torch.testing.assert_close(seen, early_max(base, size, q2c, 4), atol=1e-5, rtol=1e-5)


def test_a_class_without_a_query_never_wins():
    scores = ResizedScoreMap(ScoreMap.from_grid(-torch.ones(2, 2, 2), (4, 4)), (5, 5), torch.tensor([0, 2]), 3)
    block = scores.block()
    assert torch.isfinite(block).all() and (block.argmax(0) == 0).all() and (block[1] < -1e30).all()


@pytest.mark.parametrize("step", [1, 3, 7])
def test_every_few_pixels_are_those_of_the_whole_map(step):
    """Tiles of 64 x 512 that no step divides, seen as a score map, in tiles and refined."""
    generator = torch.Generator().manual_seed(0)
    scores = ScoreMap.from_grid(torch.randn(3, 5, 9, generator=generator), (150, 1100))

    class InTiles:
        size, num_queries, blocks, block = scores.size, 3, scores.blocks, scores.block

    want = scores.block()[:, ::step, ::step]
    for kind in (scores, InTiles(), RefinedScoreMap(scores, lambda part: part, max_values=150 * 1100)):
        found = torch.full_like(want, torch.nan)
        for queries, rows, columns, block in every(kind, step):
            found[queries, rows, columns] = block
        torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)
