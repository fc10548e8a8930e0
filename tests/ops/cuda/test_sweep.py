"""The CUDA back-ends on random calls (``tests/ops/cases.py``) against the definition, emulated on the CPU.

The kernels' own source runs, through the Python code that launches them on a GPU. The attention kernels, whose
instantiations take longer to compile, have ``test_attention_emulated.py``.
"""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ops.cases import CASES
from tests.ops.cuda.emulate import emulated, needs_emulation
from tests.ops.test_backends import check_case

pytestmark = needs_emulation
# How many calls are drawn. Types, dilations and k are template arguments: their calls need many kernels to be compiled.
EXAMPLES = {
    "pamr_affinity": 4,
    "pamr_apply": 4,
    "upsample_argmax": 12,
    "separable_argmax": 12,
    "region_pool": 12,
    "confusion_matrix": 12,
}
MANY_KERNELS = ("separable_topk", "region_vote")  # test_kernels.py has a few calls of these


def sweep(operator, **options):
    """Random calls, each with the threads of a block in both orders."""

    @settings(deadline=None, suppress_health_check=list(HealthCheck), **options)
    @given(data=st.data())
    def check(data):
        case = data.draw(CASES[operator])
        for backwards in (False, True):
            with emulated(backwards):
                check_case(case, "cuda", "cpu")

    check()


@pytest.mark.parametrize("operator", EXAMPLES)
def test_emulated_backend_matches_definition(operator):
    sweep(operator, max_examples=EXAMPLES[operator], derandomize=True)  # the same kernels in every run


@pytest.mark.slow
@pytest.mark.parametrize("operator", (*EXAMPLES, *MANY_KERNELS))
def test_emulated_backend_matches_definition_on_many_calls(operator):
    sweep(operator, max_examples=100)


def test_emulation_takes_tensors_on_the_cpu_only_within_its_context():
    from ovseg import ops

    labels = torch.zeros(3, 3, dtype=torch.int32)
    with emulated():
        assert torch.equal(ops.region_vote(labels, labels, 1, backend="cuda"), labels)
    with pytest.raises(ops.UnsupportedCallError):
        ops.region_vote(labels, labels, 1, backend="cuda")
