"""Checks of operator inputs: every error names the input, what is wrong and what was expected."""

from __future__ import annotations

import torch
from torch import Tensor


def need(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def need_shape(name: str, tensor: Tensor, shape: str) -> None:
    """``shape`` names the axes, e.g. "B C H W"; none may be empty."""
    axes = shape.split()
    need(
        tensor.dim() == len(axes) and tensor.numel() > 0,
        f"{name}: expected a non-empty tensor [{', '.join(axes)}], got shape {tuple(tensor.shape)}",
    )


def need_equal_shape(name: str, tensor: Tensor, shape: tuple[int, ...], why: str) -> None:
    """The shape must be exactly this one."""
    need(tuple(tensor.shape) == tuple(shape), f"{name}: expected {tuple(shape)} {why}, got {tuple(tensor.shape)}")


def need_integer(name: str, tensor: Tensor) -> None:
    """Integer element type, not bool."""
    need(
        not tensor.is_floating_point() and tensor.dtype != torch.bool,
        f"{name}: expected integers, got {tensor.dtype}",
    )


def need_float(name: str, tensor: Tensor) -> None:
    """Floating point element type."""
    need(tensor.is_floating_point(), f"{name}: expected floating point values, got {tensor.dtype}; call .float() first")


def need_range(name: str, tensor: Tensor, num_classes: int) -> None:
    """All values in 0..num_classes-1."""
    if tensor.numel():
        low, high = (int(v) for v in torch.aminmax(tensor))
        need(0 <= low and high < num_classes, f"{name}: values {low}..{high} outside 0..{num_classes - 1}")


def need_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """One of a few words."""
    need(value in choices, f"{name}: expected one of {list(choices)}, got {value!r}")
