"""ResCLIP's last block and its feedback, written out with whole maps and loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.attention import NeighbourAttention, ResidualAttention, SelfSelfAttention
from ovseg.attention.feedback import feedback_matrix, smoothed_agreement
from ovseg.backbones.towers import build_tower
from ovseg.ops.reference import neighbour_bias
from ovseg.structures import AttentionContext
from tests.small_models import images, small_clip

GRID = (3, 5)


@pytest.fixture(scope="module")
def context():
    tower = build_tower(small_clip(layers=4).visual)
    tokens, inputs = tower.run(tower.embed(images(2, 3, 48, 80)), GRID, range(4))
    return AttentionContext(x=tokens, grid=GRID, tower=tower, inputs=inputs)


def residual_map(context):
    total = 0
    for i in (0, 1):
        block = context.tower.blocks[i]
        q, k, _ = block.qkv(block.norm1(context.inputs[i]))
        total = total + (q @ k.mT * block.scale).softmax(-1)
    return total / 2


def test_first_pass_blends_the_maps(context):
    block = context.tower.blocks[-1]
    _, k, v = block.qkv(block.norm1(context.x))
    own = (k @ k.mT * block.scale + neighbour_bias(GRID, 5.0, 16, k.device)).softmax(-1)
    mixed = 2 * (0.6 * own + 0.4 * residual_map(context)) @ v
    got = ResidualAttention(layers=(0, -3), weight=0.4)(context)
    torch.testing.assert_close(got.tokens, block.out(mixed.transpose(1, 2).flatten(2)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "base"),
    [
        (dict(), NeighbourAttention(5.0)),
        (
            dict(std=0, terms=("q", "k"), residual=True, ffn=True),
            SelfSelfAttention(("q", "k"), residual=True, ffn=True),
        ),
    ],
)
def test_without_residual_it_is_its_base(context, options, base):
    got = ResidualAttention(layers=(0,), weight=0.0, strength=1.0, **options)(context)
    torch.testing.assert_close(got.tokens, base(context).tokens, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("terms", [("k",), ("q", "k")])
def test_second_pass_puts_the_feedback_into_the_logits(context, terms):
    attention = ResidualAttention(layers=(0, -3), weight=0.3, feedback=0.6, sharpness=2.1, terms=terms)
    middle = attention(context).carried["middle"]
    feedback = torch.rand(15, 15, generator=torch.Generator().manual_seed(0))
    one = AttentionContext(x=context.x[1:], grid=GRID, tower=context.tower)
    got = attention.again(one, middle[1:], feedback).tokens[0]
    block = context.tower.blocks[-1]
    q, k, v = block.qkv(block.norm1(context.x[1:]))
    e, g = F.pad(feedback, (1, 0, 1, 0)), neighbour_bias(GRID, 5.0, 16, k.device)
    own = sum(
        (2.1 * (0.4 * t @ t.mT * block.scale + 0.6 * e) + g).softmax(-1) for t in [dict(q=q, k=k)[n] for n in terms]
    )
    mixed = 2 * (0.7 * own + 0.3 * residual_map(context)[1:]) @ v
    torch.testing.assert_close(got, block.out(mixed.transpose(1, 2).flatten(2))[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "options", [dict(layers=()), dict(weight=1.5), dict(feedback=-1), dict(std=-1), dict(terms=())]
)
def test_refuses(options):
    with pytest.raises(ValueError, match="layer|weight|feedback|std|terms"):
        ResidualAttention(**options)


def agreement_by_hand(labels):
    height, width = labels.shape
    cells = [(y, x) for y in range(height) for x in range(width)]
    most = max(height, width) - 1
    shares = np.linspace(0, 1, most + 1, dtype=np.float32) if most else []
    e = np.zeros((len(cells), len(cells)))

    def between(a, b, t):  # in float32, where some ways pass exactly between two cells
        return int(np.round(np.float32(a) * (np.float32(1) - t) + np.float32(b) * t))

    for i, (y, x) in enumerate(cells):
        for j, (v, u) in enumerate(cells):
            if labels[y, x] != labels[v, u]:
                continue
            steps = max(abs(y - v), abs(x - u))
            points = [(between(y, v, t), between(x, u, t)) for t in shares[: steps + 1]]
            clear = all(labels[p] == labels[y, x] for p in points)
            e[i, j] = 1 if clear else np.exp(-steps / most)
    size = min(len(cells), 31)
    size -= 1 - size % 2
    kernel = np.exp(-((np.arange(size) - size // 2) ** 2) / 50)
    smooth = np.array([np.convolve(row, kernel / kernel.sum(), mode="full") for row in e])
    smooth = smooth[:, size // 2 : size // 2 + len(cells)]
    return smooth / (smooth.sum(1, keepdims=True) + 1e-8)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 7), st.sampled_from((1, 2, 847)), st.integers(0, 999))
def test_feedback_is_its_definition(height, width, classes, seed):
    labels = np.random.default_rng(seed).integers(0, classes, (height, width))
    want = torch.from_numpy(agreement_by_hand(labels)).float()
    got = smoothed_agreement(torch.from_numpy(labels))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    matrix = feedback_matrix(torch.from_numpy(labels).int())
    torch.testing.assert_close(matrix, (want / want.max()).half().float(), atol=1e-3, rtol=0)
    assert matrix.max() == 1
