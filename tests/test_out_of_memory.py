"""Too little memory: batches of windows are halved, then one clear error."""

import numpy as np
import pytest
import torch

from ovseg.apis import Segmenter, method_config
from ovseg.errors import SetupError
from ovseg.out_of_memory import Halving, OutOfMemory, is_out_of_memory, told_when_out_of_memory

CPU = (
    "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory: you tried to allocate 1048576 bytes."
)
POSIX = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
)
ERRORS = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has 79 GiB"),
    "CPU": RuntimeError(CPU),
    "POSIX": RuntimeError(POSIX + "4096 bytes. Error code 12"),
    "NumPy": MemoryError("Unable to allocate 3 GiB for an array"),
}
PHOTO = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
WORDS = ["cat", "grass", "sky"]


class Windows:
    """Rows that are worked on."""

    def __init__(self, values):
        self.values = torch.tensor(values)

    def __len__(self):
        return len(self.values)

    def rows(self, wanted):
        return Windows(self.values[wanted].tolist())


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_errors_that_say_it(error):
    assert is_out_of_memory(error)
    tried = []

    def work(part):
        tried.append(len(part))
        if len(part) > 2:
            raise error
        return {"double": part.values * 2}

    halving = Halving()
    with pytest.warns(UserWarning, match="too little memory for 7 windows at once: 3 from now on"):
        found = halving(Windows(list(range(7))), work)
    assert found["double"].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert tried == [7, 3, 1, 1, 1, 1, 1, 1, 1] and halving.most == 1
    assert halving(Windows([5, 6]), work)["double"].tolist() == [10, 12] and tried[-2:] == [1, 1]  # learnt


def test_a_real_allocator_says_it():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("no"), OutOfMemory("said before")])
def test_other_errors_pass(error):
    assert not is_out_of_memory(error)
    calls = []

    def work(part):
        calls.append(len(part))
        raise error

    with pytest.raises(type(error)) as caught:
        Halving()(Windows([1, 2]), work)
    assert caught.value is error and calls == [2]
    with pytest.raises(type(error)) as caught, told_when_out_of_memory([(3, 4)]):
        raise error
    assert caught.value is error


def test_the_error_says_for_which_photos_and_what_to_do():
    sizes = [(30, 40), (5, 6), (7, 8), (9, 10)]
    with pytest.raises(
        SetupError, match=r"photos of 40 x 30, 6 x 5, 8 x 7, \.\.\. pixels \(2\.50 GiB more .*short_side"
    ):
        with told_when_out_of_memory(sizes):
            raise ERRORS["CUDA"]
    with pytest.raises(OutOfMemory, match=r"for a photo of 4 x 3 pixels \(1048576 bytes more"):
        with told_when_out_of_memory([(3, 4)]):
            raise ERRORS["CPU"]


def small_memory(model, monkeypatch, most, name="encode"):
    """Memory that holds no more than ``most`` windows at once."""
    stitch, seen = model.model.stitch, []
    work = getattr(stitch, name)

    def encode(batch, encoder):
        seen.append(len(batch))
        if len(batch) > most:
            raise RuntimeError(CPU)
        return work(batch, encoder)

    monkeypatch.setattr(stitch, name, encode)
    return seen


@pytest.mark.parametrize("method", ["naclip", "corrclip"])  # the second has region ids of every window
def test_windows_are_halved_and_labels_stay(method, monkeypatch):
    config = method_config(method, "nano")
    config.model.windows.update(crop=64, stride=32, batch=8)
    if method == "corrclip":
        config.model.regions = dict(type="SlicRegions")
    model = Segmenter(config=config, short_side=128)
    model.set_vocabulary(WORDS)
    whole = model.segment(PHOTO).labels
    seen = small_memory(model, monkeypatch, 3)
    with pytest.warns(UserWarning, match="too little memory for 8 windows at once: 4 from now on"):
        halved = model.segment(PHOTO).labels
    np.testing.assert_array_equal(halved, whole)
    assert seen[:4] == [8, 4, 2, 2] and max(seen[3:]) == 2
    np.testing.assert_array_equal(model.segment(PHOTO).labels, whole)
    assert max(seen[3:]) == 2


def test_one_window_that_does_not_fit_is_one_clear_error(monkeypatch):
    model = Segmenter("nano", "naclip", short_side=112)
    model.set_vocabulary(WORDS)
    seen = small_memory(model, monkeypatch, 0)
    with pytest.warns(UserWarning), pytest.raises(OutOfMemory, match=r"a photo of 200 x 150 pixels .*short_side"):
        model.segment(PHOTO)
    assert seen[-1] == 1


def test_an_attention_over_all_windows_of_a_photo_is_not_split(monkeypatch):
    model = Segmenter("nano", "naclip", short_side=112)
    model.set_vocabulary(WORDS)
    monkeypatch.setattr(model.model.attention, "window_scope", "image")
    seen = small_memory(model, monkeypatch, 1)
    with pytest.raises(OutOfMemory):
        model.segment(PHOTO)
    assert len(seen) == 1 and seen[0] > 1


def test_scores_that_do_not_fit_are_one_clear_error(monkeypatch):
    model = Segmenter("nano", "naclip", short_side=112)
    model.set_vocabulary(WORDS)

    def score(*arguments):
        raise ERRORS["CUDA"]

    monkeypatch.setattr(model.model.stitch, "score", score)
    with pytest.raises(OutOfMemory, match=r"200 x 150 pixels \(2\.50 GiB more"):
        model.segment(PHOTO)
