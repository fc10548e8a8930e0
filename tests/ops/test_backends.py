"""Every back-end of every operator against the definition, on random calls."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovseg import ops
from ovseg.ops import dispatch
from tests.ops.cases import CASES

PAIRS = [(name, backend) for name in ops.operators() for backend in dispatch.backends(name) if backend != "reference"]


def test_every_operator_has_a_definition_and_a_case():
    assert set(CASES) == set(ops.operators())
    assert all("reference" in dispatch.backends(name) for name in ops.operators())


@pytest.mark.parametrize(("operator", "backend"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_backend_matches_definition(operator, backend, data):
    reasons = dispatch.backends(operator)[backend].unavailable_reasons()
    if reasons:
        pytest.skip("; ".join(reasons))
    case = data.draw(CASES[operator])
    case.agree(case.run(backend), case.run("reference"))
