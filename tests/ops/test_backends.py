"""Every back-end of every operator against the definition, on random calls, on the CPU and on a GPU if there is one.

Without a GPU the CUDA back-ends take the same sweep in ``tests/ops/cuda/test_sweep.py``, emulated on the CPU.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from ovseg import ops
from ovseg.ops import dispatch
from tests.ops.cases import CASES

PAIRS = [(name, backend) for name in ops.operators() for backend in dispatch.backends(name) if backend != "reference"]
DEVICES = ("cpu", "cuda")
EXAMPLES = int(os.environ.get("OVSEG_EXAMPLES", "40"))
"""Random calls of each pair; more of them on a GPU, where they cost little (``tools/gpu_check.py``)."""


def test_every_operator_has_a_definition_and_a_case():
    assert set(CASES) == set(ops.operators())
    assert all("reference" in dispatch.backends(name) for name in ops.operators())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("operator", "backend"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_backend_matches_definition(operator, backend, device, data):
    implementation = dispatch.backends(operator)[backend]
    if reasons := implementation.unavailable_reasons():
        pytest.skip("; ".join(reasons))
    if implementation.devices is not None and device not in implementation.devices:
        pytest.skip(f"back-end {backend} is for {sorted(implementation.devices)}")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    check_case(data.draw(CASES[operator]), backend, device)


def check_case(case, backend, device):
    """A back-end may decline a call (`Backend.not_supported_reasons`), though not all; what it takes must agree."""
    try:
        result = case.run(backend, device)
    except ops.UnsupportedCallError:
        reject()
    case.agree(result, case.run("reference"))
