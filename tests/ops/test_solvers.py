"""Conjugate gradients: the iterate of the textbook, row by row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg import ops


def system(count, rows, seed):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(count, count, generator=g, dtype=torch.float64)
    return a @ a.T / count + torch.eye(count, dtype=torch.float64), torch.randn(rows, count, generator=g).double()


def textbook(a, b, iterations, tolerance):
    x, r = torch.zeros_like(b), b.clone()
    p = r.clone()
    for _ in range(iterations):
        if r.norm() <= tolerance * b.norm():
            break
        alpha = (r @ r) / (p @ a @ p)
        x, old = x + alpha * p, r
        r = r - alpha * (a @ p)
        p = r + (r @ r) / (old @ old) * p
    return x


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 12), st.sampled_from((1e-6, 0.3)), st.integers(0, 999))
def test_every_row_is_the_textbooks_iterate(count, rows, iterations, tolerance, seed):
    a, b = system(count, rows, seed)
    got = ops.conjugate_gradients(lambda x: x @ a, b, iterations, tolerance)
    for row, x in zip(b, got, strict=True):
        torch.testing.assert_close(x, textbook(a, row, iterations, tolerance), atol=1e-6, rtol=1e-6)


def test_solves_and_leaves_zero_rows_alone():
    a, b = system(20, 3, 1)
    b[1] = 0
    x = ops.conjugate_gradients(lambda v: v @ a, b, 100, 1e-12)
    torch.testing.assert_close(x @ a, b)
    assert not x[1].any()


@pytest.mark.parametrize("queries", [1, 847])
def test_rows_do_not_depend_on_each_other(queries):
    a, b = system(12, queries, 2)
    b[0] *= 1e6
    together = ops.conjugate_gradients(lambda v: v @ a, b, 4)
    alone = ops.conjugate_gradients(lambda v: v @ a, b[-1:], 4)
    torch.testing.assert_close(together[-1:], alone, atol=1e-12, rtol=1e-9)


def test_float32_stays_float32():
    a, b = system(20, 2, 3)
    x = ops.conjugate_gradients(lambda v: v @ a.float(), b.float(), 5)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), ops.conjugate_gradients(lambda v: v @ a, b, 5), atol=1e-5, rtol=1e-4)
