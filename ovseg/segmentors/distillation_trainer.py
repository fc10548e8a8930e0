"""What trainings with frozen teachers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn


class DistillationTrainer(BaseModel):
    """A model that is trained beside others which no checkpoint holds: teachers, and what of a student stays as it is.

    Args:
        data_preprocessor, init_cfg: MMEngine's habits.
    """

    def __init__(self, data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor or BaseDataPreprocessor(), init_cfg)
        self._parts: list[nn.Module] = []  # in a list: torch does not count them among this model's modules

    def keep_apart(self, *parts: nn.Module) -> None:
        """Freeze models and let them move with this one, though they are no part of its checkpoints."""
        self._parts += [part.requires_grad_(False).eval() for part in parts]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for part in self._parts:
            part._apply(fn)
        return super()._apply(fn)
