"""LPOSS's graph and propagation against dense matrices."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.apis import Segmenter
from ovseg.ops import conjugate_gradients
from ovseg.stitches import GraphStitch, graph
from ovseg.windows import SlidingWindows


def nodes(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 6, generator=g) + 0.5, dim=-1), 100 * torch.rand(count, 2, generator=g)


def dense(features, places, neighbours, gamma, sigma):
    s = (features @ features.T).double()
    keep = torch.zeros_like(s)
    keep.scatter_(1, s.topk(min(neighbours, len(s)), dim=1).indices, 1)
    k = keep * s.clamp(min=0) ** gamma * torch.exp(-sigma * torch.cdist(places.double(), places.double()))
    w = k + k.T
    w.fill_diagonal_(0)
    d = w.sum(1)
    d[d == 0] = 1
    return w / (d[:, None] * d).sqrt()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 999))
def test_graph_is_the_normalised_sum_of_both_directions(count, neighbours, seed):
    features, places = nodes(count, seed)
    edges, weights = GraphStitch(neighbours, gamma=3.0, sigma=0.01).graph(features, places)
    got = torch.zeros(count, count, dtype=torch.float64)
    got[edges[0], edges[1]] = weights
    torch.testing.assert_close(got, dense(features, places, neighbours, 3.0, 0.01), atol=1e-6, rtol=1e-5)
    assert edges.shape[1] <= 2 * neighbours * count and weights.dtype == torch.float64


def test_neighbours_are_found_in_blocks_of_rows(monkeypatch):
    features, places = nodes(50)
    whole = GraphStitch(7).graph(features, places)
    monkeypatch.setattr(graph, "ROW_ELEMENTS", 50 * 8)
    for one, other in zip(GraphStitch(7).graph(features, places), whole, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("queries", [1, 847])
def test_propagation_is_ten_steps_of_the_dense_system(queries):
    features, places = nodes(40)
    stitch = GraphStitch(8)
    scores = torch.randn(queries, 40, generator=torch.Generator().manual_seed(1))
    s = dense(features, places, 8, 3.0, 0.01)
    want = conjugate_gradients(lambda x: x - 0.95 * x @ s, scores.double(), 10, 1e-6)
    got = stitch.propagate(*stitch.graph(features, places), scores)
    torch.testing.assert_close(got, want.float(), atol=1e-5, rtol=1e-5)
    converged = torch.linalg.solve(torch.eye(40).double() - 0.95 * s, scores.double().T).T
    assert (want - converged).abs().max() > 1e-6, "the iterate is not the solution"


def test_centres_are_in_pixels_of_the_photo():
    layout = SlidingWindows(crop=48, stride=24, pad_multiple=16).layout(50, 90, 16)
    at = graph.centres(layout, (3, 3)).view(len(layout), 3, 3, 2)
    starts = [(y, x) for y in layout.starts[0] for x in layout.starts[1]]
    assert layout.offset == (0, 0)
    for (y, x), cells in zip(starts, at, strict=True):
        assert cells[2, 1].tolist() == [y + 8 + 32, x + 8 + 16]
    padded = SlidingWindows(crop=56, stride=28, pad_multiple=16).layout(56, 56, 16)
    assert padded.offset == (4, 4) and graph.centres(padded, (4, 4))[0].tolist() == [4.0, 4.0]


@pytest.fixture(scope="module")
def model():
    built = Segmenter("nano", "lposs", short_side=112)
    built.set_vocabulary(["cat", "dog; puppy", "grass", "car"])
    return built.model


@pytest.mark.parametrize("size", [(112, 190), (1, 1), (33, 200)])
def test_photos_of_any_size(model, size):
    photo = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model.stitch.neighbours = 40
    for pixels in (None, dict(type="PixelPropagation", reach=2)):
        stitch = GraphStitch(40, pixels=pixels)
        model.stitch, before = stitch, model.stitch
        labels = model.predict([model.prepare(photo, (size[0] + 3, size[1]))])[0]
        model.stitch = before
        assert labels.shape == (size[0] + 3, size[1]) and labels.max() < 4


def test_photos_together_are_as_alone(model):
    photos = [
        torch.randint(0, 256, (3, 112, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(w))
        for w in (150, 112)
    ]
    prepared = [model.prepare(p, tuple(p.shape[1:])) for p in photos]
    for one, many in zip(prepared, model.predict(prepared), strict=True):
        assert (model.predict([one])[0] == many).float().mean() > 0.999


def test_needs_a_guide():
    clip = Segmenter("nano", "clearclip")
    clip.set_vocabulary(["cat", "dog"])
    clip.model.stitch = GraphStitch()
    photo = torch.zeros(3, 112, 112, dtype=torch.uint8)
    with pytest.raises(ValueError, match="needs a guide"):
        clip.model.predict([clip.model.prepare(photo, (112, 112))])


@pytest.mark.parametrize("options", [dict(neighbours=0), dict(alpha=1.0), dict(iterations=0)])
def test_refuses(options):
    with pytest.raises(ValueError, match="neighbours"):
        GraphStitch(**options)
