"""Operators against the method as official code structures it: time ratio and peak memory, both in one run.

    python tools/bench_ops.py                      # all cases, sizes that fit into 8 GB
    python tools/bench_ops.py --full argmax847     # the issue's size: the naive side needs about 22 GB
    python tools/bench_ops.py --threads 2 --json ops.json

Both sides run in turn (interleaved), the medians are divided. ``--clock cpu`` counts processor seconds instead of wall
time, for a machine that others use as well. Peak memory is taken in a fresh process per side: the growth of the
resident set over what it was with the inputs built.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ovseg import ops
from ovseg.ops import reference


@dataclass
class Case:
    """Two functions of no arguments that must agree; ``difference`` says by how much they do not."""

    title: str
    naive: Callable[[], Tensor]
    fused: Callable[[], Tensor]
    difference: Callable[[Tensor, Tensor], str]


def relative_error(naive: Tensor, fused: Tensor) -> str:
    return f"{float((naive.float() - fused.float()).norm() / naive.float().norm()):.1e}"


def differing_labels(naive: Tensor, fused: Tensor) -> str:
    return f"{int((naive != fused).sum())} of {naive.numel()} labels"


def pamr(full: bool) -> Case:
    """NACLIP on VOC21: 56 queries at the photo's size."""
    image, scores = torch.rand(1, 3, 400, 600), torch.rand(1, 56, 400, 600)
    iterations = 10 if full else 2

    def naive() -> Tensor:
        affinity = reference.pamr_affinity(image, (8, 16))
        return reference.pamr_apply(affinity, scores, iterations, (8, 16))

    title = f"PAMR, 56 queries, 400 x 600, {iterations} iterations"
    return Case(title, naive, lambda: ops.pamr(image, scores, iterations), relative_error)


def argmax(classes: int, threshold: float, full: bool) -> Case:
    """Smooth random scores at the contrast of CLIP's cosines, upsampled 16 times."""
    grid = (64, 128) if full or classes < 100 else (32, 64)
    coarse = torch.randn(1, classes, grid[0] // 8, grid[1] // 8)
    scores = F.interpolate(coarse, size=grid, mode="bicubic")[0] + 0.1 * torch.randn(classes, *grid)
    scores = 0.2 + 0.03 * scores
    size = (16 * grid[0], 16 * grid[1])

    def naive() -> Tensor:
        maps = F.interpolate(scores[None], size=size, mode="bilinear")[0]
        best, labels = (maps * 40).softmax(0).max(0)
        return labels.masked_fill(best < threshold, 0) if threshold else labels

    def fused() -> Tensor:
        return ops.upsample_argmax(scores, size, logit_scale=40.0, threshold=threshold, background=0)

    note = f", threshold {threshold}" if threshold else ""
    title = f"upsample + argmax, {classes} classes{note}, {grid[0]} x {grid[1]} to {size[0]} x {size[1]}"
    return Case(title, naive, fused, differing_labels)


def correlation(dtype: torch.dtype, full: bool) -> Case:
    """ProxyCLIP: 12 heads that share one masked matrix. Tokens of 20 things, alike within a thing."""
    count, heads = (4096, 12) if full else (2048, 12)
    things = torch.randn(20, 768)[torch.randint(20, (1, count))]
    features = F.normalize(things + 0.5 * torch.randn(768) + 0.8 * torch.randn(1, count, 768), dim=-1).to(dtype)
    values = torch.randn(1, count, 768).to(dtype)

    def naive() -> Tensor:
        similarity = features @ features.mT
        logits = 3.0 * (similarity - 1.2 * similarity.mean())
        logits = logits.masked_fill(logits < 0, -torch.inf)[:, None].repeat(1, heads, 1, 1)
        parts = values.unflatten(-1, (heads, -1)).transpose(1, 2)
        return (logits.softmax(-1) @ parts).transpose(1, 2).flatten(2)

    def fused() -> Tensor:
        return ops.correlation_attention(features, values, scale=3.0, beta=1.2)

    name = str(dtype).removeprefix("torch.")
    return Case(f"correlation attention, N = {count}, 12 heads, {name}", naive, fused, relative_error)


def self_self(neighbour: bool, full: bool) -> Case:
    """NACLIP on a whole image (k-k with a neighbourhood), SCLIP on windows (q-q + k-k)."""
    grid, batch = ((21, 31), 1) if neighbour else ((14, 14), 8)
    q, k, v = (torch.randn(batch, 12, 1 + grid[0] * grid[1], 64) for _ in range(3))
    if neighbour:
        title, call = "NACLIP, 21 x 31 patches", dict(terms=("kk",), neighbour_std=5.0, grid=grid)
    else:
        title, call = "SCLIP, 8 windows of 14 x 14", dict(terms=("qq", "kk"))
    return Case(
        f"self-self attention, {title}",
        lambda: ops.self_self_attention(q, k, v, backend="reference", **call),
        lambda: ops.self_self_attention(q, k, v, **call),
        relative_error,
    )


def sam(windows: bool, dtype: torch.dtype, full: bool) -> Case:
    """SAM ViT-B at 1024: global blocks 64 x 64, others in 25 windows of 14 x 14."""
    size, batch, heads = (14, 25, 12) if windows else (64, 1, 12 if full else 3)
    q, k, v = (torch.randn(batch, heads, size * size, 64).to(dtype) for _ in range(3))
    tables = [(0.1 * torch.randn(size, size, 64)).to(dtype) for _ in range(2)]

    def naive() -> Tensor:
        logits = (q * 0.125) @ k.mT
        cells = q.unflatten(2, (size, size))
        of_row = torch.einsum("bnhwc,hkc->bnhwk", cells, tables[0])
        of_column = torch.einsum("bnhwc,wkc->bnhwk", cells, tables[1])
        logits = logits.unflatten(2, (size, size)).unflatten(4, (size, size))
        logits = (logits + of_row[..., None] + of_column[..., None, :]).flatten(4).flatten(2, 3)
        return logits.softmax(-1) @ v

    name = str(dtype).removeprefix("torch.")
    where = f"25 windows of 14 x 14, {heads} heads" if windows else f"64 x 64, {heads} heads"
    title = f"SAM attention, {where}, {name}"
    return Case(title, naive, lambda: ops.decomposed_attention(q, k, v, *tables), relative_error)


def guided(full: bool) -> Case:
    """Trident: SAM's 64 x 64 grid of a photo of 3 : 2."""
    heads = 12 if full else 3
    q, k, v = (torch.randn(heads, 4096, 64) for _ in range(3))
    v = v + 0.7 * torch.randn(64)
    tables = [0.1 * torch.randn(64, 64, 64) for _ in range(2)]
    tokens = torch.randn(43 * 64, 768)
    call = dict(valid=(43, 64), cos_factor=1.2)
    return Case(
        f"SAM-guided aggregation, 64 x 64, {heads} heads",
        lambda: ops.guided_aggregation(q, k, v, *tables, tokens, backend="reference", **call),
        lambda: ops.guided_aggregation(q, k, v, *tables, tokens, **call),
        relative_error,
    )


CASES: dict[str, Callable[[bool], Case]] = {
    "pamr": pamr,
    "argmax21": lambda full: argmax(21, 0.0, full),
    "argmax21thr": lambda full: argmax(21, 0.2, full),
    "argmax847": lambda full: argmax(847, 0.0, full),
    "correlation": lambda full: correlation(torch.float32, full),
    "correlation-bf16": lambda full: correlation(torch.bfloat16, full),
    "self-naclip": lambda full: self_self(True, full),
    "self-sclip": lambda full: self_self(False, full),
    "sam-global": lambda full: sam(False, torch.float32, full),
    "sam-global-bf16": lambda full: sam(False, torch.bfloat16, full),
    "sam-windows": lambda full: sam(True, torch.float32, full),
    "guided": guided,
}


def measure(case: Case, repeats: int, clock: Callable[[], float]) -> dict:
    sides = {"naive": case.naive, "fused": case.fused}
    results = {name: side() for name, side in sides.items()}  # also warms both up
    row = {"case": case.title, "difference": case.difference(results["naive"], results["fused"])}
    del results
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            start = clock()
            side()
            seconds[name].append(clock() - start)
    return row | {f"{name}_seconds": statistics.median(values) for name, values in seconds.items()}


def peak_memory(name: str, side: str, options: argparse.Namespace) -> float:
    """MiB that one side adds to a fresh process."""
    command = [sys.executable, __file__, name, "--memory-of", side, "--threads", str(options.threads)]
    command += ["--full"] * options.full
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def print_memory(case: Case, side: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):  # libraries load and allocate at their first call
        small = torch.rand(1, 2, 256, 64).to(dtype)
        ops.self_self_attention(small, small, small)
        ops.correlation_attention(small[0], small[0], scale=1.0)
        F.interpolate(small.float(), size=(512, 512), mode="bilinear").softmax(1).argmax(1)
    before = resident_peak()
    getattr(case, side)()
    print((resident_peak() - before) / 1024)


def resident_peak() -> int:
    """KiB; from /proc because ``getrusage`` of a fresh process starts at its parent's size."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def print_table(rows: list[dict], options: argparse.Namespace) -> None:
    table = Table(title=f"{options.threads} thread(s), {options.clock} time, median of {options.repeats}")
    for column in ("case", "naive ms", "fused ms", "faster", "naive MiB", "fused MiB", "memory", "difference"):
        table.add_column(column, justify="left" if column in ("case", "difference") else "right")
    for row in rows:
        slow, quick = row["naive_seconds"], row["fused_seconds"]
        large, small = row["naive_mib"], row["fused_mib"]
        table.add_row(
            row["case"],
            f"{slow * 1e3:.0f}",
            f"{quick * 1e3:.0f}",
            f"{slow / quick:.1f}x",
            f"{large:.0f}",
            f"{small:.0f}",
            f"1/{large / max(small, 1):.0f}",
            row["difference"],
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all of {', '.join(CASES)}")
    parser.add_argument("--full", action="store_true", help="the sizes of the real methods")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--memory-of", choices=("naive", "fused"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"unknown cases {sorted(unknown)}; choose from {', '.join(CASES)}")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with torch.inference_mode():
        if options.memory_of:
            print_memory(CASES[options.cases[0]](options.full), options.memory_of)
            return
        clock = time.perf_counter if options.clock == "wall" else time.process_time
        rows = []
        for name in options.cases or CASES:
            row = measure(CASES[name](options.full), options.repeats, clock)
            rows.append(row | {f"{side}_mib": peak_memory(name, side, options) for side in ("naive", "fused")})
    print_table(rows, options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
