"""Which kernels there are: source file, template arguments, launch sizes. Adding one is one `kernel(...)` call."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
STORAGE = {torch.float32: "float", torch.float16: "__half", torch.bfloat16: "__nv_bfloat16"}
INTEGERS = {
    torch.uint8: "uint8_t",
    torch.int8: "int8_t",
    torch.int16: "int16_t",
    torch.int32: "int32_t",
    torch.int64: "int64_t",
}
FLOAT_TYPES = tuple(STORAGE.values())


@dataclass(frozen=True)
class KernelSpec:
    """One ``__global__`` function (template) of a ``.cu`` file beside this module.

    Attributes:
        source: file name.
        name: function name.
        threads: threads per block that it is launched with.
        arguments: template argument lists that the kernel table and the tests compile, such as ``("float, 2",)``;
            empty for a plain function. Others may be launched as well.
        shared: dynamic shared bytes of a typical launch (for the table's occupancy).
        note: what the table says about that launch.
        accepted_spill: bytes of registers that an instantiation may spill; the note then says which does and why.
    """

    source: str
    name: str
    threads: int
    arguments: tuple[str, ...] = ()
    shared: int = 0
    note: str = ""
    accepted_spill: int = 0

    def expression(self, *arguments: str | int) -> str:
        """C++ name of one instantiation: ``spec.expression("float", 2)`` -> ``"name<float, 2>"``."""
        return f"{self.name}<{', '.join(map(str, arguments))}>" if arguments else self.name

    def expressions(self) -> list[str]:
        """All instantiations that the table and the tests compile."""
        return [f"{self.name}<{a}>" for a in self.arguments] or [self.name]


_kernels: list[KernelSpec] = []


def kernel(*args, **kwargs) -> KernelSpec:
    """Register a kernel (arguments of `KernelSpec`) for the table and the tests, and return it.

    Raises:
        ValueError: the source file does not exist or another kernel of it has this name.
    """
    spec = KernelSpec(*args, **kwargs)
    if not (FOLDER / spec.source).is_file():
        raise ValueError(f"kernel {spec.name!r}: there is no file {FOLDER / spec.source}")
    if any((k.source, k.name) == (spec.source, spec.name) for k in _kernels):
        raise ValueError(f"kernel {spec.name!r} of {spec.source} is registered twice")
    _kernels.append(spec)
    return spec


def kernels() -> list[KernelSpec]:
    """All registered kernels, by source file."""
    return sorted(_kernels, key=lambda spec: spec.source)


@cache
def source_text(source: str) -> str:
    """A ``.cu`` file with its ``.cuh`` headers written out.

    One text per kernel file, so that compilers need no include path to this folder and CuPy's disk cache, which is
    keyed by the text, notices a changed header.
    """

    def header(match: re.Match) -> str:
        return (FOLDER / match[1]).read_text()

    text, count = (FOLDER / source).read_text(), 1
    while count:
        text, count = re.subn(r'^#include "(\w+\.cuh)"$', header, text, flags=re.MULTILINE)
    return text
