"""What kind of processor this is: asked where the fastest way to the same result depends on it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch


@dataclass(frozen=True)
class Processor:
    """A CPU.

    Attributes:
        name: as its maker calls it.
        flags: instruction sets, as torch calls them (``avx512_vnni``, ``amx_bf16`` ...).
    """

    name: str
    flags: frozenset[str]


@lru_cache(maxsize=1)
def processor() -> Processor:
    """This machine's, by torch (2.11 and newer), else by Linux, whose flags have the same names; else without flags."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    flags = {name for name, value in capabilities.items() if value is True}
    name, info = capabilities.get("cpu_name"), Path("/proc/cpuinfo")
    if not (name and flags) and info.is_file():
        name, flags = _of_cpuinfo(info.read_text(errors="replace"), name, flags)
    return Processor(name or platform.processor() or platform.machine(), frozenset(flags))


def _of_cpuinfo(text: str, name: str | None, flags: set[str]) -> tuple[str | None, set[str]]:
    lines = [line.split(":", 1) for line in text.splitlines() if ":" in line]
    found = {key.strip().lower(): value.strip() for key, value in lines}
    return name or found.get("model name"), flags or set(found.get("flags", "").split())


def has_matrix_tiles() -> bool:
    """Whether it multiplies bf16 tiles (AMX): then extra columns of a product cost next to nothing."""
    return "amx_bf16" in processor().flags
