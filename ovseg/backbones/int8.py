"""Matrix products of 8-bit integers: weights per output channel, activations per token, sums exact in 32 bits.

``x`` and ``w`` become ``127 x / max|x|`` and ``127 w / max|w|``, rounded, with one maximum per row of either; products
and sums of those integers are exact, so a row never depends on what else is in the batch. oneDNN wants unsigned
activations: they are moved up by 128, and it takes that back. Everything between two products stays in fp32 on blocks
of rows that fit the cache.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ovseg.processor import processor

PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Instruction sets that multiply bytes and add up without saturating on the way (without them sums would be wrong)."""
ROWS = 512
"""Rows that are worked on at once, measured on a Zen 4: fewer slow the products, all at once leave the caches."""
LEVELS, MIDDLE = 127, 128


@lru_cache(maxsize=1)
def int8_reasons() -> tuple[str, ...]:
    """Why this machine does not multiply int8; empty if it does."""
    reasons = []
    if not set(PRODUCTS) & processor().flags:
        reasons.append(f"this CPU ({processor().name}) has none of {', '.join(PRODUCTS)}")
    for name in ("qlinear_prepack", "qlinear_pointwise"):
        if not hasattr(torch.ops.onednn, name):
            reasons.append(f"this torch has no operator onednn.{name}")
    return tuple(reasons)


def pack(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A weight ``[out, in]`` in oneDNN's order, its scales fp32 ``[out]``, and its zero points."""
    scales = weight.float().abs().amax(1).clamp_min_(torch.finfo(torch.float32).tiny) / LEVELS
    whole = (weight.float() / scales[:, None]).round_().to(torch.int8)
    return torch.ops.onednn.qlinear_prepack(whole, None), scales, torch.zeros(len(whole), dtype=torch.int64)


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``[n, in]`` as uint8 around :data:`MIDDLE`, and the scale of each, fp32 ``[n, 1]``."""
    x = x.float()
    scales = x.abs().amax(1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny) / LEVELS
    # through int8: torch converts fp32 to uint8 one by one, to int8 sixteen at a time
    return (x / scales).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(MIDDLE), scales


def product(x: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias`` in fp32, ``[n, in] -> [n, out]``, with what :func:`pack` gave for the weight."""
    whole, rows = quantised(x)
    out = torch.ops.onednn.qlinear_pointwise(
        whole, 1.0, MIDDLE, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    ).mul_(rows)
    return out if bias is None else out.add_(bias)
