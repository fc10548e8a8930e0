"""``ovseg env``: versions, threads, GPUs and back-ends, for bug reports."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterable, Mapping

from rich.table import Table
from rich.text import Text

from ovseg import __version__
from ovseg.cli._output import console, emit, print_pairs
from ovseg.cli._status import DONE

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmsegmentation",
    "timm",
    "open_clip_torch",
    "segment-anything",
    "safetensors",
    "opencv-python",
    "pycocotools",
    "transformers",
    "cupy-cuda13x",
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    env = commands.add_parser("env", help="versions, threads, GPUs and back-ends, for bug reports")
    env.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the facts."""
    import torch

    from ovseg.ops import backend_report
    from ovseg.weights.hashes import cache_dir

    pairs: list[tuple[str, object]] = [
        ("ovseg", __version__),
        ("python", platform.python_version()),
        ("platform", platform.platform()),
    ]
    pairs += [(name, _version(name)) for name in _PACKAGES]
    pairs += [
        ("threads", f"{torch.get_num_threads()} (inter-op {torch.get_num_interop_threads()})"),
        ("CPU", torch.backends.cpu.get_cpu_capability()),
        ("precision", _precision()),
        ("CUDA", _cuda()),
        ("CuPy", _cupy()),
        ("weights", cache_dir()),
    ]
    print_pairs(pairs)
    operators = backend_report()
    _print_operators(operators)
    emit("env", facts={name: str(value) for name, value in pairs}, operators=operators)
    return DONE


def _print_operators(rows: Iterable[Mapping[str, str]]) -> None:
    table = Table(box=None, header_style="bold", title="operators", title_justify="left")
    for column in ("operator", "backend", "reasons"):
        table.add_column("why not a faster one" if column == "reasons" else column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[column]) for column in ("operator", "backend", "reasons")))
    console().print(table)


def _precision() -> str:
    """What ``precision='auto'`` means here, and why."""
    import torch

    from ovseg.backbones.int8 import int8_reasons
    from ovseg.backbones.precision import ENVIRONMENT_VARIABLE, measured, measurement_file, settle
    from ovseg.structures import resolve_device

    device = resolve_device(None)
    try:
        lines = [f"auto is {settle('auto', device).base} on {device}"]
    except ValueError as error:
        return str(error)
    if os.environ.get(ENVIRONMENT_VARIABLE, "").strip():
        lines.append(f"named by {ENVIRONMENT_VARIABLE}")
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        found = measured(threads)
        lines.append(f"a transformer block takes {found.fp32_ms:.1f} ms in fp32, {found.bf16_ms:.1f} ms in bf16")
        lines.append(f"kept in {measurement_file(threads)}")
    lines.append(f"int8 on the CPU: {'; '.join(int8_reasons()) or 'where asked for'}")
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"not available (torch built for {torch.version.cuda or 'the CPU only'})"
    devices = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return f"{torch.version.cuda}: {', '.join(devices)}"


def _cupy() -> str:
    if importlib.util.find_spec("cupy") is None:
        return "not installed: the CUDA operators are not available"
    cupy = importlib.import_module("cupy")
    return f"{cupy.__version__}, " + ("available" if cupy.is_available() else "installed, but sees no GPU")
