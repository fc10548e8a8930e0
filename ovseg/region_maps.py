"""Region maps: one integer id per pixel, and what is done to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

PAD_REGION = 2**30
"""Id of the padding around a window: a region of its own, larger than any other id."""


def resize_regions(regions: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-neighbour resizing of ids ``[..., H, W]`` to ``size``: pixel i reads floor(i * H / h), as in PyTorch."""
    if tuple(regions.shape[-2:]) == tuple(size):
        return regions
    index = []
    for have, want in zip(regions.shape[-2:], size, strict=True):
        places = torch.arange(want, dtype=torch.float32, device=regions.device) * torch.tensor(have / want)
        index.append(places.long().clamp(max=have - 1))
    return regions[..., index[0][:, None], index[1]]


def paint_masks(masks: Sequence[np.ndarray], size: tuple[int, int], order: str = "ascending") -> np.ndarray:
    """Masks that may overlap to one id map: int32 ``[H, W]``, 0 where no mask lies, else 1, 2, ... by painting order.

    Args:
        masks: bool ``[H, W]`` each.
        size: ``(H, W)``, needed when there is no mask.
        order: ``'ascending'``: small masks first, so that larger ones cover them (CorrCLIP); ``'descending'``: large
            masks first, so that small ones stay visible.

    Raises:
        ValueError: for an unknown order.
    """
    if order not in ("ascending", "descending"):
        raise ValueError(f"order is {order!r}; choose 'ascending' or 'descending'")
    ids = np.zeros(size, np.int32)
    areas = [int(m.sum()) for m in masks]
    for i, index in enumerate(sorted(range(len(masks)), key=areas.__getitem__, reverse=order == "descending")):
        ids[masks[index]] = i + 1
    return ids
