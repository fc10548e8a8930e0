"""Finding CuPy, declining without it, and what a launch hands to CuPy (a stand-in here: there may be no GPU)."""

import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from ovseg import ops
from ovseg.ops import dispatch
from ovseg.ops.cuda import launch
from ovseg.ops.cuda.kernels import KernelSpec

SPEC = KernelSpec("pamr.cu", "pamr_apply", 256)
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture
def fresh():
    """`cuda_reasons` asks once per process."""
    launch.cuda_reasons.cache_clear()
    yield
    launch.cuda_reasons.cache_clear()


def test_without_cupy_the_reason_says_how_to_get_it(fresh, monkeypatch):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    assert 'CuPy is not installed (pip install "ovseg[cuda]")' in launch.cuda_reasons()


def test_cupy_that_finds_no_driver_is_a_reason(fresh, monkeypatch):
    """CuPy imports without a driver: only its is_available() tells."""
    cupy = types.SimpleNamespace(__version__="14.2.0", is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "CuPy 14.2.0 finds no GPU" in launch.cuda_reasons()[0]


@without_gpu
def test_without_a_gpu_every_operator_has_a_reason_and_another_back_end():
    for row in ops.backend_report():
        assert row["backend"] == "torch" and row["reasons"].startswith("cuda: ")
    labels = torch.zeros(2, 2, dtype=torch.int32)
    with pytest.raises(ops.UnsupportedCallError, match="CuPy|torch"):
        ops.region_vote(labels, labels, 1, backend="cuda")
    assert torch.equal(ops.region_vote(labels, labels, 1), labels)


def test_every_operator_has_a_cuda_back_end_for_three_float_types():
    for name in ops.operators():
        backend = dispatch.backends(name)["cuda"]
        assert backend.devices == {"cuda"}
        assert {torch.float32, torch.float16, torch.bfloat16} == backend.dtypes


def test_importing_ovseg_does_not_import_cupy():
    code = "import sys, ovseg.ops; assert 'cupy' not in sys.modules; assert not any('nvrtc' in m for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class Recorder:
    """Stands in for CuPy and records what reaches the kernel."""

    class RawModule:
        def __init__(self, **options):
            Recorder.module = options

        def get_function(self, name):
            Recorder.function = Recorder(name)
            return Recorder.function

    def __init__(self, name):
        self.name, self.max_dynamic_shared_size_bytes = name, 48 << 10

    def __call__(self, *call, **options):
        self.call, self.options, self.stream = call, options, Recorder.current

    class Stream:
        def __init__(self, pointer, device):
            self.key = pointer, device

        def __enter__(self):
            Recorder.current = self.key

        def __exit__(self, *_):
            Recorder.current = None


def test_what_a_launch_hands_to_cupy(monkeypatch):
    import contextlib

    device = contextlib.nullcontext
    cuda = types.SimpleNamespace(Device=lambda index: device(), ExternalStream=Recorder.Stream)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(RawModule=Recorder.RawModule, cuda=cuda))
    monkeypatch.setattr(torch.cuda, "device", lambda d: device())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda d: types.SimpleNamespace(cuda_stream=1234))
    launch._compiled.cache_clear()
    tensor = torch.zeros(3)
    arguments = (tensor, None, 7, 0.5, np.int64(2**40), True)
    launch.launch(SPEC, ("float", "float", 2, 4), (5, 6), *arguments, shared=60 << 10)
    launch._compiled.cache_clear()
    function = Recorder.function
    assert function.name == "pamr_apply<float, float, 2, 4>" and function.name in Recorder.module["name_expressions"]
    assert Recorder.module["backend"] == "nvrtc" and "--std=c++17" in Recorder.module["options"]
    assert function.stream == (1234, None)  # the stream that torch works on
    assert function.max_dynamic_shared_size_bytes == 60 << 10 and function.options == {"shared_mem": 60 << 10}
    grid, block, values = function.call
    assert (grid, block) == ((5, 6, 1), (256, 1, 1))
    assert values[:2] == (tensor.data_ptr(), 0)
    assert [type(v) for v in values[2:]] == [np.int32, np.float32, np.int64, np.int32]
