"""Compile kernels without a GPU: NVRTC through ``cuda.bindings`` (installed with torch), and what they will occupy.

`compile_cubin` compiles for any architecture; `resources` reads registers, shared memory and spills from the
assembler's log; `occupancy` estimates how many threads of a multiprocessor a launch can fill.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ovseg.ops.cuda.kernels import source_text

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
COMMON_OPTIONS = ("--std=c++17",)
CUPY_OPTIONS = ("--ftz=true",)  # what CuPy adds by itself


class CompilationError(RuntimeError):
    """NVRTC rejected a kernel; the message is its log."""


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one multiprocessor (CUDA C++ Programming Guide 13.0, tables of compute capabilities)."""

    threads: int
    blocks: int
    registers: int
    shared: int  # bytes
    shared_per_block: int  # bytes a block may ask for


# A100 (8.0), H100 (9.0), B200 (10.0). Each block's shared memory also holds 1 KiB of the system's.
LIMITS = {
    "sm_80": Multiprocessor(2048, 32, 65536, 164 << 10, 163 << 10),
    "sm_90": Multiprocessor(2048, 32, 65536, 228 << 10, 227 << 10),
    "sm_100": Multiprocessor(2048, 32, 65536, 228 << 10, 227 << 10),
}
RESERVED_SHARED = 1 << 10
SHARED_UNIT = 128
WARP_REGISTER_UNIT = 256


@dataclass(frozen=True)
class Resources:
    """What the assembler gave one kernel; bytes are per thread, shared bytes per block (static)."""

    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of some instantiations of a source file (CuPy makes the machine code that runs)."""

    log: str
    symbols: dict[str, str]  # C++ name expression -> symbol in the machine code


def nvrtc_reasons() -> list[str]:
    """Why kernels cannot be compiled here; empty if they can."""
    try:
        importlib.import_module("cuda.bindings.nvrtc")
    except ImportError as error:
        return [f"cuda.bindings.nvrtc cannot be imported ({error}); it comes with torch's CUDA wheels"]
    return [] if include_folders() else ["cuda_fp16.h not found (nvidia.cu13 wheels, CUDA_PATH, /usr/local/cuda)"]


@lru_cache(maxsize=1)
def include_folders() -> tuple[str, ...]:
    """Folders that hold the CUDA headers; empty if there are none.

    ``nvidia.cu13`` is a namespace package: its parts may lie in several places, of which one has the headers.
    """
    roots = [Path(os.environ[name]) for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
    for package in ("nvidia.cu13", "nvidia.cuda_runtime"):
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:  # no package nvidia at all
            continue
        roots += [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    roots.append(Path("/usr/local/cuda"))
    folders = [root / "include" for root in roots]
    return tuple(str(folder) for folder in folders if (folder / "cuda_fp16.h").is_file())[:1]


def options() -> tuple[str, ...]:
    """Compiler options of every kernel, here and through CuPy."""
    return COMMON_OPTIONS + tuple(f"-I{folder}" for folder in include_folders())


def _call(nvrtc: Any, function: str, *args: Any) -> Any:
    error, *result = getattr(nvrtc, function)(*args)
    if int(error):
        raise CompilationError(f"{function}: {nvrtc.nvrtcGetErrorString(error)[1].decode()}")
    return result[0] if result else None


def compile_text(text: str, expressions: Sequence[str], arch: str, name: str = "kernel.cu") -> Compiled:
    """Compile CUDA C++ to machine code for ``arch`` (such as "sm_90"); no GPU is needed.

    Args:
        expressions: instantiations to compile, such as ``"pamr_apply<float>"``.

    Raises:
        CompilationError: with the compiler's log.
    """
    nvrtc = importlib.import_module("cuda.bindings.nvrtc")
    program = _call(nvrtc, "nvrtcCreateProgram", text.encode(), name.encode(), 0, [], [])
    try:
        for expression in expressions:
            _call(nvrtc, "nvrtcAddNameExpression", program, expression.encode())
        flags = [f.encode() for f in (f"--gpu-architecture={arch}", "--ptxas-options=-v", *CUPY_OPTIONS, *options())]
        (error,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        buffer = bytearray(_call(nvrtc, "nvrtcGetProgramLogSize", program))
        _call(nvrtc, "nvrtcGetProgramLog", program, buffer)
        log = buffer.decode().rstrip("\0\n")
        if int(error):
            raise CompilationError(f"{name} for {arch}: {log}")
        symbols = {e: _call(nvrtc, "nvrtcGetLoweredName", program, e.encode()).decode() for e in expressions}
        return Compiled(log, symbols)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def compile_cubin(source: str, expressions: Sequence[str], arch: str) -> Compiled:
    """`compile_text` of a ``.cu`` file in this folder."""
    return compile_text(source_text(source), expressions, arch, source)


def resources(compiled: Compiled) -> dict[str, Resources]:
    """Resources of each instantiation, by C++ name expression, from the assembler's log (``ptxas -v``).

    Raises:
        CompilationError: the log does not speak of a kernel.
    """
    found = {}
    parts = re.split(r"Compiling entry function '(\S+)' for '\S+'", compiled.log)
    for symbol, text in zip(parts[1::2], parts[2::2], strict=True):
        # Functions that were not inlined follow with properties of their own: the entry's come first.
        frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text)
        used = re.search(r"Used (\d+) registers", text)
        if frame and used:
            shared = re.search(r"(\d+) bytes smem", text)
            found[symbol] = Resources(int(used[1]), int(shared[1]) if shared else 0, *map(int, frame.groups()))
    if missing := [e for e, symbol in compiled.symbols.items() if symbol not in found]:
        raise CompilationError(f"the assembler's log does not name {missing}: {compiled.log}")
    return {expression: found[symbol] for expression, symbol in compiled.symbols.items()}


def occupancy(arch: str, used: Resources, threads: int, dynamic_shared: int = 0) -> float:
    """Share of a multiprocessor's threads that blocks of this kernel can fill (0: a block does not fit at all).

    The usual calculation: blocks per multiprocessor are limited by threads, registers (given out to warps in units of
    256) and shared memory (in units of 128 bytes, plus 1 KiB per block that the system keeps).
    """
    limits = LIMITS[arch]
    warps = -(-threads // 32)
    registers = -(-used.registers * 32 // WARP_REGISTER_UNIT) * WARP_REGISTER_UNIT * warps
    asked = used.shared + dynamic_shared
    if asked > limits.shared_per_block or registers > limits.registers:
        return 0.0
    shared = -(-(asked + RESERVED_SHARED) // SHARED_UNIT) * SHARED_UNIT
    blocks = min(limits.blocks, limits.threads // (warps * 32), limits.registers // registers, limits.shared // shared)
    return blocks * warps * 32 / limits.threads
