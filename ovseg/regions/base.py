"""Where regions come from: anything that gives masks for a photo."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ovseg.content import weights_of
from ovseg.describing import describe, described
from ovseg.region_maps import paint_masks
from ovseg.registry import REGIONS


@described
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
        self.name = function if isinstance(function, str) else describe(function)
        self.function = named_function(function) if isinstance(function, str) else function

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        found = self.function(image)
        if isinstance(found, np.ndarray) and found.ndim == 2:
            return masks_of_ids(found)
        masks = [np.asarray(mask, bool) for mask in found]
        wrong = [m.shape for m in masks if m.shape != image.shape[:2]]
        if wrong:
            raise ValueError(f"{self.name} gave a mask of shape {wrong[0]} for a photo of {image.shape[:2]}")
        return masks

    @classmethod
    def cache_key(cls, config: Mapping[str, object]) -> dict[str, object]:
        """The function by name and text, so that an edited one is another; what it calls or holds is not seen."""
        function = config["function"]
        function = named_function(function) if isinstance(function, str) else function
        return {**super().cache_key(config), "function": describe(function), "text": _text_hash(function)}

    def describe(self) -> dict[str, object]:
        return {**super().describe(), "function": self.name}


def named_function(name: str) -> Callable:
    """The function that ``'package.module:function'`` names.

    Raises:
        ValueError: for a name without ``:``.
        ImportError: if there is no such module or function.
    """
    module, separator, attribute = name.partition(":")
    if not separator:
        raise ValueError(f"function is {name!r}; write 'package.module:function'")
    found = getattr(importlib.import_module(module), attribute, None)
    if found is None:
        raise ImportError(f"function {name!r}: the module {module} has no {attribute}")
    return found


def _text_hash(function: Callable) -> str | None:
    """Hash of a function's text; None where Python does not have it (built in, an object that can be called)."""
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def masks_of_ids(ids: np.ndarray) -> list[np.ndarray]:
    """An id map as masks; id 0 is no region."""
    return [ids == i for i in np.unique(ids) if i != 0]
