"""Run kernels on torch tensors: compiled by CuPy at first use, zero-copy, on torch's current stream.

CuPy is looked for when the first call asks whether CUDA back-ends are available, never at import.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovseg.ops.cuda.compile import options
from ovseg.ops.cuda.kernels import KernelSpec, source_text
from ovseg.ops.dispatch import Backend

STATIC_SHARED_LIMIT = 48 << 10  # a block may have more only after the kernel's attribute is raised
Argument = Tensor | int | float | np.generic | None


@lru_cache(maxsize=1)
def cuda_reasons() -> tuple[str, ...]:
    """Why no CUDA kernel can run in this process; empty if they can. Asked once, as the answer needs a driver call."""
    reasons = []
    if not torch.cuda.is_available():
        built = "sees no usable GPU" if torch.version.cuda else "is built without CUDA"
        reasons.append(f"torch {torch.__version__} {built}")
    if importlib.util.find_spec("cupy") is None:
        reasons.append('CuPy is not installed (pip install "ovseg[cuda]")')
    if reasons:  # importing CuPy takes half a second
        return tuple(reasons)
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        return (f"CuPy cannot be imported: {error}",)
    if not cupy.is_available():
        return (f"CuPy {cupy.__version__} finds no GPU or driver (cupy.is_available() is False)",)
    return ()


class CudaBackend(Backend):
    """Base of all CUDA back-ends: fp32, fp16 and bf16 tensors on a GPU, where `cuda_reasons` has nothing to object."""

    name = "cuda"
    devices = frozenset({"cuda"})

    def unavailable_reasons(self) -> list[str]:
        return list(cuda_reasons())


def launch(
    spec: KernelSpec,
    template: Sequence[str | int],
    grid: Sequence[int],
    *arguments: Argument,
    shared: int = 0,
    threads: int | Sequence[int] | None = None,
) -> None:
    """Start one kernel on torch's current stream of the device that the tensors are on.

    Args:
        spec: the kernel.
        template: its template arguments, for example ``("float", 2)``; empty for a plain function.
        grid: blocks, 1 to 3 numbers.
        arguments: in the kernel's order: contiguous tensors (passed as pointers), None (a null pointer), Python ints
            (C ``int``), floats (C ``float``), numpy scalars (as they are: ``np.int64(n)`` for a C ``int64_t``).
        shared: dynamic shared bytes.
        threads: threads per block, 1 to 3 numbers; default: the spec's.

    Raises:
        ValueError: a tensor is not contiguous, or an int does not fit into 32 bits.
    """
    grid = (*grid, 1, 1)[:3]
    threads = spec.threads if threads is None else threads
    block = ((threads,) if isinstance(threads, int) else (*threads,)) + (1, 1)
    checked = [_checked(spec, position, argument) for position, argument in enumerate(arguments)]
    _start(spec, spec.expression(*template), grid, block[:3], checked, shared)


def _checked(spec: KernelSpec, position: int, argument: Argument) -> Tensor | np.generic | None:
    if isinstance(argument, Tensor):
        if not argument.is_contiguous():
            raise ValueError(f"kernel {spec.name!r}: tensor argument {position} is not contiguous")
        return argument
    if isinstance(argument, bool):
        return np.int32(argument)
    if isinstance(argument, int):
        if not -(2**31) <= argument < 2**31:
            raise ValueError(f"kernel {spec.name!r}: argument {position} = {argument} does not fit a C int")
        return np.int32(argument)
    return np.float32(argument) if isinstance(argument, float) else argument


def _start(
    spec: KernelSpec,
    expression: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    arguments: list[Tensor | np.generic | None],
    shared: int,
) -> None:
    """Through CuPy. The tests replace this function by one that runs the same source on the CPU."""
    device = next(a.device for a in arguments if isinstance(a, Tensor))
    cupy = importlib.import_module("cupy")
    with torch.cuda.device(device), cupy.cuda.Device(device.index):
        function = _compiled(spec.source, expression, device.index)
        if shared > STATIC_SHARED_LIMIT:
            function.max_dynamic_shared_size_bytes = max(shared, function.max_dynamic_shared_size_bytes)
        # CuPy passes a Python int as 64 bits, which is what a pointer is.
        values = [a.data_ptr() if isinstance(a, Tensor) else 0 if a is None else a for a in arguments]
        with cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream, device.index):
            function(grid, block, tuple(values), shared_mem=shared)


@cache
def _compiled(source: str, expression: str, device: int) -> Any:
    """One instantiation, loaded on one device (the current one); the machine code is kept on disk by CuPy."""
    cupy = importlib.import_module("cupy")
    module = cupy.RawModule(
        code=source_text(source), options=options(), name_expressions=(expression,), backend="nvrtc"
    )
    return module.get_function(expression)
