"""Where regions come from: anything that gives masks for a photo."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ovseg.content import weights_of
from ovseg.region_maps import paint_masks
from ovseg.registry import REGIONS


class RegionSource(nn.Module):
    """A photo to masks, and from masks to one id per pixel. A new source writes :meth:`masks`.

    Args:
        order: painting order where masks overlap, see :func:`ovseg.region_maps.paint_masks`.

    Class attributes:
        supervision: what the source was trained on; it travels with every result.
    """

    supervision = "regions: no training"

    def __init__(self, order: str = "ascending") -> None:
        super().__init__()
        if order not in ("ascending", "descending"):
            raise ValueError(f"order is {order!r}; choose 'ascending' or 'descending'")
        self.order = order

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        """Masks, bool ``[H, W]`` each, of a uint8 RGB photo ``[H, W, 3]``; they may overlap and leave gaps."""
        raise NotImplementedError

    def forward(self, photo: Tensor) -> Tensor:
        """Region ids int32 ``[H, W]`` of a uint8 RGB photo ``[3, H, W]``; 0 where no mask lies."""
        image = np.ascontiguousarray(photo.permute(1, 2, 0).cpu().numpy())
        return torch.from_numpy(paint_masks(self.masks(image), image.shape[:2], self.order)).to(photo.device)

    @classmethod
    def supervision_of(cls, config: Mapping[str, object]) -> str:
        """What a source with this config was trained on, without building it."""
        return cls.supervision

    @classmethod
    def cache_key(cls, config: Mapping[str, object]) -> dict[str, object]:
        """What decides the masks of a source with this config: the key of its masks on disk.

        Asked of the class, so that masks are found without building a model. A source with weights puts their hash in
        the place of their name.
        """
        return {key: value for key, value in config.items() if key not in ("order", "points_per_batch")}

    def weights(self) -> dict[str, Tensor]:
        """The tensors that decide the masks, by name; empty without a model."""
        return weights_of(self)

    def describe(self) -> dict[str, object]:
        """The settings that decide the masks, as part of every result."""
        return {"type": type(self).__name__, "order": self.order}


@REGIONS.register_module()
class CallableRegions(RegionSource):
    """Regions from any Python function.

    Args:
        function: ``image uint8 [H, W, 3] -> int ids [H, W]`` (0: no region) or list of bool masks; or its name as
            ``'package.module:function'``, so that a config can say it.
        order: as in :class:`RegionSource`.

    Raises:
        ValueError: for a name without ``:``.
        ImportError: if the named module cannot be imported.
    """

    def __init__(self, function: str | Callable, order: str = "ascending") -> None:
        super().__init__(order)
        self.name = function if isinstance(function, str) else getattr(function, "__qualname__", repr(function))
        if isinstance(function, str):
            module, separator, attribute = function.partition(":")
            if not separator:
                raise ValueError(f"function is {function!r}; write 'package.module:function'")
            function = getattr(importlib.import_module(module), attribute)
        self.function = function

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        found = self.function(image)
        if isinstance(found, np.ndarray) and found.ndim == 2:
            return masks_of_ids(found)
        masks = [np.asarray(mask, bool) for mask in found]
        wrong = [m.shape for m in masks if m.shape != image.shape[:2]]
        if wrong:
            raise ValueError(f"{self.name} gave a mask of shape {wrong[0]} for a photo of {image.shape[:2]}")
        return masks

    def describe(self) -> dict[str, object]:
        return {**super().describe(), "function": self.name}


def masks_of_ids(ids: np.ndarray) -> list[np.ndarray]:
    """An id map as masks; id 0 is no region."""
    return [ids == i for i in np.unique(ids) if i != 0]
