"""ovseg.content: a watch notices every change and nothing else."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from ovseg import content
from ovseg.content import Fingerprint, Watch, barrier_reasons, checksum, content_sha256, watchable, weights_of
from tests.weight_edits import EDITS

needs_barrier = pytest.mark.skipif(bool(barrier_reasons()), reason=f"no lazy clones: {barrier_reasons()}")


@pytest.fixture(params=["addresses", "checksums"])
def kind(request, monkeypatch):
    """Both ways of noticing: addresses where torch can, checksums elsewhere."""
    if request.param == "checksums":
        monkeypatch.setattr(content, "barrier_reasons", lambda device: ("switched off",))
    elif barrier_reasons():
        pytest.skip(str(barrier_reasons()))


def tensors(module):
    return list(weights_of(module).values())


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_is_noticed(edit, kind):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 5))
    watch = Watch(tensors(module))
    assert watch.holds(tensors(module))
    edited = EDITS[edit](module)
    assert not watch.holds(tensors(edited))
    assert Watch(tensors(edited)).holds(tensors(edited))


def test_reading_is_no_change(kind):
    weight = nn.Parameter(torch.randn(5, 6), requires_grad=False)
    watch = Watch([weight])
    for read in (weight.data_ptr, weight.numpy, lambda: torch.save(weight, "/dev/null"), lambda: weight @ weight.T):
        read()
        assert watch.holds([weight])
    weight.data[0, 0] = 9  # and the watch is armed again
    assert not watch.holds([weight])


def test_back_to_the_old_values_is_no_change(kind):
    weight = torch.randn(5, 6)
    watch, old = Watch([weight]), weight.clone()
    weight.add_(1)
    weight.copy_(old)
    assert watch.holds([weight])


def test_memory_of_numpy_is_watched_by_content():
    array = np.zeros((3, 4), np.float32)
    weight = torch.from_numpy(array)
    watch = Watch([weight])
    assert not watchable(weight) and watch.holds([weight])
    array[2, 3] = 1e-30
    assert not watch.holds([weight])


def test_numpy_view_made_before_the_watch():
    weight = torch.zeros(3, 4)
    array = weight.numpy()
    watch = Watch([weight])
    array[0, 0] = 1
    assert not watch.holds([weight])


def test_shape_dtype_and_number_count(kind):
    weight = torch.zeros(2, 6)
    watch = Watch([weight])
    assert not watch.holds([weight.view(6, 2)]) and not watch.holds([weight.to(torch.float64)])
    assert not watch.holds([]) and not watch.holds([weight, weight])
    assert not watch.holds([weight.T.contiguous().T]), "another order in memory"


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]
)
def test_checksum_sees_single_values_swaps_and_signs(dtype, monkeypatch):
    monkeypatch.setattr(content, "CHUNK", 7)
    values = (torch.arange(40) % 3).to(dtype)
    before = int(checksum(values))
    assert int(checksum(values.clone())) == before
    for place in (0, 6, 7, 39):
        other = values.clone()
        other[place] = 1 - other[place] if dtype != torch.bool else ~other[place]
        if not torch.equal(other, values):
            assert int(checksum(other)) != before
    swapped = values.clone()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert int(checksum(swapped)) != before
    chunks = torch.cat([values[7:14], values[:7], values[14:]])
    assert int(checksum(chunks)) != before
    assert int(checksum(torch.zeros(0, dtype=dtype))) == 0


def test_nan_equals_itself(kind):
    weight = torch.full((3,), float("nan"))
    watch = Watch([weight])
    weight.numpy()
    assert watch.holds([weight])


def test_copies_watch_nothing():
    weight = torch.zeros(3)
    for watch in (copy.deepcopy(Watch([weight])), pickle.loads(pickle.dumps(Watch([weight])))):
        assert not watch.holds([weight])


class Layer(nn.Linear):
    def weights(self):
        return weights_of(self)


def test_weights_are_those_of_the_state():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4))
    module.register_buffer("scratch", torch.zeros(2), persistent=False)
    found, state = weights_of(module), module.state_dict()
    assert list(found) == list(state) and all(torch.equal(found[name], state[name]) for name in state)
    assert found["1.weight"] is module[1].weight


def test_a_kept_state_dict_hides_nothing():
    module = nn.Linear(3, 4)
    kept = module.state_dict()
    watch = Watch(tensors(module))
    kept["weight"][0, 0] += 1
    assert not watch.holds(tensors(module))


def test_fingerprint_is_computed_once_per_content(monkeypatch):
    module, calls = Layer(3, 4), []
    monkeypatch.setattr(content, "content_sha256", lambda t: calls.append(1) or content_sha256(t))
    fingerprint = Fingerprint()
    first = fingerprint(module.weights())
    assert fingerprint(module.weights()) == first == content_sha256(module.state_dict()) and len(calls) == 1
    module.weight.data[0, 0] += 1
    assert fingerprint(module.weights()) != first and len(calls) == 2
    module.weight.data[0, 0] -= 1
    assert copy.deepcopy(fingerprint)(module.weights()) == fingerprint(module.weights())


@needs_barrier
def test_a_watch_takes_no_memory_and_no_time():
    weights = [torch.ones(1000, 1000) for _ in range(20)]
    watch = Watch(weights)
    assert all(
        torch._C._data_address(s.clone) == torch._C._data_address(w) for s, w in zip(watch._seen, weights, strict=True)
    )


def test_kept_matrices_are_no_inference_tensors():
    from ovseg.ops import bilinear_matrix
    from ovseg.windows import SlidingWindows

    with torch.inference_mode(), torch.device("meta"):
        matrix = bilinear_matrix(5, 23)
        axis = SlidingWindows(16, 9).layout(37, 41, 8).axis_matrix(0, 2, 29)
    for kept in (matrix, axis):
        assert not kept.is_inference() and kept.device.type == "cpu" and kept.dtype == torch.float32
    (torch.ones(5, requires_grad=True) @ matrix.T).sum().backward()
