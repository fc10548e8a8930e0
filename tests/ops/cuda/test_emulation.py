"""The emulation itself: what it says a kernel computes, against torch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg.ops.cuda import launch
from ovseg.ops.cuda.compile import compile_cubin, nvrtc_reasons, resources
from ovseg.ops.cuda.kernels import STORAGE, KernelSpec
from tests.ops.cuda.emulate import EmulationError, emulated, needs_emulation

SOURCE = str(Path(__file__).with_name("primitives.cu"))
pytestmark = needs_emulation


def run(name, template, grid, *arguments, threads=32, shared=0, backwards=False):
    with emulated(backwards):
        launch.launch(KernelSpec(SOURCE, name, threads), template, grid, *arguments, shared=shared)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_conversions_round_as_torch_does(kind):
    g = torch.Generator().manual_seed(0)
    exponent = torch.randint(-30, 20, (4000,), generator=g)
    values = torch.randn(4000, generator=g) * torch.exp2(exponent)
    special = torch.tensor([0.0, -0.0, 1e-8, 65504, 65520, 1e30, torch.inf, -torch.inf, torch.nan, 1.00390625])
    values = torch.cat((values, special))
    out = torch.empty(len(values), dtype=kind)
    run("convert", ("float", STORAGE[kind]), [-(-len(values) // 64)], values, out, len(values), threads=64)
    torch.testing.assert_close(out, values.to(kind), rtol=0, atol=0, equal_nan=True)
    back = torch.empty(len(values))
    run("convert", (STORAGE[kind], "float"), [-(-len(values) // 64)], out, back, len(values), threads=64)
    torch.testing.assert_close(back, out.float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("backwards", [False, True])
def test_block_reductions(backwards):
    values = torch.randn(3, 96, generator=torch.Generator().manual_seed(0))
    sums, peaks = torch.empty(3), torch.empty(3)
    run("reduce", (96,), [3], values, sums, peaks, threads=96, backwards=backwards)
    torch.testing.assert_close(sums, values.sum(1))
    assert torch.equal(peaks, values.amax(1))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("by", ["element", "matrix"])
def test_tensor_core_fragments(kind, by):
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(16, 16, generator=g).to(kind), torch.randn(16, 16, generator=g).to(kind)
    out = torch.empty(16, 8)
    arguments = (a, b[:, :8].contiguous() if by == "element" else b, out)
    run(f"mma_by_{by}", (STORAGE[kind],), [1], *arguments, shared=1024)
    torch.testing.assert_close(out, a.float() @ b[:, :8].float())


def test_shuffles_and_votes():
    out = torch.empty(7, 48, dtype=torch.int32)
    run("lanes", (), [1], out, threads=48)
    i = torch.arange(48)
    lane = i % 32
    assert torch.equal(out[0, :32], (100 + (i ^ 5))[:32].int())
    assert torch.equal(out[1], (100 + torch.where(lane % 8 < 5, i + 3, i)).int())
    assert torch.equal(out[2], (100 + torch.where(lane >= 2, i - 2, i)).int())
    assert torch.equal(out[3], (100 + i // 4 * 4 + 1).int())
    assert torch.equal(out[4], torch.tensor([11] * 32 + [5] * 16).int())
    assert out[5, :5].tolist() == [7, 7, 6, 6, 6]
    assert (out[6] == 24).all()


def test_faults_are_reported():
    out = torch.zeros(32, dtype=torch.int32)
    run("faulty", (), [1], out, 32, 0)
    with pytest.raises(EmulationError, match="deadlock"):
        run("faulty", (), [1], out, 32, 1)
    with pytest.raises(EmulationError, match="outside of its tensors"):
        run("faulty", (), [1], out, 32, 2)
    with pytest.raises(EmulationError, match=r"takes \(\*i4, i4, i4\) but is passed \(\*f4, i4, f4\)"):
        run("faulty", (), [1], out.float(), 32, 0.5)
    with pytest.raises(EmulationError, match="shared"):
        run("faulty", (), [1], out, 32, 0, shared=300 << 10)
    with pytest.raises(EmulationError, match="beyond what the launch asked for"):
        run("faulty", (), [1], out, 32, 4, shared=128)
    run("faulty", (), [1], out, 32, 4, shared=256)


def test_a_missing_barrier_shows_in_the_other_order():
    forwards, backwards = (torch.full((32,), 5, dtype=torch.int32) for _ in range(2))
    run("faulty", (), [1], torch.full((32,), 9, dtype=torch.int32), 32, 3)
    run("faulty", (), [1], forwards, 32, 3)
    run("faulty", (), [1], torch.full((32,), 9, dtype=torch.int32), 32, 3)
    run("faulty", (), [1], backwards, 32, 3, backwards=True)
    assert not torch.equal(forwards, backwards)


def test_arguments_are_checked_before_a_launch():
    out = torch.zeros(4, 4, dtype=torch.int32)
    with pytest.raises(ValueError, match="not contiguous"):
        run("faulty", (), [1], out.T[1:], 32, 0)
    with pytest.raises(ValueError, match="does not fit"):
        run("faulty", (), [1], out, 2**31, 0)
    run("faulty", (), [1], None, np.int32(3), 5)


@pytest.mark.skipif(bool(nvrtc_reasons()), reason="; ".join(nvrtc_reasons()))
def test_the_same_source_compiles_for_a_gpu():
    expressions = ["convert<float, __nv_bfloat16>", "reduce<96>", "lanes", "faulty"]
    expressions += [f"mma_by_{by}<{kind}>" for by in ("element", "matrix") for kind in ("__half", "__nv_bfloat16")]
    used = resources(compile_cubin(SOURCE, expressions, "sm_80"))
    assert set(used) == set(expressions) and all(kernel.registers > 0 for kernel in used.values())
