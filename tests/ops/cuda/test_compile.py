"""Every kernel compiles for every architecture without a GPU, spills nothing and fits; the resource arithmetic."""

import csv
from pathlib import Path

import pytest

import ovseg.ops  # noqa: F401  (registers the kernels)
from ovseg.ops.cuda import compile as nvrtc
from ovseg.ops.cuda import kernels, roofline, table
from ovseg.ops.cuda.compile import CompilationError, Resources, occupancy

DOCS = Path(__file__).parents[3] / "docs"
SOURCES = sorted({spec.source for spec in kernels.kernels()})
needs_nvrtc = pytest.mark.skipif(bool(nvrtc.nvrtc_reasons()), reason="; ".join(nvrtc.nvrtc_reasons()))


@needs_nvrtc
@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("source", SOURCES)
def test_compiles_without_spills(source, arch):
    rows = table.rows(source, arch)
    assert rows and not [(row.expression, fault) for row in rows for fault in table.faults(row)]


def test_every_source_file_is_in_the_table():
    assert SOURCES == sorted(path.name for path in kernels.FOLDER.glob("*.cu"))


@pytest.mark.parametrize("source", SOURCES)
def test_sources_obey_what_the_emulation_needs(source):
    text = (kernels.FOLDER / source).read_text()
    assert "<<<" not in text and "extern __shared__" not in text and "asm" not in text


def test_the_committed_tables_are_those_of_the_registered_kernels():
    """Registers depend on the compiler's version; which kernels, architectures and calls there are does not."""
    with (DOCS / "cuda_kernels.csv").open() as file:
        committed = {(row["source"], row["kernel"], row["arch"]) for row in csv.DictReader(file)}
    expected = {(k.source, e, arch) for k in kernels.kernels() for e in k.expressions() for arch in nvrtc.ARCHITECTURES}
    assert committed == expected, "run `python tools/kernel_table.py --write`"
    with (DOCS / "cuda_roofline.csv").open() as file:
        assert list(csv.DictReader(file)) == [work.cells() for work in roofline.works()]


@needs_nvrtc
def test_errors_carry_the_log_of_the_compiler():
    with pytest.raises(CompilationError, match=r"broken.cu for sm_90: broken.cu\(1\): error"):
        nvrtc.compile_text('__global__ void f() { int x = "a"; }', ["f"], "sm_90", "broken.cu")


@needs_nvrtc
def test_resources_see_registers_shared_memory_and_spills():
    text = """
    template <int N> __global__ void busy(float* p) {
      __shared__ float s[100];
      float a[N];
      s[threadIdx.x] = p[threadIdx.x];
      __syncthreads();
      for (int i = 0; i < N; ++i) a[i] = p[i * 64 + threadIdx.x];
      float sum = s[threadIdx.x ^ 1];
      for (int i = 0; i < N; ++i) for (int j = 0; j < N; ++j) sum += a[i] * a[j];
      p[0] = sum;
    }"""
    used = nvrtc.resources(nvrtc.compile_text(text, ["busy<2>", "busy<300>"], "sm_80"))
    assert used["busy<2>"].shared == 400 and 0 < used["busy<2>"].registers < 64 and used["busy<2>"].spill_stores == 0
    assert used["busy<300>"].registers == 255 and used["busy<300>"].spill_stores > 0 and used["busy<300>"].stack > 0


# (architecture, registers, static shared, threads, dynamic shared) -> share of the threads, worked out by hand
OCCUPANCY = [
    ("sm_80", 32, 0, 256, 0, 1.0),  # 8 blocks of 256 threads
    ("sm_80", 33, 0, 256, 0, 0.75),  # 40 registers are given out: 65536 / (40 * 256) = 6 blocks
    ("sm_90", 128, 0, 256, 0, 0.25),  # 2 blocks
    ("sm_90", 255, 0, 1024, 0, 0.0),  # a block needs more registers than there are
    ("sm_90", 32, 0, 128, 100 << 10, 2 * 128 / 2048),  # 228 KiB hold two blocks of 101 KiB
    ("sm_80", 32, 0, 128, 100 << 10, 128 / 2048),  # 164 KiB hold one
    ("sm_80", 32, 1024, 128, 163 << 10, 0.0),
    ("sm_90", 16, 0, 32, 0, 0.5),  # 32 blocks at most
]


@pytest.mark.parametrize(("arch", "registers", "static", "threads", "dynamic", "expected"), OCCUPANCY)
def test_occupancy(arch, registers, static, threads, dynamic, expected):
    assert occupancy(arch, Resources(registers, static, 0, 0, 0), threads, dynamic) == expected


def test_faults_of_a_row():
    spec = kernels.KernelSpec("pamr.cu", "pamr_apply", 256, shared=200 << 10)
    spilling = Resources(64, 0, 8, 8, 8)
    assert len(table.faults(table.Row(spec, "pamr_apply", "sm_80", spilling, 0.5))) == 2
    assert not table.faults(table.Row(spec, "pamr_apply", "sm_90", Resources(64, 0, 0, 0, 0), 0.5))


def test_roofline_of_the_correlation_attention():
    """Two products of 2 N^2 d on the tensor cores at 989 TFLOP/s; memory is in no way."""
    work = next(w for w in roofline.attention(16384) if w.operator == "correlation_attention")
    assert work.floor() == pytest.approx(4 * 16384**2 * 768 / 989e12 * 1e6) == pytest.approx(833.8, abs=0.1)
    assert work.times()["memory"] == pytest.approx(3 * 16384 * 768 * 2 / 3.35e12 * 1e6)


def test_headers_are_written_out_once():
    text = kernels.source_text("pamr.cu")
    assert '.cuh"' not in text and text.count("DEVICE T warp_reduce(") == 1


def test_registering_a_kernel_twice_or_without_a_file_is_an_error():
    with pytest.raises(ValueError, match="registered twice"):
        kernels.kernel("pamr.cu", "pamr_apply", 256)
    with pytest.raises(ValueError, match="no file"):
        kernels.kernel("magic.cu", "magic", 256)
