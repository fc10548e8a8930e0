"""The GPU check without a GPU: it says why, and its benchmark calls are valid ones."""

import pytest
import torch

from ovseg import ops
from ovseg.ops.cuda import roofline
from tools import gpu_check


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_why(capsys):
    assert gpu_check.main([]) == 2
    assert "cannot run here: " in capsys.readouterr().out


def small() -> list[gpu_check.Bench]:
    groups = gpu_check.attention("cpu", 16), gpu_check.upsampling("cpu", 7, (8, 8), 2)
    return [*groups[0], *groups[1], *gpu_check.pamr("cpu", 2, (6, 7), 2), *gpu_check.counting("cpu", (40, 50), 9)]


def test_every_call_of_the_benchmark_runs_and_agrees():
    benches = small()
    assert {bench.work.operator for bench in benches} == set(ops.operators()) - {"separable_argmax"}
    for bench in benches:
        result, expected = bench.call("torch"), bench.call("reference")
        if result.is_floating_point():
            assert float(gpu_check.difference(result, expected)) < 2e-2  # bf16
        else:
            assert gpu_check.difference(result, expected).startswith("0 of ")


def test_the_full_benchmark_is_the_roofline_table():
    assert len(gpu_check.full_size("cuda")) == len(roofline.TOKENS) + 2 + 1 + 1
    assert {w.operator for w in roofline.works()} == {b.work.operator for b in small()}


def test_a_row_of_the_table(monkeypatch):
    monkeypatch.setattr(gpu_check, "milliseconds", lambda call: call() is not None and 2.0)
    bench = gpu_check.counting("cpu", (40, 50), 9)[0]
    row = gpu_check.measure(bench)  # the CUDA back-end declines here: still a row
    assert row["torch_ms"] == "2.000" and row["cuda_ms"].startswith("UnsupportedCallError") and row["faster"] == "-"
    both = gpu_check.Bench(bench.work, lambda backend: bench.call("torch"))
    row = gpu_check.measure(both)
    assert row["faster"] == "1.0x" and row["difference"] == "0 of 2000"
