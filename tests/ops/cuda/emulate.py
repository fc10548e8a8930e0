"""Run CUDA kernels on CPU tensors: the ``.cu`` source is compiled by g++ against ``emulation.h``.

    with emulated():
        ovseg.ops.pamr(image, scores, backend="cuda")      # CPU tensors through the CUDA back-end's own Python code

A generated wrapper calls each kernel with the argument types that the compiler sees in its signature; the launch fails
if the tensors and numbers that Python passes are of other types. Around every tensor's memory lie guard zones: reads
there give NaN (or -1), writes there are reported.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from ovseg.ops.cuda import launch
from ovseg.ops.cuda.kernels import FOLDER, KernelSpec, source_text

HEADER = Path(__file__).with_name("emulation.h")
FLAGS = "-std=c++17 -x c++ -O2 -fPIC -shared -fno-gnu-unique -ffp-contract=off -w".split()
GUARD = 4096  # bytes on each side of a tensor's memory
NUMBERS = {np.int32: "i4", np.int64: "i8", np.float32: "f4", np.float64: "f8"}
TENSORS = {
    torch.float32: "f4",
    torch.float64: "f8",
    torch.float16: "half",
    torch.bfloat16: "bf16",
    torch.uint8: "u1",
    torch.bool: "b1",
    torch.int8: "i1",
    torch.int16: "i2",
    torch.int32: "i4",
    torch.int64: "i8",
}
WRAPPER = """
#include <string>
template <class T> std::string code() {
  using V = std::remove_cv_t<T>;
  if constexpr (std::is_pointer_v<V>) return "*" + code<std::remove_pointer_t<V>>();
  else if constexpr (std::is_same_v<V, __half>) return "half";
  else if constexpr (std::is_same_v<V, __nv_bfloat16>) return "bf16";
  else if constexpr (std::is_same_v<V, bool>) return "b1";
  else if constexpr (std::is_floating_point_v<V>) return "f" + std::to_string(sizeof(V));
  else if constexpr (std::is_integral_v<V>) return (std::is_signed_v<V> ? "i" : "u") + std::to_string(sizeof(V));
  else return "*";
}
template <class... P> std::string signature(void (*)(P...)) { return ((code<P>() + " ") + ... + ""); }
template <class... P, size_t... I>
const char* start(void (*kernel)(P...), std::index_sequence<I...>, dim3 g, dim3 b, size_t shared, void** a) {
  return emu::launch(g, b, shared, [=] { kernel(*static_cast<std::remove_cv_t<P>*>(a[I])...); });
}
template <class... P>
const char* start(void (*kernel)(P...), const unsigned* s, size_t shared, void** a, bool backwards) {
  emu::S.backwards = backwards;
  return start(kernel, std::index_sequence_for<P...>{}, dim3(s[0], s[1], s[2]), dim3(s[3], s[4], s[5]), shared, a);
}
#define KERNEL (EXPRESSION)
extern "C" const char* emulated_signature() { static std::string s = signature(KERNEL); return s.c_str(); }
extern "C" const char* emulated_start(const unsigned* sizes, size_t shared, void** arguments, bool backwards) {
  return start(KERNEL, sizes, shared, arguments, backwards);
}
"""


class EmulationError(AssertionError):
    """A kernel did something that a GPU would not forgive."""


def emulation_reasons() -> list[str]:
    """Why kernels cannot be emulated here; empty if they can."""
    return [] if shutil.which("g++") else ["g++ is not installed"]


needs_emulation = pytest.mark.skipif(bool(emulation_reasons()), reason="; ".join(emulation_reasons()))


@cache
def build(text: str, expression: str) -> ctypes.CDLL:
    """The shared library of one kernel instantiation; kept in a temporary folder under a hash of all that went in.

    Raises:
        EmulationError: g++ does not accept the source.
    """
    program = text + WRAPPER.replace("EXPRESSION", expression)
    key = hashlib.sha256((program + HEADER.read_text() + " ".join(FLAGS)).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"ovseg-emulation-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            source, built = Path(scratch) / "kernel.cpp", Path(scratch) / "kernel.so"
            source.write_text(program)
            command = ["g++", *FLAGS, f"-I{HEADER.parent}", f"-I{FOLDER}", "-o", built, source]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise EmulationError(f"g++ rejects {expression}:\n{done.stderr[:4000]}")
            built.replace(library)  # in one step: tests may run in several processes
    loaded = ctypes.CDLL(str(library))
    loaded.emulated_signature.restype = ctypes.c_char_p
    loaded.emulated_start.restype = ctypes.c_char_p
    loaded.emulated_start.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_bool)
    return loaded


class _Guarded:
    """Copies of the memory behind tensors (one per storage, so that views keep overlapping) between guard zones."""

    def __init__(self) -> None:
        self.copies: dict[int, tuple[torch.UntypedStorage, np.ndarray]] = {}

    def address(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.copies:
            # 256-byte aligned, as torch's CUDA allocator gives it.
            memory = np.full(storage.nbytes() + 2 * GUARD + 256, 0xFF, np.uint8)
            memory = memory[-memory.ctypes.data % 256 :][: storage.nbytes() + 2 * GUARD]
            memory[GUARD : GUARD + storage.nbytes()] = _bytes(storage)
            self.copies[storage.data_ptr()] = storage, memory
        memory = self.copies[storage.data_ptr()][1]
        return memory.ctypes.data + GUARD + tensor.data_ptr() - storage.data_ptr()

    def copy_back(self, what: str) -> None:
        for storage, memory in self.copies.values():
            end = GUARD + storage.nbytes()
            if (memory[:GUARD] != 0xFF).any() or (memory[end:] != 0xFF).any():
                raise EmulationError(f"{what} writes outside of its tensors")
            _bytes(storage)[:] = memory[GUARD:end]


def _bytes(storage: torch.UntypedStorage) -> np.ndarray:
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy()


def start(
    spec: KernelSpec,
    expression: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    arguments: list[Tensor | np.generic | None],
    shared: int,
    backwards: bool = False,
) -> None:
    """What `ovseg.ops.cuda.launch` does through CuPy, on CPU tensors.

    Raises:
        EmulationError: argument types differ from the kernel's, threads wait for each other for ever, the launch is
            too large for a GPU, or the kernel writes outside of its tensors.
    """
    library = build(source_text(spec.source), expression)
    declared = library.emulated_signature().decode().split()
    _check_types(expression, declared, arguments)
    guarded = _Guarded()
    values = []
    for argument in arguments:
        if argument is None or isinstance(argument, Tensor):
            values.append(ctypes.c_void_p(0 if argument is None else guarded.address(argument)))
        else:
            values.append(np.ctypeslib.as_ctypes_type(argument.dtype)(argument.item()))
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    sizes = (ctypes.c_uint * 6)(*grid, *block)
    if error := library.emulated_start(sizes, shared, pointers, backwards):
        raise EmulationError(f"{expression}, grid {grid}, block {block}, {shared} shared bytes: {error.decode()}")
    guarded.copy_back(expression)


def _check_types(expression: str, declared: list[str], arguments: list[Tensor | np.generic | None]) -> None:
    passed = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            passed.append("*" + TENSORS[argument.dtype])
        else:
            passed.append("*" if argument is None else NUMBERS[type(argument)])
    same = len(declared) == len(passed) and all(
        p == d or (p[0] == d[0] == "*" and (p == "*" or d in ("**", "*", _unsigned(p))))
        for p, d in zip(passed, declared, strict=True)
    )
    if not same:
        raise EmulationError(f"{expression} takes ({', '.join(declared)}) but is passed ({', '.join(passed)})")


def _unsigned(code: str) -> str:
    """torch has few unsigned types: their memory comes as signed integers of the same size."""
    return code.replace("i", "u") if code[1:] in ("i2", "i4", "i8") else code


@contextlib.contextmanager
def emulated(backwards: bool = False) -> Iterator[None]:
    """Within this context every CUDA back-end is available, takes CPU tensors and runs its kernels on the CPU.

    Args:
        backwards: the threads of a block run from last to first. A kernel that needs a barrier which is not there
            gives other results then.
    """

    def run(*args, **kwargs) -> None:
        start(*args, **kwargs, backwards=backwards)

    with (
        mock.patch.object(launch, "_start", run),
        mock.patch.object(launch.CudaBackend, "devices", frozenset({"cpu"})),
        mock.patch.object(launch.CudaBackend, "unavailable_reasons", lambda self: []),
    ):
        yield
