"""Attention over all windows of a photo: against loops over cells, and that a photo of one window is as ever."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ovseg.attention import NeighbourAttention, ProxyAttention, RegionAttention, SelfSelfAttention
from ovseg.attention.photo_scope import PhotoCells
from ovseg.backbones.towers import build_tower
from ovseg.structures import AttentionContext, FeatureMap
from ovseg.windows import SlidingWindows, WindowLayout
from tests.small_models import small_clip

PATCH = 16


def layout_of(height: int, width: int, **windows) -> WindowLayout:
    return SlidingWindows(**windows).layout(height, width, PATCH)


LAYOUTS = {
    "aligned": layout_of(96, 128, crop=64, stride=32),
    "moved back": layout_of(100, 90, crop=64, stride=32),
    "padded": layout_of(100, 90, crop=72, stride=40, pad_multiple=32),
    "one window": layout_of(64, 64, crop=64, stride=32),
}


def context_of(layout: WindowLayout, guide_factor: int = 2) -> AttentionContext:
    g = torch.Generator().manual_seed(0)
    tower = build_tower(small_clip().visual).eval()
    grid = tuple(side // PATCH for side in layout.padded)
    fine = tuple(guide_factor * n for n in grid)
    count = len(layout)
    features = F.normalize(torch.randn(count, fine[0] * fine[1], 8, generator=g) + 0.7, dim=-1)
    regions = torch.randint(0, 4, (count, *layout.padded), generator=g).int()
    inputs = {i: torch.randn(count, 1 + grid[0] * grid[1], 64, generator=g) for i in range(3)}
    return AttentionContext(
        x=inputs[2],
        grid=grid,
        tower=tower,
        inputs=inputs,
        guide=FeatureMap(features, fine),
        regions=regions,
        layout=layout,
    )


def places(layout: WindowLayout, grid: tuple[int, int]) -> list[tuple]:
    """The place of every token, window by window, by its centre."""
    found = []
    cell = [layout.padded[a] / grid[a] for a in (0, 1)]
    for window, (top, left) in enumerate((y, x) for y in layout.starts[0] for x in layout.starts[1]):
        for i in range(grid[0]):
            for j in range(grid[1]):
                y, x = (i + 0.5) * cell[0] - layout.offset[0], (j + 0.5) * cell[1] - layout.offset[1]
                if 0 <= y < layout.window[0] and 0 <= x < layout.window[1]:
                    found.append((int((top + y) // cell[0]), int((left + x) // cell[1])))
                else:
                    found.append(("padding", window, i, j))
    return found


def averaged(tokens: torch.Tensor, at: list[tuple]) -> dict[tuple, torch.Tensor]:
    sums: dict[tuple, list[torch.Tensor]] = {}
    for token, place in zip(tokens.flatten(0, 1), at, strict=True):
        sums.setdefault(place, []).append(token)
    return {place: torch.stack(parts).mean(0) for place, parts in sums.items()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_token_has_its_place_on_a_whole_grid(name):
    layout = LAYOUTS[name]
    grid = tuple(side // PATCH for side in layout.padded)
    cells, at = PhotoCells.of(layout, grid, torch.device("cpu")), places(layout, grid)
    inside = {place for place in at if place[0] != "padding"}
    assert inside == {(y, x) for y in range(cells.grid[0]) for x in range(cells.grid[1])}
    assert cells.padding == sum(place[0] == "padding" for place in at)
    for place, index in zip(at, cells.index.tolist(), strict=True):
        assert place[0] == "padding" or index == cells.padding + place[0] * cells.grid[1] + place[1]
    tokens = torch.randn(len(layout), grid[0] * grid[1], 5)
    means = averaged(tokens, at)
    expected = torch.stack([means[place] for place in at]).view_as(tokens)
    torch.testing.assert_close(cells.spread(cells.merge(tokens)), expected)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("std", [0.0, 1.5])
def test_self_self_attention_runs_over_the_cells(name, std):
    context = context_of(LAYOUTS[name])
    attention = (
        NeighbourAttention(std, ("q", "k"), scope="photo") if std else SelfSelfAttention(("q", "k"), scope="photo")
    )
    at, block = places(context.layout, context.grid), context.tower.blocks[-1]
    q, k, v = block.qkv(block.norm1(context.x), context.grid)
    order = list(dict.fromkeys(at))
    out = []
    for head in range(q.shape[1]):
        tokens = {}
        for key, t in dict(q=q, k=k, v=v).items():
            mean = averaged(t[:, head, 1:], at)
            tokens[key] = torch.stack([t[:, head, 0].mean(0), *(mean[place] for place in order)])
        bias = torch.zeros(1 + len(order), 1 + len(order))
        for i, a in enumerate(order):
            for j, b in enumerate(order):
                if std and "padding" not in (a[0], b[0]):
                    distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
                    bias[1 + i, 1 + j] = torch.tensor(-distance / (2 * std**2)).exp()
        weights = sum((tokens[t] @ tokens[t].T * block.scale + bias).softmax(-1) for t in ("q", "k"))
        out.append(weights @ tokens["v"])
    mixed = torch.stack(out, 1).flatten(1)  # [1 + places, d]
    per_token = torch.stack([mixed[1 + order.index(place)] for place in at]).view(len(context.x), -1, mixed.shape[1])
    expected = block.out(torch.cat([mixed[:1].expand(len(context.x), 1, -1), per_token], 1))
    torch.testing.assert_close(attention(context).tokens, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda scope: SelfSelfAttention(("q", "k"), residual=True, ffn=True, scope=scope),
        lambda scope: NeighbourAttention(1.5, scope=scope),
        lambda scope: ProxyAttention(scope=scope),
        lambda scope: RegionAttention(spatial_layers=1, scope=scope),
        lambda scope: RegionAttention(spatial_layers=1, merge_eps=None, scope=scope),
    ],
)
def test_a_photo_of_one_window_is_as_ever(make):
    context = context_of(LAYOUTS["one window"])
    torch.testing.assert_close(make("photo")(context).tokens, make("window")(context).tokens, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["aligned", "moved back", "padded"])
def test_guided_attentions_agree_where_windows_overlap(name):
    """One result for one place, and more than the windows' own: a window alone gives another one."""
    context = context_of(LAYOUTS[name])
    at = places(context.layout, context.guide.grid)
    for make in (ProxyAttention, lambda scope: RegionAttention(spatial_layers=1, semantic_weight=0, scope=scope)):
        tokens = make(scope="photo")(context).tokens
        means = averaged(tokens, at)
        expected = torch.stack([means[place] for place in at]).view_as(tokens)
        torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)
        assert (tokens - make(scope="window")(context).tokens).abs().max() > 1e-3


def test_what_is_missing_is_told():
    context = context_of(LAYOUTS["aligned"])
    context.layout = None
    with pytest.raises(ValueError, match="needs all windows of a photo"):
        ProxyAttention(scope="photo")(context)
    for attention in (SelfSelfAttention, NeighbourAttention, ProxyAttention, RegionAttention):
        with pytest.raises(ValueError, match="scope is 'image'; choose one of window, photo"):
            attention(scope="image")
        assert attention(scope="photo").window_scope == "image"
