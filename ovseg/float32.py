"""Models whose weights stay in float32; what may run in fewer bits is chosen by their ``precision``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import nn

_PRECISIONS = {torch.float16: "fp16", torch.bfloat16: "bf16"}


class KeepsFloat32(nn.Module):
    """A module that refuses ``.half()``, ``.bfloat16()``, ``.double()`` and ``.to(dtype)``.

    The last block, the projection, norms and scores decide the labels and are computed in float32; ``precision`` runs
    the many blocks before them in fewer bits under autocast. Casting all weights would do neither: it ends in errors
    about types deep inside.
    """

    def _apply(self, fn: Callable, recurse: bool = True) -> Self:
        dtype = fn(torch.zeros((), dtype=torch.float32)).dtype
        if dtype != torch.float32:
            name, precision = type(self).__name__, _PRECISIONS.get(dtype)
            instead = (
                f"build it with precision={precision!r} instead (Segmenter(..., precision={precision!r}), or "
                f"model.backbone.precision={precision!r} in a config), which keeps what decides the labels in float32"
                if precision
                else "it computes in float32 and takes float32 or uint8"
            )
            raise TypeError(f"the weights of {name} stay in float32 and cannot be made {dtype}: {instead}")
        return super()._apply(fn, recurse)
