"""Linear systems that are only known by what they do to a vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradients(
    multiply: Callable[[Tensor], Tensor], rhs: Tensor, iterations: int = 10, tolerance: float = 1e-6
) -> Tensor:
    """Some steps of conjugate gradients from 0 for many right-hand sides at once (Hestenes & Stiefel 1952).

    Every row is a system of its own with its own step lengths, and stops on its own where its residual is at most
    ``tolerance`` times its right-hand side, so that a result does not depend on which rows are solved together.
    Methods that stop early (LPOSS) mean the iterate, not the solution.

    Args:
        multiply: a symmetric positive definite matrix A: ``[Q, n]`` to ``[Q, n]``, row by row.
        rhs: floating point ``[Q, n]``.
        iterations: steps at most.
        tolerance: of the residual's Euclidean norm.

    Returns:
        ``[Q, n]``, type of ``rhs``.
    """
    x, residual = torch.zeros_like(rhs), rhs.clone()
    direction, square = residual.clone(), _dot(residual, residual)
    enough = tolerance**2 * square
    active = square > enough
    for _ in range(iterations):
        if not bool(active.any()):
            break
        product = multiply(direction)
        step = torch.where(active, square / _dot(direction, product), 0).to(rhs.dtype)
        x.addcmul_(step, direction)
        residual.addcmul_(step, product, value=-1)
        new = _dot(residual, residual)
        direction = torch.where(active, residual + (new / square).to(rhs.dtype) * direction, direction)
        square = torch.where(active, new, square)
        active = active & (new > enough)
    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """float64 ``[Q, 1]`` dot products of rows."""
    return (a.double() * b.double()).sum(-1, keepdim=True)
