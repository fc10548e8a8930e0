"""Which implementation of an operator runs: back-ends with declared capabilities, and the walk over them.

An *operator* is a name such as ``"pamr_apply"``. For each operator there is one definition (``reference.py``) and
any number of back-ends. A back-end says what it can do (`Backend.unavailable_reasons`,
`Backend.not_supported_reasons`) and where another is known to be faster (`Backend.slower_reasons`, by measurement); the
dispatcher takes the first in `PREFERENCE` that has nothing to object, a slower one last.

Selection, strongest first: a ``backend=`` argument of the public function or the context manager `use_backend`;
then the environment variable ``OVSEG_OPS_BACKEND``; then `PREFERENCE`. Each is a comma separated list that is walked
in order, for example ``OVSEG_OPS_BACKEND=cuda,torch``. A choice is strict: if none of the named back-ends supports a
call, the call fails with every reason instead of silently running something else.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

ENVIRONMENT_VARIABLE = "OVSEG_OPS_BACKEND"
PREFERENCE = ("cuda", "torch", "reference")

_backends: dict[str, dict[str, Backend]] = {}
_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("ovseg_ops_backend", default=None)


class UnsupportedCallError(RuntimeError):
    """No selected back-end supports a call; the message lists what each of them objects to."""


class Backend:
    """One implementation of one operator.

    Subclasses set the class attributes, implement `run` with exactly the operator's arguments and, where the
    attributes do not say it all, extend `not_supported_reasons`. Registering is `register(MyBackend)`; a back-end
    that needs hardware or a package names what is missing in `unavailable_reasons` and must import cleanly without.
    """

    operator: ClassVar[str]
    name: ClassVar[str]
    devices: ClassVar[frozenset[str] | None] = None
    """Device types that all tensors of a call must be on; None: any."""
    dtypes: ClassVar[frozenset[torch.dtype]] = frozenset({torch.float32, torch.float16, torch.bfloat16})
    """Allowed types of floating point tensors (integer tensors are checked by the public functions)."""

    def unavailable_reasons(self) -> list[str]:
        """Why this back-end can never run on this machine; empty if it can."""
        return []

    def not_supported_reasons(self, *args: Any) -> list[str]:
        """Why this back-end cannot take this call; empty if it can. Must not look at tensor values."""
        reasons = []
        for tensor in (a for a in args if isinstance(a, Tensor)):
            if self.devices is not None and tensor.device.type not in self.devices:
                reasons.append(f"a tensor is on {tensor.device}, supported are {sorted(self.devices)}")
            if tensor.is_floating_point() and tensor.dtype not in self.dtypes:
                reasons.append(f"a tensor has type {tensor.dtype}, supported are {sorted(map(str, self.dtypes))}")
        return list(dict.fromkeys(reasons))

    def slower_reasons(self, *args: Any) -> list[str]:
        """Why another back-end is faster for this call, as measured; asked only where nobody has chosen one."""
        return []

    def run(self, *args: Any) -> Any:
        """Compute the operator."""
        raise NotImplementedError(f"{type(self).__name__} must implement run()")


def register(cls: type[Backend]) -> type[Backend]:
    """Class decorator: make a back-end known under its ``operator`` and ``name``.

    Raises:
        ValueError: the pair is taken, or the name has no place in `PREFERENCE`.
    """
    if cls.name not in PREFERENCE:
        raise ValueError(f"back-end name {cls.name!r} has no place in PREFERENCE {PREFERENCE}")
    known = _backends.setdefault(cls.operator, {})
    if cls.name in known:
        raise ValueError(f"operator {cls.operator!r} already has a back-end {cls.name!r}: {known[cls.name]}")
    known[cls.name] = cls()
    return cls


def register_function(operator: str, name: str) -> Callable[[Callable], Callable]:
    """Decorator for back-ends that support every call: the function itself is `Backend.run`."""

    def decorate(function: Callable) -> Callable:
        fields = {"operator": operator, "name": name, "run": staticmethod(function)}
        fields["dtypes"] = Backend.dtypes | {torch.float64}
        register(type(f"{name.title()}_{operator}", (Backend,), fields))
        return function

    return decorate


def operators() -> list[str]:
    """Names of all operators."""
    return sorted(_backends)


def backends(operator: str) -> dict[str, Backend]:
    """Back-ends of one operator by name, most preferred first.

    Raises:
        KeyError: there is no such operator.
    """
    if operator not in _backends:
        raise KeyError(f"no operator {operator!r}; known are {operators()}")
    known = _backends[operator]
    return {name: known[name] for name in PREFERENCE if name in known}


@contextlib.contextmanager
def use_backend(names: str | None) -> Iterator[None]:
    """Within this context only the given back-ends run, e.g. ``use_backend("reference")`` or ``"cuda,torch"``.

    The choice is local to the thread (a context variable). None leaves the choice as it is.
    """
    if names is None:
        yield
        return
    _split(names, "use_backend")
    token = _chosen.set(names)
    try:
        yield
    finally:
        _chosen.reset(token)


def _split(names: str, source: str) -> list[str]:
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in PREFERENCE]
    if unknown or not chosen:
        raise ValueError(f"{source}: unknown back-end in {names!r}; choose from {list(PREFERENCE)}")
    return chosen


def selection() -> list[str]:
    """The back-end names in force here, in the order in which they are tried."""
    return _choice() or list(PREFERENCE)


def _choice() -> list[str]:
    """The back-ends that somebody has chosen; empty if nobody has."""
    if (chosen := _chosen.get()) is not None:
        return _split(chosen, "use_backend")
    if environment := os.environ.get(ENVIRONMENT_VARIABLE, "").strip():
        return _split(environment, f"environment variable {ENVIRONMENT_VARIABLE}")
    return []


def not_supported_reasons(operator: str, name: str, *args: Any) -> list[str]:
    """Why back-end ``name`` of ``operator`` cannot take a call with these arguments; empty if it can."""
    known = backends(operator)
    if name not in known:
        return ["there is none for this operator"]
    return known[name].unavailable_reasons() or known[name].not_supported_reasons(*args)


def dispatch(operator: str, *args: Any) -> Any:
    """Run ``operator`` with the first selected back-end that supports the call.

    Autocast is off inside: in which types an operator computes follows from its inputs alone.

    Raises:
        UnsupportedCallError: none does; the message gives the reasons of each.
    """
    objections, known = [], backends(operator)
    names = _choice() or sorted(PREFERENCE, key=lambda name: name in known and bool(known[name].slower_reasons(*args)))
    for name in names:
        reasons = not_supported_reasons(operator, name, *args)
        if not reasons:
            device = next((a.device.type for a in args if isinstance(a, Tensor)), "cpu")
            with torch.autocast(device, enabled=False):
                return known[name].run(*args)
        objections.append(f"{name}: {'; '.join(reasons)}")
    raise UnsupportedCallError(
        f"no selected back-end supports this call of {operator!r} ({' | '.join(objections)}). "
        f"Change the inputs, or the selection ({ENVIRONMENT_VARIABLE}, use_backend, backend=)."
    )


def backend_report() -> list[dict[str, str]]:
    """One row per operator: the back-end that is live on this machine, and why the preferred ones are not.

    Rows have the keys ``operator``, ``backend`` and ``reasons``; ``ovseg env`` prints them.
    """
    rows = []
    for operator in operators():
        live, reasons = "none", []
        for name in selection():
            if name not in backends(operator):
                continue
            if not (missing := backends(operator)[name].unavailable_reasons()):
                live = name
                break
            reasons.append(f"{name}: {'; '.join(missing)}")
        rows.append({"operator": operator, "backend": live, "reasons": " | ".join(reasons)})
    return rows


def custom_op(fake: Callable) -> Callable[[Callable], Callable]:
    """Bind an operator's signature as ``torch.ops.ovseg.<name>``, so that torch.compile and export see one node.

    The decorated function only carries name and annotations; what runs is `dispatch`. ``fake`` gives outputs of the
    right shape and type without computing them.
    """

    def decorate(signature: Callable) -> Any:
        name = signature.__name__
        parameters: Sequence[str] = list(inspect.signature(signature).parameters)

        def call(*args: Any, **kwargs: Any) -> Any:
            return dispatch(name, *args, *(kwargs[p] for p in parameters[len(args) :]))

        schema = torch.library.infer_schema(signature, mutates_args=())
        bound = torch.library.custom_op(f"ovseg::{name}", call, mutates_args=(), schema=schema)
        bound.register_fake(fake)
        return bound

    return decorate
