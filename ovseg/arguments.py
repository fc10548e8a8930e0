"""Checks of what people hand over: names against those there are, arguments against a signature, whole numbers."""

from __future__ import annotations

import difflib
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

LARGEST_SIDE = 2**15
"""Longest side, in pixels, that any setting may ask for: beyond it lies a typing error, and a machine out of memory."""


def suggestion(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``"; did you mean 'x'?"`` where a known name is close to ``name``, else nothing.

    >>> suggestion("logitscale", ["threshold", "logit_scale"])
    "; did you mean 'logit_scale'?"
    >>> suggestion("zebra", ["threshold"])
    ''
    """
    known = list(dict.fromkeys(str(k) for k in known))
    lowered = {k.lower().replace("_", ""): k for k in reversed(known)}
    close = difflib.get_close_matches(str(name).lower().replace("_", ""), lowered, n=2, cutoff=cutoff)
    return f"; did you mean {' or '.join(repr(lowered[c]) for c in close)}?" if close else ""


def parameters(target: Callable) -> tuple[list[str], bool]:
    """Names of the arguments ``target`` takes by keyword, and whether it takes any others besides.

    A class whose ``__init__`` takes ``**kwargs`` hands them on to the next in its line of bases: that one is asked as
    well, and so on to the first that takes no others.
    """
    line = [target]
    if inspect.isclass(target):
        line += [base for base in target.__mro__[1:] if "__init__" in vars(base) and base is not object]
    names: list[str] = []
    for one in line:
        try:
            signature = inspect.signature(one)
        except (ValueError, TypeError):  # a built-in without a signature
            return names, True
        kinds = inspect.Parameter
        found = signature.parameters.values()
        named = [p.name for p in found if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
        names += [name for name in named if name not in names]
        if not any(p.kind is kinds.VAR_KEYWORD for p in found):
            return names, False
    return names, True


def argument_fault(target: Callable, given: Mapping[str, object], complete: bool = True) -> str | None:
    """What is wrong with ``given`` as keyword arguments of ``target``, as a message; ``None``: nothing.

    Args:
        target: a class or function.
        given: arguments by name.
        complete: nothing will be added to ``given``: what ``target`` cannot do without must be in it.
    """
    lacking = missing_argument(target, given) if complete else None
    return unknown_argument(target, given) or lacking or wrong_value(target, given)


def unknown_argument(target: Callable, given: Iterable[str], extra: Iterable[str] = ()) -> str | None:
    """What is wrong with the names of ``given`` as keyword arguments of ``target``; ``None``: nothing.

    Where ``target`` takes any keyword, only names that are all but one of its own are faults: those are typing errors.

    Args:
        target: a class or function.
        given: names of arguments.
        extra: names that are taken off before ``target`` is called.
    """
    names, is_open = parameters(target)
    known = [*names, *extra]
    for name in given:
        if name in known or (is_open and not suggestion(name, names, cutoff=0.9)):
            continue
        label = getattr(target, "__name__", str(target))
        there_are = f"it has {', '.join(names)}" if names else "it has none"
        return f"{label} has no argument {name!r}{suggestion(name, known)} ({there_are})"
    return None


def wrong_value(target: Callable, given: Mapping[str, object]) -> str | None:
    """Which value has another type than ``target`` declares, as a message; ``None``: none.

    Looks at arguments declared as whole numbers, numbers, truth values or text (or several of these, or ``None``);
    other declarations are left to ``target``. A whole number is a number; a truth value is neither.
    """
    try:
        declared = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):  # a name that is imported for type checkers only
        return None
    for name, value in given.items():
        declaration = declared.get(name)
        kinds = set(get_args(declaration)) if isinstance(declaration, UnionType) else {declaration}
        kinds = set(get_args(declaration)) if get_origin(declaration) is Union else kinds
        if not kinds or not kinds <= set(_PLAIN):
            continue
        if not any(_PLAIN[kind](value) for kind in kinds):
            label = getattr(target, "__name__", str(target))
            wanted = " or ".join(_NAMES[kind] for kind in _NAMES if kind in kinds)
            return f"{label}: {name} is {value!r}; {wanted} is expected"
    return None


_PLAIN: dict[object, Callable[[object], bool]] = {
    int: lambda value: isinstance(value, Integral) and not isinstance(value, bool),
    float: lambda value: isinstance(value, Real) and not isinstance(value, bool),
    bool: lambda value: isinstance(value, bool),
    str: lambda value: isinstance(value, str),
    Path: lambda value: isinstance(value, str | Path),
    type(None): lambda value: value is None,
}
_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    Path: "a path",
    type(None): "None",
}


def missing_argument(target: Callable, given: Iterable[str]) -> str | None:
    """Which arguments ``target`` cannot do without and ``given`` lacks, as a message; ``None``: none."""
    given = set(given)
    try:
        wanted = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):
        return None
    kinds = inspect.Parameter
    lacking = [
        p.name
        for p in wanted
        if p.default is kinds.empty
        and p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        and p.name not in given
    ]
    if not lacking:
        return None
    label = getattr(target, "__name__", str(target))
    return f"{label} needs the argument{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}"


def whole_number(name: str, value: object, least: int = 1, most: int | None = None, example: int | None = None) -> int:
    """``value`` as a plain int.

    Args:
        name: what it is called in messages.
        value: an int or a number of NumPy's or torch's integer kinds. A bool, a float (also 336.0) or text is none.
        least, most: the range, both ends included; ``most=None``: no upper end.
        example: a value to offer in messages.

    Raises:
        ValueError: naming ``name``, ``value`` and what would do.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        upper = f" to {most}" if most is not None else " or more"
        hint = f", e.g. {example}" if example is not None else ""
        raise ValueError(f"{name} is {value!r}; give a whole number, {least}{upper}{hint}")
    return number


def side_in_pixels(name: str, value: object, example: int = 336) -> int:
    """A side of a picture or a window: a whole number of pixels, 1 to :data:`LARGEST_SIDE`.

    Raises:
        ValueError: naming ``name``, ``value`` and what would do.

    >>> side_in_pixels("short_side", 448)
    448
    """
    return whole_number(name, value, 1, LARGEST_SIDE, example)
