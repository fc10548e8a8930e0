"""Models whose weights stay in float32; what may run in fewer bits is chosen by their ``precision``."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

_PRECISIONS = {torch.float16: "fp16", torch.bfloat16: "bf16"}


_OLD_SWITCH = not hasattr(torch.backends.cudnn, "conv")  # PyTorch before 2.9
_lock = threading.Lock()
_inside = 0
_before: bool | str = True


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Within it cuDNN convolves float32 in float32; also a decorator.

    By default PyTorch lets cuDNN round float32 convolutions to TF32 (10 bits): CLIP-DINOiser's scores were then off by
    0.8 % of their range on an H100, in ``precision="fp32"``. Matrix products are not rounded by default, and a
    ``torch.set_float32_matmul_precision`` of the user is left alone. The setting belongs to the process: it is put back
    when the last thread has left.
    """
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = _round_convolutions(False if _OLD_SWITCH else "ieee")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _round_convolutions(_before)


def _round_convolutions(how: bool | str) -> bool | str:
    """Set PyTorch's switch, and say how it stood; the older one's name cannot be read where the newer one was used."""
    owner, name = (torch.backends.cudnn, "allow_tf32") if _OLD_SWITCH else (torch.backends.cudnn.conv, "fp32_precision")
    before = getattr(owner, name)
    setattr(owner, name, how)
    return before


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; their sum tells nearly always, and is quick."""
    return math.isfinite(values.sum(dtype=torch.float32).item()) or bool(values.isfinite().all())


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
