"""Looks over a config before anything is built: are all components known, and do they take what they are given?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping

from mmengine.registry import DATA_SAMPLERS, FUNCTIONS, OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS
from mmengine.registry import root as _root
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader

from ovseg import registry as own
from ovseg.arguments import argument_fault, suggestion, wrong_value
from ovseg.registry import Registry, find_component, unknown_component
from ovseg.text.auxiliary import AuxiliaryText
from ovseg.windows import SlidingWindows

# The registry of what stands under a key; where there is none of that name in it, all are searched.
_ROLES = {
    "model": own.MODELS,
    "backbone": own.BACKBONES,
    "photo_encoder": own.BACKBONES,
    "attention": own.ATTENTIONS,
    "guide": own.GUIDES,
    "regions": own.REGIONS,
    "region_encoder": own.REGION_ENCODERS,
    "stitch": own.STITCHES,
    "views": own.VIEWS,
    "refiners": own.REFINERS,
    "label_refiners": own.REFINERS,
    "head": own.HEADS,
    "decoder": own.DECODERS,
    "framing": own.FRAMINGS,
    "training_framing": own.FRAMINGS,
    "loss": own.LOSSES,
    "dataset": own.DATASETS,
    "pipeline": own.TRANSFORMS,
    "test_evaluator": own.METRICS,
    "val_evaluator": own.METRICS,
    "train_cfg": own.LOOPS,
    "val_cfg": own.LOOPS,
    "test_cfg": own.LOOPS,
    "default_hooks": own.HOOKS,
    "custom_hooks": own.HOOKS,
    "visualizer": own.VISUALIZERS,
    "optim_wrapper": OPTIM_WRAPPERS,
    "optimizer": OPTIMIZERS,
    "param_scheduler": PARAM_SCHEDULERS,
    "sampler": DATA_SAMPLERS,
    "collate_fn": FUNCTIONS,
}
# Keys that MMEngine takes off before it calls the component.
_TAKEN_OFF = {
    "default_hooks": ("priority",),
    "custom_hooks": ("priority",),
    "optim_wrapper": ("constructor", "paramwise_cfg", "optimizer"),
    "param_scheduler": ("convert_to_iter_based",),
    "train_cfg": ("by_epoch",),
}
# Dictionaries with a `type` that is no component.
_NO_COMPONENT = ("clip_grad", "style")
_LOADER_KEYS = ("sampler", "batch_sampler", "collate_fn", "dataset", "num_batch_per_epoch", "worker_init_fn")
# Dictionaries without a `type`: what reads them.
_TABLES: dict[str, tuple[tuple[Callable, ...], tuple[str, ...]]] = {
    "train_dataloader": ((DataLoader,), _LOADER_KEYS),
    "val_dataloader": ((DataLoader,), _LOADER_KEYS),
    "test_dataloader": ((DataLoader,), _LOADER_KEYS),
    "train_cfg": ((EpochBasedTrainLoop, IterBasedTrainLoop), ("by_epoch",)),
    "val_cfg": ((ValLoop,), ()),
    "test_cfg": ((TestLoop,), ()),
    "log_processor": ((LogProcessor,), ()),
    "randomness": ((Runner.set_randomness,), ()),
    "env_cfg": ((), ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit")),
    "mp_cfg": ((set_multi_processing,), ()),
    "auto_scale_lr": ((), ("base_batch_size", "enable")),
    "windows": ((SlidingWindows,), ()),
    "auxiliary_text": ((AuxiliaryText,), ()),
}
_INNER_TABLES = (
    *("env_cfg.mp_cfg", "model.windows", "model.auxiliary_text", "model.student.windows"),
    "model.student.auxiliary_text",
)
_ROOTS = tuple(value for value in vars(_root).values() if isinstance(value, Registry))


def component_faults(cfg: Mapping) -> Iterator[str]:
    """What is wrong with the components of a config: ``'model.head: MaxQueryHead has no argument ...'``, one by one."""
    for key in list(cfg):
        yield from _faults(cfg[key], str(key), key)


def _faults(node: object, path: str, role: str) -> Iterator[str]:
    if isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from _faults(value, f"{path}.{i}", role)
    if not isinstance(node, Mapping):
        return
    keys = [key for key in node if key not in ("type", "_scope_", "_delete_")]
    if "type" in node and role not in _NO_COMPONENT:
        fault = _component_fault(node, keys, path, role)
        if fault is not None:
            yield f"{path}: {fault}"
    elif path in _TABLES or path in _INNER_TABLES:
        fault = _table_fault({key: node[key] for key in keys}, path.rpartition(".")[2])
        if fault is not None:
            yield f"{path}: {fault}"
    for key in keys:
        inner = "default_hooks" if role == "default_hooks" and "type" not in node else key
        yield from _faults(node[key], f"{path}.{key}", inner)


def _component_fault(node: Mapping, keys: list[str], path: str, role: str) -> str | None:
    kind, registry = node["type"], _ROLES.get(role)
    target = find_component(kind, registry) if registry is not None else None
    if target is None and registry in own.OWN and any(find_component(kind, other) for other in own.OWN):
        return unknown_component(kind, registry)
    if target is None:
        target = next((t for r in (*own.OWN, *_ROOTS) if (t := find_component(kind, r)) is not None), None)
    if target is None:
        # Below the model, other components may have registries of their own: there only a near miss is a fault here,
        # and everything else is left to those who build it.
        certain = registry is not None and (path == "model" or not path.startswith("model."))
        if registry is not None and (certain or suggestion(kind, registry.module_dict)):
            return unknown_component(kind, registry)
        return None
    taken_off = _TAKEN_OFF.get(role, ())
    given = {key: node[key] for key in keys if key not in taken_off}
    return argument_fault(target, given, complete=path == "model")


def _table_fault(given: Mapping[str, object], name: str) -> str | None:
    readers, extra = _TABLES[name]
    known = [*extra, *(p for reader in readers for p in inspect.signature(reader).parameters if p not in _INJECTED)]
    unknown = next((key for key in given if key not in known), None)
    if unknown is None:
        return next((fault for reader in readers if (fault := wrong_value(reader, given))), None)
    return f"there is no key {unknown!r}{suggestion(unknown, known)} (there are {', '.join(dict.fromkeys(known))})"


_INJECTED = ("self", "runner", "dataloader", "evaluator", "distributed")
