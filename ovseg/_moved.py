"""Old places of public names: they work for one more release, with a warning that says where the name is now."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def moved(old: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module whose names have moved.

    Args:
        old: name of the module.
        places: module in which each of its names is now.
    """

    def getter(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        warnings.warn(
            f"{old}.{name} is {places[name]}.{name} now; the old place goes after the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(places[name]), name)

    return getter
