"""All CUDA kernel tests and benchmarks in one call, on a machine with a GPU; the table comes last.

    python tools/gpu_check.py                     # tests, then benchmarks
    python tools/gpu_check.py --json gpu.json     # also write the rows
    python tools/gpu_check.py --no-tests --only pamr_apply correlation_attention

Tests: every operator's back-ends against the definition (``tests/ops``) and every method's labels on the GPU against
those on the CPU (``tests/test_gpu.py``). Benchmarks: median time by CUDA events of the torch and the CUDA back-end on
the same tensors, whether they agree, and the roofline floor of an H100 (``ovseg/ops/cuda/roofline.py``). Exits with 1
if something fails, with 2 (and the reasons) without a usable GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this folder is not installed

from ovseg import ops
from ovseg.ops.cuda import roofline
from ovseg.ops.cuda.launch import cuda_reasons
from tools.kernel_table import print_table

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 20
BUDGET = 1.0
"""Seconds that the repeats of one back-end may take: fewer are made of a slow one."""


@dataclass
class Bench:
    """One call of one operator on random tensors; ``call(backend)`` runs it."""

    work: roofline.Work
    call: Callable[[str], Any]


def attention(device: str, tokens: int) -> list[Bench]:
    """bf16; a square grid of tokens, as SAM's."""
    heads, width, side = roofline.HEADS, roofline.WIDTH, round(tokens**0.5)
    make = {"device": device, "dtype": torch.bfloat16}
    features = F.normalize(torch.randn(1, tokens, width, **make) + 0.5 * torch.randn(width, **make), dim=-1)
    values = torch.randn(1, tokens, width, **make)
    q, k, v = (torch.randn(1, heads, tokens, width // heads, **make) for _ in range(3))
    tables = [0.1 * torch.randn(side, side, width // heads, **make) for _ in range(2)]
    guided = q[0], k[0], v[0] + 0.7, *tables, values[0]
    calls = {
        "correlation_attention": lambda b: ops.correlation_attention(features, values, scale=3.0, beta=1.2, backend=b),
        "self_self_attention": lambda b: ops.self_self_attention(q, k, v, terms=("qq", "kk"), backend=b),
        "decomposed_attention": lambda b: ops.decomposed_attention(q, k, v, *tables, backend=b),
        "guided_aggregation": lambda b: ops.guided_aggregation(*guided, valid=(side, side), cos_factor=1.2, backend=b),
    }
    return [Bench(work, calls[work.operator]) for work in roofline.attention(tokens)]


def upsampling(device: str, classes: int, grid: tuple[int, int], factor: int) -> list[Bench]:
    """Smooth random scores at the contrast of CLIP's cosines."""
    coarse = torch.randn(1, classes, max(1, grid[0] // 8), max(1, grid[1] // 8), device=device)
    scores = 0.2 + 0.03 * F.interpolate(coarse, size=grid, mode="bicubic")[0]
    size = (grid[0] * factor, grid[1] * factor)
    plain, threshold, topk = roofline.upsampling(classes, grid, size)
    k = min(5, classes)
    return [
        Bench(plain, lambda b: ops.upsample_argmax(scores, size, backend=b)),
        Bench(
            threshold,
            lambda b: ops.upsample_argmax(scores, size, logit_scale=40.0, threshold=0.3, background=0, backend=b),
        ),
        Bench(topk, lambda b: ops.upsample_topk(scores, size, logit_scale=40.0, k=k, backend=b)[1]),
    ]


def pamr(device: str, queries: int, size: tuple[int, int], iterations: int) -> list[Bench]:
    image, scores = torch.rand(1, 3, *size, device=device), torch.rand(1, queries, *size, device=device)
    affinity = ops.pamr_affinity(image, backend="torch")
    calls = [
        lambda b: ops.pamr_affinity(image, backend=b),
        lambda b: ops.pamr_apply(affinity, scores, iterations, backend=b),
    ]
    return [Bench(work, call) for work, call in zip(roofline.pamr(queries, size, iterations), calls, strict=True)]


def counting(device: str, size: tuple[int, int], tokens: int) -> list[Bench]:
    """Regions of 32 x 32 pixels, 21 classes."""
    row, column = (torch.arange(n, device=device) // 32 for n in size)
    regions = (row[:, None] * len(column.unique()) + column).int()
    labels, target = (torch.randint(0, 21, size, device=device, dtype=torch.int32) for _ in range(2))
    features = torch.randn(tokens, roofline.WIDTH, device=device, dtype=torch.bfloat16)
    ids = torch.randint(0, 100, (tokens,), device=device)
    calls = [
        lambda b: ops.region_vote(labels, regions, 21, backend=b),
        lambda b: ops.confusion_matrix(labels, target, 21, backend=b),
        lambda b: ops.region_pool(features, ids, backend=b).means,
    ]
    return [Bench(work, call) for work, call in zip(roofline.counting(size, tokens), calls, strict=True)]


def full_size(device: str) -> list[Callable[[], list[Bench]]]:
    """The calls of the roofline table; functions, so that one group of tensors at a time is in memory."""
    return [
        *(lambda n=n: attention(device, n) for n in roofline.TOKENS),
        *(lambda c=c: upsampling(device, c, (64, 128), 16) for c in (21, 847)),
        lambda: pamr(device, 56, (400, 600), 10),
        lambda: counting(device, (1024, 2048), 4096),
    ]


def difference(result: Tensor, expected: Tensor) -> str:
    """How far two back-ends are apart."""
    if result.is_floating_point():
        return f"{float((result.float() - expected.float()).norm() / expected.float().norm()):.1e}"
    return f"{int((result != expected).sum())} of {result.numel()}"


def milliseconds(call: Callable[[], Any]) -> float:
    """Median by CUDA events of :data:`REPEATS` calls, or of those that :data:`BUDGET` has time for.

    The call has run once, so that it is compiled; the clocks of an idle GPU rise during two more calls.
    """
    warm = max(once(call), once(call)) / 1e3
    return statistics.median(once(call) for _ in range(max(1, min(REPEATS, int(BUDGET / warm)))))


def once(call: Callable[[], Any]) -> float:
    """Milliseconds of one call on the current stream."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def measure(bench: Bench) -> dict[str, str]:
    """One row of the table."""
    row = {"operator": bench.work.operator, "case": bench.work.case}
    seconds: dict[str, str | float] = {}
    results = {}
    for backend in ("torch", "cuda"):
        try:
            results[backend] = bench.call(backend)
            seconds[backend] = milliseconds(lambda backend=backend: bench.call(backend))
        except (ops.UnsupportedCallError, RuntimeError) as error:  # a back-end may run out of memory: still a row
            seconds[backend] = f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
    floor = bench.work.floor() / 1e3
    both = len(results) == 2
    cuda = seconds["cuda"]
    row |= {f"{name}_ms": f"{time:.3f}" if isinstance(time, float) else time for name, time in seconds.items()}
    row["faster"] = f"{seconds['torch'] / cuda:.1f}x" if all(isinstance(s, float) for s in seconds.values()) else "-"
    row["h100_floor_ms"] = f"{floor:.3f}"
    row["of_floor"] = f"{floor / cuda:.0%}" if isinstance(cuda, float) else "-"
    row["difference"] = difference(results["cuda"], results["torch"]) if both else "-"
    return row


def run_tests() -> int:
    """The operator tests in a process of their own; pytest's exit status."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/ops", "tests/test_gpu.py", "-k", "not emulat", "-rs"]
    environment = os.environ | {"OVSEG_EXAMPLES": "200"}
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-tests", action="store_true", help="benchmarks only")
    parser.add_argument("--only", nargs="+", choices=ops.operators(), help="operators to measure; default: all")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args(arguments)
    if reasons := cuda_reasons():
        print("the CUDA kernels cannot run here: " + "; ".join(reasons))
        return 2
    failed = 0 if options.no_tests else run_tests()
    torch.manual_seed(0)
    lines = []
    with torch.inference_mode():
        for group in full_size("cuda"):
            for bench in group():
                if options.only is None or bench.work.operator in options.only:
                    lines.append(measure(bench))
                    print(*lines[-1].values(), sep="  ", flush=True)  # what is measured is not lost
            torch.cuda.empty_cache()
    properties = torch.cuda.get_device_properties(0)
    title = f"{properties.name}, {properties.multi_processor_count} multiprocessors, median of {REPEATS}"
    print_table(title, lines, ("operator", "case"))
    if options.json:
        options.json.write_text(json.dumps({"device": properties.name, "rows": lines}, indent=1))
    print("tests: " + ("not run" if options.no_tests else "passed" if not failed else f"FAILED (pytest exit {failed})"))
    return 1 if failed or any("Error" in line["cuda_ms"] for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
