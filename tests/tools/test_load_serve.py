"""The load on a service: every refusal that is due comes, and what is not due is told."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from ovseg.serve import Limits  # noqa: E402
from ovseg.serve.app import Service  # noqa: E402
from tests.bulk.jobs import Segmenter, write_photos  # noqa: E402
from tools import load_serve  # noqa: E402


@contextmanager
def serving(**limits):
    """A service of the stand-in for a model on a free port."""
    service = Service(Segmenter(), Limits(**limits))
    server = uvicorn.Server(uvicorn.Config(service.app, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def load(base, photos, until):
    """Half of the requests must be refused, until ``until`` holds."""
    found, deadline = load_serve.Load(base, photos, 2, 0.5), time.monotonic() + 60
    while not until(found) and time.monotonic() < deadline:
        time.sleep(0.02)
    found.ending.set()
    found.join()
    return found


@pytest.fixture
def photos(tmp_path):
    return load_serve.photos_of(write_photos(tmp_path / "photos", 3, side=48))


def test_photos_come_at_four_sizes(photos):
    assert len(photos) == 12 and all(photo.startswith(b"\xff\xd8") for photo in photos)


def test_every_kind_of_refusal_comes_and_is_counted(photos):
    limits = dict(megabytes=load_serve.MEGABYTES, pixels=load_serve.PIXELS, classes=load_serve.CLASSES)
    with serving(**limits) as base:
        found = load(base, photos, lambda load: load.done and all(load.refused.values()))
        text = httpx.get(f"{base}/metrics").text
    assert not found.other and found.done and all(found.refused.values())
    assert f'ovseg_requests_total{{outcome="done"}} {len(found.done)}' in text
    words = sum(len(found.refused[name]) for name, fault in load_serve.FAULTS.items() if fault.kind == "words")
    assert f'ovseg_requests_total{{outcome="words"}} {words}' in text
    assert found.answered == len(found.done) + sum(map(len, found.refused.values()))


def test_what_is_not_due_is_told(photos):
    with serving(classes=1000, prompts=2000, megabytes=load_serve.MEGABYTES, pixels=load_serve.PIXELS) as base:
        found = load(base, photos, lambda load: load.other)
    assert set(found.other) == {"too many classes: done"}


def test_a_service_that_is_gone_is_told(photos):
    with serving() as base:
        pass
    found = load(base, photos, lambda load: load.other)
    assert all(name.endswith(": ConnectError") for name in found.other) and not found.answered


def test_percentiles():
    assert load_serve._percentiles("refused_", [0.001 * n for n in range(101)]) == {
        "refused_p50_ms": 50,
        "refused_p95_ms": 95,
        "refused_p99_ms": 99,
    }
    assert set(load_serve._percentiles("", []).values()) == {""}
