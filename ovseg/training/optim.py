"""Parameter groups of models some of whose modules are reached by several names."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainedParameters(DefaultOptimWrapperConstructor):
    """MMEngine's parameter groups (``paramwise_cfg``), of the parameters that train and each of them once.

    An encoder shows its CLIP's modules under a second name (:class:`ovseg.backbones.towers.VisionTower`); the first
    name is the one that ``custom_keys`` meet: ``backbone.clip...``.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs: object) -> None:
        """As in the base class, without modules that were met before and without those in which nothing trains."""
        seen = self.__dict__.setdefault("_seen", set())
        if id(module) in seen or not any(p.requires_grad for p in module.parameters()):
            return
        seen.add(id(module))
        super().add_params(params, module, prefix=prefix, **kwargs)
