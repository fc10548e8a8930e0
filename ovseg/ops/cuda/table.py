"""The kernel table: what every registered kernel occupies on every architecture, compiled without a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ovseg.ops.cuda.compile import (
    ARCHITECTURES,
    LIMITS,
    Compiled,
    Resources,
    compile_cubin,
    occupancy,
    resources,
)
from ovseg.ops.cuda.kernels import KernelSpec, kernels


@dataclass(frozen=True)
class Row:
    """One instantiation of one kernel on one architecture."""

    spec: KernelSpec
    expression: str
    arch: str
    used: Resources
    occupancy: float

    def cells(self) -> dict[str, str | int]:
        """Columns of the table and of ``docs/cuda_kernels.csv``."""
        return {
            "source": self.spec.source,
            "kernel": self.expression,
            "arch": self.arch,
            "threads": self.spec.threads,
            "registers": self.used.registers,
            "static_shared": self.used.shared,
            "dynamic_shared": self.spec.shared,
            "stack": self.used.stack,
            "spill_stores": self.used.spill_stores,
            "spill_loads": self.used.spill_loads,
            "occupancy": f"{self.occupancy:.3f}",
            "note": self.spec.note,
        }


@cache
def compiled(source: str, arch: str) -> Compiled:
    """All registered instantiations of a source file; each pair is compiled once per process.

    Raises:
        CompilationError: the compiler rejects it.
    """
    expressions = [e for spec in kernels() if spec.source == source for e in spec.expressions()]
    return compile_cubin(source, expressions, arch)


def rows(source: str | None = None, arch: str | None = None) -> list[Row]:
    """Table rows of one source file (default: all) on one architecture (default: `ARCHITECTURES`)."""
    table = []
    for spec in kernels():
        if source not in (None, spec.source):
            continue
        for target in ARCHITECTURES if arch is None else (arch,):
            used = resources(compiled(spec.source, target))
            for expression in spec.expressions():
                share = occupancy(target, used[expression], spec.threads, spec.shared)
                table.append(Row(spec, expression, target, used[expression], share))
    return table


def faults(row: Row) -> list[str]:
    """Why a kernel must not be shipped like this: it spills more than its specification accepts, or does not fit."""
    found = []
    if row.used.spill_stores > row.spec.accepted_spill:
        found.append(f"spills {row.used.spill_stores} bytes of registers, accepted are {row.spec.accepted_spill}")
    shared, limit = row.used.shared + row.spec.shared, LIMITS[row.arch].shared_per_block
    if shared > limit:
        found.append(f"{shared} shared bytes, a block may have {limit}")
    elif not row.occupancy:
        found.append(f"{row.used.registers} registers x {row.spec.threads} threads do not fit")
    return found
