"""Choosing a back-end, and what the errors say."""

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ovseg import ops
from ovseg.ops import dispatch
from tests.ops.cases import CASES

LABELS = torch.tensor([[0, 1], [1, 1]], dtype=torch.int32)
REGIONS = torch.zeros(2, 2, dtype=torch.int32)


@pytest.fixture
def picky():
    """A back-end of region_vote that is preferred, takes int32 labels only and paints everything 7."""

    class Picky(ops.Backend):
        operator, name = "region_vote", "cuda"
        missing: list[str] = []

        def unavailable_reasons(self):
            return self.missing

        def not_supported_reasons(self, labels, regions, num_classes, skip_ids):
            return [] if labels.dtype == torch.int32 else [f"labels are {labels.dtype}, only int32 is supported"]

        def slower_reasons(self, labels, regions, num_classes, skip_ids):
            return ["larger maps are faster elsewhere"] if labels.numel() > 4 else []

        def run(self, labels, regions, num_classes, skip_ids):
            return torch.full_like(labels, 7)

    known = dispatch._backends["region_vote"]
    real = known.pop("cuda")
    ops.register(Picky)
    yield Picky
    known["cuda"] = real


def vote(labels=LABELS, **kwargs):
    return ops.region_vote(labels, REGIONS, 8, **kwargs).unique().tolist()


def test_preferred_backend_runs_unless_it_declines(picky):
    assert vote() == [7]
    assert vote(LABELS.long()) == [1]
    picky.missing = ["no such device"]
    assert vote() == [1]


def test_a_slower_backend_comes_last_unless_it_is_chosen(picky, monkeypatch):
    labels, regions = LABELS.repeat(2, 2), REGIONS.repeat(2, 2)
    assert ops.region_vote(labels, regions, 8).unique().tolist() == [1]
    assert ops.region_vote(labels, regions, 8, backend="cuda,torch").unique().tolist() == [7]
    monkeypatch.delitem(dispatch._backends["region_vote"], "torch")
    monkeypatch.delitem(dispatch._backends["region_vote"], "reference")
    assert ops.region_vote(labels, regions, 8).unique().tolist() == [7]  # better than none


def test_argument_beats_context_beats_environment(picky, monkeypatch):
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "torch")
    assert vote() == [1]
    with ops.use_backend("cuda"):
        assert vote() == [7]
        assert vote(backend="reference") == [1]
        assert vote() == [7]
    assert vote() == [1]


def test_selection_is_strict_and_gives_all_reasons(picky, monkeypatch):
    with pytest.raises(ops.UnsupportedCallError, match=r"cuda: labels are torch.int64, only int32.*OVSEG_OPS_BACKEND"):
        vote(LABELS.long(), backend="cuda")
    monkeypatch.delitem(dispatch._backends["confusion_matrix"], "cuda")
    with pytest.raises(ops.UnsupportedCallError, match="cuda: there is none for this operator"):
        ops.confusion_matrix(LABELS, LABELS, 3, backend="cuda")
    assert ops.not_supported_reasons("region_vote", "cuda", LABELS.long(), REGIONS, 8, ())


def test_default_capabilities_look_at_devices_and_types():
    class Half(ops.Backend):
        devices, dtypes = frozenset({"cuda"}), frozenset({torch.float16})

    reasons = Half().not_supported_reasons(torch.zeros(1), 3, torch.zeros(2))
    assert reasons == [
        "a tensor is on cpu, supported are ['cuda']",
        "a tensor has type torch.float32, supported are ['torch.float16']",
    ]


@pytest.mark.parametrize("names", ["fast", "torch,fast", " , "])
def test_unknown_backend_names_are_errors(names, monkeypatch):
    with pytest.raises(ValueError, match="choose from"):
        vote(backend=names)
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, names)
    with pytest.raises(ValueError, match="OVSEG_OPS_BACKEND"):
        vote()


def test_registering_twice_or_without_a_place_is_an_error():
    class Again(ops.Backend):
        operator, name = "region_vote", "torch"

    with pytest.raises(ValueError, match="already has a back-end"):
        ops.register(Again)
    Again.name = "magic"
    with pytest.raises(ValueError, match="no place in PREFERENCE"):
        ops.register(Again)
    with pytest.raises(KeyError, match="known are"):
        dispatch.backends("magic")


def test_report_names_the_live_backend_and_why_others_are_not(picky):
    picky.missing = ["CuPy is not installed"]
    row = next(r for r in ops.backend_report() if r["operator"] == "region_vote")
    assert row == {"operator": "region_vote", "backend": "torch", "reasons": "cuda: CuPy is not installed"}


def _attention(**changes):
    arguments = dict(features=torch.ones(1, 4, 2), values=torch.ones(1, 4, 3), scale=1.0) | changes
    return ops.correlation_attention(**arguments)


def _argmax(**changes):
    return ops.upsample_argmax(**(dict(scores=torch.rand(3, 2, 2), size=(4, 4)) | changes))


HEAD = torch.ones(1, 1, 4, 2)
ERRORS = [
    (lambda: ops.pamr(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, 2, 4, 4)), "image: .*floating point"),
    (lambda: ops.pamr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 5, 4)), "affinity: expected .*5, 4"),
    (lambda: ops.pamr_affinity(torch.zeros(3, 4, 4)), r"image: expected a non-empty tensor \[B, C, H, W\]"),
    (lambda: ops.pamr_affinity(torch.zeros(1, 3, 4, 4), (0,)), "dilations: expected positive"),
    (lambda: _argmax(scores=torch.full((3, 2, 2), torch.nan)), "scores: holds NaN"),
    (lambda: _argmax(size=(0, 4)), "size: expected a positive"),
    (lambda: _argmax(threshold=0.5), "background: needed"),
    (lambda: _argmax(threshold=1.5, background=0), "threshold: expected a probability"),
    (lambda: _argmax(logit_scale=0.0), "logit_scale: must be positive"),
    (lambda: _argmax(query_to_class=torch.zeros(2, dtype=torch.int64)), r"query_to_class: expected int64 \[3\]"),
    (lambda: _argmax(num_classes=2), "query_to_class: values 0..2 outside 0..1"),
    (lambda: _argmax(allowed=torch.zeros(3).bool()), "allowed: no class"),
    (lambda: ops.separable_argmax(torch.rand(2, 3, 3), torch.ones(4, 3), torch.eye(3)), "rows: weights must be"),
    (lambda: ops.separable_argmax(torch.rand(2, 3, 3), torch.eye(3), torch.eye(2)), "columns: has 2 columns"),
    (lambda: ops.separable_topk(torch.rand(2, 3, 3), torch.eye(3), torch.eye(3), k=3), r"k: expected 1..2"),
    (lambda: ops.region_vote(LABELS, REGIONS[:1], 3), "regions: expected .*like the labels"),
    (lambda: ops.region_vote(LABELS, REGIONS, 1), "labels: values 0..1 outside 0..0"),
    (lambda: ops.region_vote(LABELS.float(), REGIONS, 3), "labels: expected integers"),
    (lambda: ops.region_pool(torch.rand(3, 2, 2), REGIONS[:1]), "regions: expected"),
    (lambda: ops.confusion_matrix(LABELS, LABELS + 300, 300), "target: values 300..301 outside 0..299"),
    (lambda: _attention(mean_scope="image"), "mean_scope: expected one of"),
    (lambda: _attention(values=torch.ones(1, 5, 3)), "values: expected .*tokens of the features"),
    (lambda: _attention(unsegmented=torch.zeros(1)), "unsegmented: given without region_ids"),
    (lambda: _attention(region_ids=torch.zeros(1, 4)), "region_ids: expected integers"),
    (lambda: ops.self_self_attention(HEAD, HEAD, HEAD, terms=("qk",)), "terms: expected one of"),
    (lambda: ops.self_self_attention(HEAD, HEAD, HEAD, neighbour_std=5.0), "grid: needed"),
    (lambda: ops.self_self_attention(HEAD, HEAD, HEAD, neighbour_std=5.0, grid=(3, 2)), "grid: .* does not fit"),
    (lambda: ops.decomposed_attention(HEAD, HEAD, HEAD, torch.ones(3, 3, 2), torch.ones(2, 2, 2)), "q: 4 tokens"),
    (lambda: ops.relative_positions(torch.ones(3), 2), "table: expected"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors_name_the_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ops.operators())
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bound_to_torch_with_matching_fakes(name, data):
    """What torch.compile and export rely on: schema, fake shapes and strides, autograd registration."""
    case = data.draw(CASES[name])
    recorded = []
    original = dispatch.dispatch

    def record(operator, *args):
        recorded.append(args)
        return original(operator, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "dispatch", record)
        result = case.run(None)
    # opcheck takes NaN for a difference, and a row that keeps nothing is NaN where the case asks for it
    assume(not (isinstance(result, torch.Tensor) and result.isnan().any()))
    torch.library.opcheck(getattr(torch.ops.ovseg, name).default, recorded[-1])
