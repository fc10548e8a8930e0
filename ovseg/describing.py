"""Components say what they are: their constructor's settings, as they are now, in one line without addresses.

What stands in a result, in the state of an interrupted evaluation or in a cache's key must tell two settings apart and
be the same in every process. ``<PAMR object at 0x7f...>`` is neither. Every class of ovseg's registries, the user's own
included, is :func:`described` when it is registered.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T", bound=type)
_SETTINGS = "_ovseg_settings"
_WRAPPED = "_ovseg_records_settings"
_DEEPEST = 8
"""Levels of nesting before only the type is said."""
_STEP = 3
"""What an object that cannot describe itself counts for: its own parts are shown, theirs hardly."""
_MANY = 1000
"""Items of a list or mapping beyond which a hash stands in their place."""
_FRAMEWORKS = ("mmengine", "mmcv", "mmseg", "torch", "logging", "threading")
"""Their objects (runners, loaders, locks) hold the whole program: only the type is said."""


def described(cls: T) -> T:
    """Class decorator: instances remember the arguments they were made with, and their ``repr`` shows them.

    A ``__repr__`` that the class itself defines is left alone.
    """
    if cls.__init__ is not object.__init__ and not getattr(cls.__init__, _WRAPPED, False):
        cls.__init__ = _recording(cls.__init__)
    if "__repr__" not in vars(cls):
        cls.__repr__ = _repr
    return cls


def settings_of(component: object) -> dict[str, object]:
    """Arguments of the constructor by name: the attribute of that name (or ``_name``), else what was given."""
    inside = getattr(component, "__dict__", {})
    given = inside.get(_SETTINGS, {})
    now = {**inside, **inside.get("_modules", {})}
    dumb = [name for name in given if isinstance(now.get(name), torch.nn.Module) and not _speaks(now[name])]
    live = {name: now.get(name, now.get(f"_{name}", value)) for name, value in given.items()}
    return {name: given[name] if name in dumb else value for name, value in live.items()}


def describe(value: object, depth: int = 0) -> str:
    """One line that is equal for equal settings and in every process.

    >>> describe({"size": (3, 4), "mode": "scale", "reduce": sum})
    "{'size': (3, 4), 'mode': 'scale', 'reduce': builtins:sum}"
    """
    inner = functools.partial(describe, depth=depth + 1)
    if value is None or isinstance(value, str | int | float | complex | bytes | torch.dtype | torch.device):
        return repr(value)
    if isinstance(value, PurePath):
        return repr(str(value))
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return _array(value)
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, type | FunctionType | BuiltinFunctionType | MethodType):
        return _name(value)
    if depth > _DEEPEST:
        return f"{type(value).__name__}(...)"
    if isinstance(value, Mapping | list | tuple | set | frozenset) and len(value) > _MANY:
        items = [inner(item) for item in (value.items() if isinstance(value, Mapping) else value)]
        content = "".join(sorted(items) if isinstance(value, set | frozenset) else items)
        return f"{type(value).__name__}[{len(value)}] sha256:{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{inner(k)}: {inner(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inner, value)) + "]"
    if isinstance(value, tuple) and type(value).__repr__ is tuple.__repr__:
        return "(" + ", ".join(map(inner, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(inner, value))) + "}"
    if isinstance(value, functools.partial):
        parts = [inner(value.func), *map(inner, value.args), *(f"{k}={inner(v)}" for k, v in value.keywords.items())]
        return f"partial({', '.join(parts)})"
    return _object(value, depth)


def plain(value: object) -> object:
    """What JSON can hold: numbers, texts, lists and mappings as they are, anything else by :func:`describe`."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | bool | int | float) else describe(value)


def _object(value: object, depth: int) -> str:
    name, inner = type(value).__name__, functools.partial(describe, depth=depth + 1)
    if _speaks(value):
        settings = settings_of(value)
        return f"{name}({', '.join(f'{key}={inner(setting)}' for key, setting in settings.items())})"
    if isinstance(value, torch.nn.Module):
        return f"{name}({value.extra_repr()})"
    if type(value).__repr__ is not object.__repr__:
        text = " ".join(repr(value).split())
        return name if " at 0x" in text else text
    if type(value).__module__.partition(".")[0] in _FRAMEWORKS:
        return name
    inner = functools.partial(describe, depth=depth + _STEP)
    slots = [slot for cls in type(value).__mro__ for slot in getattr(cls, "__slots__", ())]
    inside = vars(value) if hasattr(value, "__dict__") else {s: getattr(value, s) for s in slots if hasattr(value, s)}
    return f"{name}({', '.join(f'{key}={inner(part)}' for key, part in inside.items())})"


def _array(value: Tensor | np.ndarray | np.generic) -> str:
    array = value.detach().float().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    kind = f"{type(value).__name__}{list(array.shape)}"
    if array.size <= 8 and array.dtype != object:
        return f"{kind} {array.tolist()}"
    return f"{kind} sha256:{hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]}"


def _name(value: Any) -> str:
    """``module:qualified.name``; a function without a name of its own (a lambda) with the hash of its code."""
    name = f"{value.__module__}:{getattr(value, '__qualname__', repr(type(value)))}"
    code = getattr(value, "__code__", None)
    if code is not None and ("<lambda>" in name or "<locals>" in name):
        constants = [c for c in code.co_consts if isinstance(c, str | int | float | bytes | None)]
        content = repr((code.co_code, constants, code.co_names))
        name += f" sha256:{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    return name


def _speaks(value: object) -> bool:
    return type(value).__repr__ is _repr


def _repr(self: object) -> str:
    return describe(self)


def _recording(init: Callable) -> Callable:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: object, *args: object, **kwargs: object) -> None:
        remember(self, signature, args, kwargs)
        return init(self, *args, **kwargs)

    setattr(wrapper, _WRAPPED, True)
    return wrapper


def remember(component: object, signature: inspect.Signature, args: tuple, kwargs: Mapping[str, object]) -> None:
    """Note the arguments of a constructor; those that a subclass was given come before those it hands on."""
    try:
        bound = signature.bind(component, *args, **kwargs)
    except TypeError:
        return  # the constructor says what is wrong
    bound.apply_defaults()
    settings = vars(component).setdefault(_SETTINGS, {}) if hasattr(component, "__dict__") else {}
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    for name, value in list(bound.arguments.items())[1:]:
        if kinds[name] is inspect.Parameter.VAR_KEYWORD:
            for key, inner in value.items():
                settings.setdefault(key, inner)
        elif kinds[name] is not inspect.Parameter.VAR_POSITIONAL or value:
            settings.setdefault(name, value)
