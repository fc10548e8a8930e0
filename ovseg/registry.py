"""Registries of everything a config can name.

Each role of the pipeline (see ``docs/architecture.md``) has its own registry, so that a config which names a
refiner where an attention belongs fails at build time with the list of what would fit. All are children of
MMEngine's root registries where one exists: ``_scope_`` prefixes and ``custom_imports`` work as in any project of its.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from mmengine.registry import (
    DATA_SAMPLERS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    VISBACKENDS,
    Registry,
    build_from_cfg,
    build_model_from_cfg,
)
from mmengine.registry import DATASETS as _DATASETS
from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import LOOPS as _LOOPS
from mmengine.registry import METRICS as _METRICS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import TRANSFORMS as _TRANSFORMS
from mmengine.registry import VISUALIZERS as _VISUALIZERS

from ovseg.arguments import argument_fault, suggestion
from ovseg.describing import described
from ovseg.errors import ComponentError

SCOPE = "ovseg"
T = TypeVar("T")

# What a component's code raises for values it cannot use. Subclasses (a missing data set, a damaged checkpoint, ...)
# say more than their class and are left as they are.
_REFUSALS = (TypeError, ValueError, KeyError, AttributeError, IndexError, AssertionError, ZeroDivisionError)


def build_component(
    cfg: Mapping | object, registry: Registry, default_args: Mapping | None = None, **context: object
) -> object:
    """MMEngine's ``build_from_cfg`` with errors in one line that name the component and what it takes.

    Args:
        cfg: ``dict(type=..., ...)``; a list of them where MMEngine allows it (models).
        registry: where ``type`` is looked up.
        default_args: arguments for what ``cfg`` leaves out.

    Raises:
        ComponentError: for an unknown type, an unknown or missing argument, or a value that the component refuses.
    """
    build = build_model_from_cfg if isinstance(cfg, list) else build_from_cfg
    if isinstance(cfg, Mapping):
        _check(cfg, registry, default_args or {})
    elif not isinstance(cfg, list):
        raise ComponentError(f"{registry.name}: expected dict(type=..., ...), got {cfg!r}")
    try:
        with torch.inference_mode(False):  # parameters and buffers made in it could never be trained
            return build(cfg, registry=registry, default_args=default_args, **context)
    except _REFUSALS as error:
        if type(error) not in _REFUSALS:
            raise
        raise ComponentError(f"{_label(cfg)}: {_message(error)}") from error


def construct(target: Callable[..., T], arguments: Mapping | None, name: str) -> T:
    """``target(**arguments)`` for a part without a registry, with the errors of :func:`build_component`.

    Args:
        target: a class or function.
        arguments: from a config; ``None``: none.
        name: the key in the config, for messages.

    Raises:
        ComponentError: for an unknown or missing argument, or a value that ``target`` refuses.
    """
    if not isinstance(arguments, Mapping | None):
        raise ComponentError(f"{name}: expected dict(...) with arguments of {target.__name__}, got {arguments!r}")
    arguments = dict(arguments or {})
    fault = argument_fault(target, arguments)
    if fault is not None:
        raise ComponentError(f"{name}: {fault}")
    try:
        return target(**arguments)
    except _REFUSALS as error:
        if type(error) not in _REFUSALS:
            raise
        raise ComponentError(f"{name}: {_message(error)}") from error


def find_component(name: object, registry: Registry) -> object | None:
    """The class or function that ``type=name`` stands for in a registry and its parents; ``None``: nothing."""
    if not isinstance(name, str):
        return name if callable(name) else None
    return registry.get(name)


def unknown_component(name: object, registry: Registry) -> str:
    """The message about a ``type`` that a registry does not hold."""
    known = list(registry.module_dict)
    elsewhere = next((r for r in OWN if r is not registry and _holds(r, name)), None)
    if elsewhere is not None:
        return f"{name!r} is a {elsewhere.name}; a {registry.name} is expected here: {', '.join(sorted(known))}"
    inherited = registry.parent.module_dict if registry.parent is not None else ()
    hint = suggestion(name, known) or suggestion(name, inherited)
    return f"there is no {registry.name} {name!r}{hint} (there are {', '.join(sorted(known))})"


def _holds(registry: Registry, name: object) -> bool:
    registry.import_from_location()
    return isinstance(name, str) and name in registry.module_dict


def _check(cfg: Mapping, registry: Registry, default_args: Mapping) -> None:
    given = {**default_args, **cfg}
    if "type" not in given:
        raise ComponentError(f"{registry.name}: {dict(cfg)!r} has no type; write dict(type='NAME', ...)")
    target = find_component(given["type"], registry)
    if target is None:
        raise ComponentError(unknown_component(given["type"], registry))
    fault = argument_fault(target, {key: value for key, value in given.items() if key not in ("type", "_scope_")})
    if fault is not None:
        raise ComponentError(fault)


def _label(cfg: object) -> str:
    kind = cfg.get("type") if isinstance(cfg, Mapping) else None
    return kind if isinstance(kind, str) else getattr(kind, "__name__", "component")


def _message(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"


class ComponentRegistry(Registry):
    """MMEngine's registry; what is registered says what it is, see :mod:`ovseg.describing`."""

    def _register_module(self, module: type, module_name: str | list[str] | None = None, force: bool = False) -> None:
        super()._register_module(module=module, module_name=module_name, force=force)
        if isinstance(module, type):
            described(module)


def _registry(name: str, **kwargs: object) -> Registry:
    return ComponentRegistry(name, build_func=build_component, scope=SCOPE, **kwargs)


MODELS = _registry("model", parent=_MODELS, locations=["ovseg.segmentors", "ovseg.nano"])
BACKBONES = _registry("backbone", locations=["ovseg.backbones"])
ATTENTIONS = _registry("attention", locations=["ovseg.attention"])
GUIDES = _registry("guide", locations=["ovseg.backbones"])
REGION_ENCODERS = _registry("region encoder", locations=["ovseg.regions"])
REGIONS = _registry("regions", locations=["ovseg.regions"])
STITCHES = _registry("stitch", locations=["ovseg.stitches"])
DECODERS = _registry("decoder", locations=["ovseg.decoders"])
FRAMINGS = _registry("framing", locations=["ovseg.decoders"])
LOSSES = _registry("loss", locations=["ovseg.training"])
HEADS = _registry("head", locations=["ovseg.heads"])
REFINERS = _registry("refiner", locations=["ovseg.refiners"])
VIEWS = _registry("views", locations=["ovseg.views"])
ENGINES = _registry("engine", locations=["ovseg.export"])

ANNOTATIONS = _registry("annotations", locations=["ovseg.datasets.annotations"])
"""How ground truth is kept that is no picture of class indices: :class:`ovseg.datasets.annotations.Annotations`."""
DATASETS = _registry("dataset", parent=_DATASETS, locations=["ovseg.datasets", "ovseg.nano"])
TRANSFORMS = _registry("transform", parent=_TRANSFORMS, locations=["ovseg.datasets", "ovseg.regions"])
METRICS = _registry("metric", parent=_METRICS, locations=["ovseg.evaluation"])
LOOPS = _registry("loop", parent=_LOOPS, locations=["ovseg.engine"])
HOOKS = _registry("hook", parent=_HOOKS, locations=["ovseg.engine", "ovseg.training"])
VISUALIZERS = _registry("visualizer", parent=_VISUALIZERS, locations=["ovseg.visualization"])

# MMEngine warns about every kind of part that the scope has no registry for. These hold nothing of ours: what is
# looked up in them is found in their parents.
INHERITED = tuple(
    Registry(root.name, parent=root, scope=SCOPE)
    for root in (
        DATA_SAMPLERS,
        OPTIMIZERS,
        OPTIM_WRAPPERS,
        OPTIM_WRAPPER_CONSTRUCTORS,
        PARAM_SCHEDULERS,
        VISBACKENDS,
    )
)

OWN = (
    *(MODELS, BACKBONES, ATTENTIONS, GUIDES, REGION_ENCODERS, REGIONS, STITCHES, HEADS, REFINERS, VIEWS, ENGINES),
    *(DECODERS, FRAMINGS, LOSSES),
    *(DATASETS, TRANSFORMS, METRICS, LOOPS, HOOKS, VISUALIZERS),
)
