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
        not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool),
        f"{name}: expected integers, got {tensor.dtype}",
    )


def widened(name: str, tensor: Tensor, *compared: int) -> Tensor:
    """Integers of any type as int32, or int64 where that is needed to hold them and the numbers they are compared with.

    torch compares in the tensor's own type (a uint8 44 "equals" 300) and has few operators for uint16 to uint64.

    Raises:
        ValueError: for floats, bools and values of 2**63 and more.
    """
    need_integer(name, tensor)
    need(all(-(2**63) <= value < 2**63 for value in compared), f"{name}: {compared} are beyond 64 bits")
    if tensor.dtype == torch.uint64:
        need(bool((tensor.view(torch.int64) >= 0).all()), f"{name}: values of 2**63 and more")
    wide = tensor.dtype in (torch.int64, torch.uint32, torch.uint64)
    wide = wide or not all(-(2**31) <= value < 2**31 for value in compared)
    return tensor.to(torch.int64 if wide else torch.int32)


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
