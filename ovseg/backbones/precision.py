"""The number format that encoders compute in, and how ``"auto"`` is settled.

bf16 is twice as fast as fp32 on some CPUs, eight times on others and slower on a third kind, and nothing but a
measurement tells which one this is. So ``"auto"`` runs one transformer block through :mod:`ovseg.backbones.kernels` in
both formats, once per machine: some tens of milliseconds, kept in a file. On a GPU the compute capability decides.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from ovseg.backbones import kernels
from ovseg.backbones.int8 import int8_reasons
from ovseg.datasets.files import cache_folder, write_json
from ovseg.float32 import KeepsFloat32
from ovseg.processor import processor

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
ENVIRONMENT_VARIABLE = "OVSEG_PRECISION"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MARGIN = 1.1
"""bf16 is chosen where it is at least so much faster than fp32: less is not worth its rounding."""
ROUNDS = 9
HOPELESS = 4.0
"""A first run so many times as slow as fp32's is not repeated: CPUs without bf16 emulate it."""
WIDTH, TOKENS, HEADS = 384, 197, 6
"""The block that is measured: ViT-S on one window of 224 pixels."""
VERSION = 1
"""Of the file; raise it when the measurement changes."""


@dataclass(frozen=True)
class Settled:
    """What a ``precision`` setting means on a device.

    Attributes:
        base: ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        int8: whether linear layers of the inner blocks multiply int8.
        auto: whether ``base`` was chosen by :func:`settle` in place of the user.
    """

    base: str
    int8: bool = False
    auto: bool = False

    def autocast(self, device: str) -> contextlib.AbstractContextManager:
        """Autocast to :attr:`base` on a device type, or nothing for fp32."""
        if self.base == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(device, dtype=DTYPES[self.base])

    def layers(self, index: int, count: int) -> contextlib.AbstractContextManager:
        """The context of block ``index`` of ``count``: int8, but not in the first and the last."""
        return kernels.layers_in(torch.int8) if self.int8 and 0 < index < count - 1 else contextlib.nullcontext()

    def last_block(self) -> contextlib.AbstractContextManager:
        """The context of CLIP's last block, which is not under autocast.

        With int8 its linear layers multiply in :attr:`base`, and its attention is in fp32; otherwise all is in fp32.
        """
        return kernels.layers_in(DTYPES[self.base]) if self.int8 else contextlib.nullcontext()

    def __str__(self) -> str:
        return (f"int8+{self.base}" if self.int8 else self.base) + (" (auto)" if self.auto else "")


FP32 = Settled("fp32")


@dataclass(frozen=True)
class Measurement:
    """One transformer block on this CPU.

    Attributes:
        fp32_ms, bf16_ms: shortest time of :data:`ROUNDS` interleaved runs; bf16 infinite where torch has none.
    """

    fp32_ms: float
    bf16_ms: float

    @property
    def choice(self) -> str:
        """``'bf16'`` where it is faster by :data:`MARGIN`, else ``'fp32'``."""
        return "bf16" if self.fp32_ms >= MARGIN * self.bf16_ms else "fp32"


class MixedPrecision(KeepsFloat32):
    """What an encoder needs to compute in the format of its ``precision`` setting.

    Args:
        precision: one of :data:`PRECISIONS`, or ``None``: fp32 until :func:`set_precision` is called.

    Raises:
        ValueError: for another name, or for int8 on a machine that cannot.
    """

    _settled: tuple[tuple, Settled] | None = None
    """What was asked for when the precision was settled, and what it became."""

    def __init__(self, precision: str | None = None) -> None:
        super().__init__()
        self.precision_stated = precision is not None
        self.precision = precision or "fp32"

    @property
    def precision(self) -> str:
        """The setting; :attr:`settled` is what it means here."""
        return self._precision

    @precision.setter
    def precision(self, name: str) -> None:
        self._precision = checked(name)

    @property
    def settled(self) -> Settled:
        """What :attr:`precision` means on the device that holds the weights.

        Settled at first use: another number of threads, for which another precision may be the fastest, does not change
        the results of a model that is in use.
        """
        device = next(self.parameters()).device
        asked = (self._precision, str(device), os.environ.get(ENVIRONMENT_VARIABLE))
        if self._settled is None or self._settled[0] != asked:
            self._settled = (asked, settle(self._precision, device))
        return self._settled[1]

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context of the blocks."""
        return self.settled.autocast(next(self.parameters()).device.type)


def checked(name: str, source: str = "precision") -> str:
    """``name`` if it is one of :data:`PRECISIONS`.

    Raises:
        ValueError: naming ``source``, for another one, or for int8 on a CPU without int8 products.
    """
    if name not in PRECISIONS:
        raise ValueError(f"{source} is {name!r}; choose one of {', '.join(PRECISIONS)}")
    if name == "int8" and (reasons := (*int8_reasons(), *kernels.packing_reasons())):
        raise ValueError(f"{source} is 'int8', but {'; '.join(reasons)}: choose auto, fp32 or bf16")
    return name


def set_precision(model: nn.Module, precision: str, unstated_only: bool = False) -> None:
    """Give all encoders of a model one precision and settle it, so that what does not fit is told before the work.

    Sources of regions are left as their config says: their masks are kept on disk under it.

    Args:
        model: holds :class:`MixedPrecision` modules.
        precision: one of :data:`PRECISIONS`.
        unstated_only: leave encoders alone whose config names a precision.

    Raises:
        ValueError: see :func:`settle`.
    """
    for encoder in _encoders(model):
        if not (unstated_only and encoder.precision_stated):
            encoder.precision = precision
        _ = encoder.settled


def describe_precision(model: nn.Module) -> list[str]:
    """What the precision of each encoder of a model means here, e.g. ``['bf16 (auto)', 'fp32']``."""
    return [str(encoder.settled) for encoder in _encoders(model)]


def _encoders(model: nn.Module) -> Iterator[MixedPrecision]:
    for name, module in model.named_modules():
        if isinstance(module, MixedPrecision) and name.split(".")[0] != "regions":
            yield module


def settle(precision: str, device: torch.device) -> Settled:
    """What a setting means on a device.

    ``'auto'`` is what ``OVSEG_PRECISION`` names, if it is set; else bf16 or fp16 on a GPU that computes in it fast, the
    faster of bf16 and fp32 on a CPU, fp32 elsewhere. With ``'int8'`` the rest of the encoder computes in what
    ``'auto'`` finds.

    Raises:
        ValueError: for int8 elsewhere than on a CPU that multiplies it, and for an unknown name.
    """
    checked(precision)
    source, auto = "precision", precision == "auto"
    if auto and (named := os.environ.get(ENVIRONMENT_VARIABLE, "").strip()):
        source, precision = ENVIRONMENT_VARIABLE, checked(named, ENVIRONMENT_VARIABLE)
    if precision == "int8":
        if device.type != "cpu":
            raise ValueError(f"{source} is 'int8', which runs on CPUs only, not on {device}: choose auto, bf16 or fp16")
        return Settled(fastest(device), int8=True, auto=auto)
    return Settled(fastest(device) if precision == "auto" else precision, auto=auto)


def fastest(device: torch.device) -> str:
    """``'fp32'``, ``'bf16'`` or ``'fp16'``: what encoders run fastest in on a device."""
    if device.type == "cuda":
        major = torch.cuda.get_device_capability(device)[0]
        return "bf16" if major >= 8 else "fp16" if major == 7 else "fp32"
    return measured(torch.get_num_threads()).choice if device.type == "cpu" else "fp32"


@lru_cache(maxsize=8)
def measured(threads: int) -> Measurement:
    """fp32 and bf16 on this CPU with so many threads, from the file of an earlier process or measured now.

    Processes that start together measure one after the other, and all but the first read what it wrote. Where the
    folder cannot be written every process measures.
    """
    path = measurement_file(threads)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=30):
            if (found := _read(path, threads)) is None:
                found = measure()
                write_json(path, {**_key(threads), **vars(found)})
            return found
    except (OSError, Timeout):
        return _read(path, threads) or measure()


def measurement_file(threads: int) -> Path:
    """Where the measurement of this machine lies: its name is a hash of processor, instructions, torch and threads."""
    digest = hashlib.sha256(json.dumps(_key(threads), sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder("machine") / f"precision-{digest}.json"


def _key(threads: int) -> dict[str, object]:
    return {
        "version": VERSION,
        "cpu": processor().name,
        "instructions": " ".join(sorted(processor().flags)),
        "cores": os.cpu_count(),
        "threads": threads,
        "torch": torch.__version__,
        "packing": not kernels.packing_reasons(),
    }


def _read(path: Path, threads: int) -> Measurement | None:
    """What a file holds; ``None`` if it is absent, damaged or of another machine."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if any(found[name] != value for name, value in _key(threads).items()):
            return None
        result = Measurement(float(found["fp32_ms"]), float(found["bf16_ms"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return result if 0 < result.fp32_ms < math.inf and result.bf16_ms > 0 else None


def measure(clock: Callable[[], float] = time.perf_counter) -> Measurement:
    """Time one transformer block in fp32 and bf16, in turn.

    Args:
        clock: seconds that pass, or that the processor works.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        block, x = _block(), torch.linspace(-1, 1, TOKENS * WIDTH).view(1, TOKENS, WIDTH).sin_()
        sides = {"fp32": FP32, "bf16": Settled("bf16")}

        def run(name: str) -> float:
            start = clock()
            with sides[name].autocast("cpu"):
                block(x)
            return clock() - start

        run("fp32")  # packs the weights
        best = {"fp32": run("fp32"), "bf16": math.inf}
        try:
            run("bf16")
            best["bf16"] = run("bf16")
        except RuntimeError:  # a torch without bf16 products for this processor
            return Measurement(best["fp32"] * 1e3, math.inf)
        for _ in range(ROUNDS if best["bf16"] < HOPELESS * best["fp32"] else 0):
            for name in sides:
                best[name] = min(best[name], run(name))
    return Measurement(best["fp32"] * 1e3, best["bf16"] * 1e3)


def _block() -> Callable[[Tensor], Tensor]:
    """A transformer block's linear layers and attention; no random numbers, the user's generator stays as it is."""

    def layer(inputs: int, outputs: int) -> nn.Linear:
        made = nn.utils.skip_init(nn.Linear, inputs, outputs).requires_grad_(False)
        made.weight.copy_(torch.linspace(-300, 300, inputs * outputs).sin_().mul_(0.05).view(outputs, inputs))
        made.bias.zero_()
        return made

    qkv, out = layer(WIDTH, 3 * WIDTH), layer(WIDTH, WIDTH)
    first, second, activation = layer(WIDTH, 4 * WIDTH), layer(4 * WIDTH, WIDTH), nn.GELU()

    def run(x: Tensor) -> Tensor:
        heads = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in kernels.apply_linear(x, qkv).chunk(3, dim=-1))
        x = x + kernels.apply_linear(kernels.attention(*heads, (WIDTH / HEADS) ** -0.5), out)
        return x + kernels.feed_forward(x, first, activation, second)

    return run
