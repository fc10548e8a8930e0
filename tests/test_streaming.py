"""Streams: order, errors in their place, bounded memory, a clean end."""

import threading
import time

import numpy as np
import pytest

import ovseg
from ovseg.datasets.errors import ImageReadError
from ovseg.streaming import WriteBehind, in_batches, read_ahead


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "ovseg-reader" and t.is_alive()]


def test_items_come_in_order_with_their_errors():
    def read(x):
        if x % 3 == 0:
            raise OSError(f"bad {x}")
        return 10 * x

    found = list(read_ahead(range(7), read, 2))
    assert [(s, i) for s, i, e in found if e is None] == [(s, 10 * s) for s in (1, 2, 4, 5)]
    assert [(s, str(e)) for s, _, e in found if e is not None] == [(s, f"bad {s}") for s in (0, 3, 6)]
    assert not readers()


def test_no_more_is_read_than_was_asked_for():
    started, taken = [], 0
    for source, _, _ in read_ahead(iter(range(50)), lambda x: started.append(x) or x, 3):
        time.sleep(0.005)
        taken += 1
        assert len(started) <= taken + 3 + 1 and source == taken - 1


def test_an_early_end_closes_thread_and_source():
    closed = threading.Event()

    def sources():
        try:
            yield from range(1000)
        finally:
            closed.set()

    stream = read_ahead(sources(), lambda x: x, 2)
    assert next(stream)[0] == 0
    stream.close()
    assert closed.wait(5) and not readers()


def test_what_the_source_raises_is_raised_at_its_place():
    def sources():
        yield 1
        raise RuntimeError("disk is gone")

    stream = read_ahead(sources(), lambda x: x, 2)
    assert next(stream)[0] == 1
    with pytest.raises(RuntimeError, match="disk is gone"):
        next(stream)


def test_a_spoiled_batch_is_done_one_by_one():
    calls = []

    def work(sources, items):
        calls.append(list(items))
        if 2 in items:
            raise MemoryError("two")
        return [-i for i in items]

    found = list(in_batches(range(5), lambda x: x, work, 4))
    assert [r for _, r, e in found if e is None] == [0, -1, -3, -4]
    assert [(s, type(e)) for s, _, e in found if e is not None] == [(2, MemoryError)]
    assert calls == [[0, 1, 2, 3], [0], [1], [2], [3], [4]]


@pytest.fixture(scope="module")
def model():
    model = ovseg.load("clearclip", weights="nano", short_side=112)
    model.set_vocabulary(["cat", "sofa", "grass"])
    return model


def photos() -> list:
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 255, (3, w, 3), np.uint8), np.ones((40, 40, 1), np.uint8)) for w in (4, 3, 4, 5, 4)]


def test_a_stream_gives_what_segment_gives(model):
    given = photos()
    given[1:1], given[4:4] = [b"no picture"], ["/nowhere/photo.jpg"]
    for batch in (1, 3, 50):
        found = list(model.stream(iter(given), batch=batch, top=2))
        assert len(found) == len(given)
        for source, result in zip(given, found, strict=True):
            if isinstance(source, np.ndarray):
                alone = model.segment(source, top=2)
                np.testing.assert_array_equal(result.labels, alone.labels)
                np.testing.assert_array_equal(result.top_classes, alone.top_classes)
            else:
                assert isinstance(result, ovseg.FailedPhoto) and result.source is source
                assert isinstance(result.error, ImageReadError)
    assert not readers()


def test_a_stream_raises_where_it_is_told_to(model):
    stream = model.stream([photos()[0], b"no picture", photos()[0]], batch=1, on_error="raise")
    assert next(stream).labels.shape == (120, 160)
    with pytest.raises(ImageReadError):
        next(stream)
    assert not readers()


def test_a_stream_keeps_its_words_and_ends_when_it_is_left(model):
    stream = model.stream((photo for _ in range(100) for photo in photos()), batch=2)
    model.set_vocabulary(["dog", "tree"])
    try:
        assert next(stream).names == ("cat", "sofa", "grass")
    finally:
        model.set_vocabulary(["cat", "sofa", "grass"])
    stream.close()
    assert not readers()


def test_a_stream_says_at_once_what_is_wrong(model):
    with pytest.raises(ValueError, match="batch is 0"):
        model.stream([], batch=0)
    with pytest.raises(ValueError, match="on_error is 'ignore'"):
        model.stream([], on_error="ignore")
    with pytest.raises(TypeError, match="not a single str"):
        model.stream("photo.jpg")
    with pytest.raises(ValueError, match="no vocabulary"):
        ovseg.load("clearclip", weights="nano").stream([])
    assert list(model.stream([])) == []


def test_what_is_put_is_done_in_order_behind_the_caller():
    done, begun = [], threading.Event()

    def consume(item):
        begun.wait(5)
        done.append(item)

    with WriteBehind(consume, 3) as behind:
        for item in range(3):
            behind.put(item)
        assert not done  # the caller went on
        begun.set()
    assert done == [0, 1, 2]


def test_an_error_behind_is_raised_here_and_ends_the_work():
    done = []

    def consume(item):
        if item == 1:
            raise OSError("disk full")
        done.append(item)

    with pytest.raises(OSError, match="disk full"):
        with WriteBehind(consume, 2) as behind:
            for item in range(50):
                behind.put(item)
                time.sleep(0.002)
    assert done == [0] and item < 49
    with pytest.raises(OSError, match="disk full"):  # of the last item: at the end
        with WriteBehind(consume, 2) as behind:
            behind.put(1)


def test_an_error_of_the_caller_is_the_one_that_is_raised():
    done = []
    with pytest.raises(KeyError):
        with WriteBehind(done.append, 2) as behind:
            behind.put(0)
            raise KeyError
    assert done == [0] and not [t for t in threading.enumerate() if t.name == "ovseg-writer"]
