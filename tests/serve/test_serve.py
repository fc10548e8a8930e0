"""The service: answers, limits, metrics, micro-batching, the end."""

import asyncio
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

import ovseg
from ovseg.results import SegmentationResult
from ovseg.text import Vocabulary

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from ovseg.serve import Limits  # noqa: E402
from ovseg.serve.app import Service  # noqa: E402
from ovseg.serve.batcher import Batcher, Question, TooLate  # noqa: E402
from tests.bulk.jobs import Segmenter  # noqa: E402

RNG = np.random.default_rng(0)
PHOTO = np.kron(RNG.integers(1, 255, (3, 4, 3), np.uint8), np.ones((8, 8, 1), np.uint8))


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


class Client:
    """Asks an application in this process."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def many(self, requests: list[dict]) -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=self.service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await asyncio.gather(*(client.request(**{"method": "POST", **r}) for r in requests))

    def __call__(self, url: str, **options) -> httpx.Response:
        return asyncio.run(self.many([{"url": url, **options}]))[0]


@pytest.fixture
def client():
    clients = []

    def make(segmenter=None, limits=None, **options) -> Client:
        clients.append(Client(Service(segmenter or Segmenter(), limits or Limits(), **options)))
        return clients[-1]

    yield make
    for one in clients:
        one.service._batcher.close()


GREYS = "/v1/segment?classes=dark,middle,light"
EXPECTED = PHOTO.mean(2).astype(int) // 86


def test_every_format_is_the_labels(client):
    ask, names = client(), ("dark", "middle", "light")
    found = ask(GREYS, content=png(PHOTO)).json()
    codes = [
        {"category_id": int(i), "segmentation": {"size": [24, 32], "counts": c}} for i, c in found["counts"].items()
    ]
    assert np.array_equal(SegmentationResult.from_coco(codes, names).labels, EXPECTED)
    assert (found["height"], found["width"], found["names"]) == (24, 32, list(names))
    answer = ask(f"{GREYS}&format=png", content=png(PHOTO))
    assert answer.headers["content-type"] == "image/png" and json.loads(answer.headers["x-names"]) == list(names)
    assert np.array_equal(np.array(Image.open(io.BytesIO(answer.content))), EXPECTED)
    found = ask(f"{GREYS}&format=coco", content=png(PHOTO)).json()["annotations"]
    assert np.array_equal(SegmentationResult.from_coco(found, names).labels, EXPECTED)
    shares = {row["name"]: row["pixels"] for row in ask(f"{GREYS}&format=areas", content=png(PHOTO)).json()["classes"]}
    assert shares == {name: n for i, name in enumerate(names) if (n := int((EXPECTED == i).sum()))}


def test_json_says_the_same(client):
    body = {"image": base64.b64encode(png(PHOTO)).decode(), "classes": ["dark", "middle", "light"], "format": "areas"}
    ask = client()
    assert ask("/v1/segment", json=body).json() == ask(f"{GREYS}&format=areas", content=png(PHOTO)).json()


@pytest.mark.parametrize(
    ("url", "options", "status", "kind"),
    [
        (GREYS, {"content": b"no photo"}, 422, "photo"),
        (GREYS, {"content": b""}, 422, "empty"),
        (GREYS, {"content": bytes(30_000)}, 413, "bytes"),
        (GREYS, {"content": png(np.zeros((200, 200, 3), np.uint8))}, 422, "photo"),
        (f"{GREYS}&format=bmp", {"content": png(PHOTO)}, 422, "format"),
        (f"{GREYS}&background=sea", {"content": png(PHOTO)}, 422, "words"),
        ("/v1/segment", {"content": png(PHOTO)}, 422, "words"),
        ("/v1/segment?classes=cat,cat", {"content": png(PHOTO)}, 422, "words"),
        ("/v1/segment?classes=" + ",".join(f"w{i}" for i in range(9)), {"content": png(PHOTO)}, 422, "words"),
        ("/v1/segment?classes=cat," + "x" * 101, {"content": png(PHOTO)}, 422, "words"),
        ("/v1/segment?classes=" + "x" * 9000, {"content": png(PHOTO)}, 422, "words"),
        ("/v1/segment", {"json": {"image": "%%%", "classes": ["a"]}}, 422, "json"),
        ("/v1/segment", {"json": [1, 2]}, 422, "json"),
        ("/v1/segment", {"json": {"image": base64.b64encode(b"/etc/passwd").decode(), "classes": [1]}}, 422, "words"),
        ("/v1/segment", {"json": {"image": "AAAA", "classes": ["a", "b"], "background": ["a"]}}, 422, "words"),
        ("/v1/segment", {"content": b"[" * 9000, "headers": {"content-type": "application/json"}}, 422, "json"),
    ],
)
def test_what_is_refused_says_why(client, url, options, status, kind):
    ask = client(limits=Limits(megabytes=0.02, pixels=30_000, classes=8, prompts=16, letters=100))
    answer = ask(url, **options)
    assert (answer.status_code, answer.json()["kind"]) == (status, kind) and len(answer.json()["error"]) > 10
    assert f'ovseg_requests_total{{outcome="{kind}"}} 1' in ask("/metrics", method="GET").text


def test_no_request_opens_a_file(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("secret\nplaces\n")
    (tmp_path / "a.png").write_bytes(png(PHOTO))
    ask = client()
    for classes in ("words.txt", "words.txt,b", f"{tmp_path}/words.txt"):
        for request in (
            {"url": "/v1/segment", "params": {"classes": classes}, "content": png(PHOTO)},
            {"url": "/v1/segment", "json": {"image": base64.b64encode(png(PHOTO)).decode(), "classes": [classes]}},
        ):
            assert "secret" not in ask(**request).text
    for photo in (b"a.png", str(tmp_path / "a.png").encode(), b"file:///etc/hostname", b"http://127.0.0.1/a.png"):
        assert ask(GREYS, content=photo).json()["kind"] == "photo"


class Slow(Segmenter):
    """Waits for leave before each batch, and says how large it was."""

    def __init__(self) -> None:
        super().__init__()
        self.leave, self.batches, self.begun = threading.Semaphore(0), [], threading.Event()

    def encode_batch(self, arrays, names=None):
        self.begun.set()
        assert self.leave.acquire(timeout=20)
        self.batches.append(len(arrays))
        return super().encode_batch(arrays, names)


def question(image=PHOTO, words=("dark", "middle", "light"), seconds=30.0) -> Question:
    return Question(image, Vocabulary.of(list(words)), None, time.monotonic() + seconds)


def test_who_waits_meanwhile_shares_the_next_step():
    model = Slow()
    batcher = Batcher(model, batch=3)
    first = batcher.put(question())
    assert model.begun.wait(10)
    sizes = [(16, 8), (8, 24), (8, 8), (24, 24)]
    rest = [batcher.put(question(PHOTO[:h, :w], ("left", "right") if w == 8 else ("dark", "b", "c"))) for h, w in sizes]
    for _ in range(3):
        model.leave.release()
    assert [answer.result(10).labels.shape for answer in rest] == sizes and first.result(10).labels.shape == (24, 32)
    assert model.batches == [1, 3, 1]
    assert rest[0].result().names == ("left", "right") and np.array_equal(rest[3].result().labels, EXPECTED[:24, :24])
    batcher.close()
    with pytest.raises(RuntimeError):
        batcher.put(question())


def test_the_end_answers_what_waits():
    model = Slow()
    batcher = Batcher(model, batch=1)
    answers = [batcher.put(question()) for _ in range(4)]
    for _ in range(4):
        model.leave.release()
    batcher.close()
    assert all(answer.done() and answer.result().labels.shape == (24, 32) for answer in answers)


def test_late_and_cancelled_questions_cost_nothing():
    model = Slow()
    batcher = Batcher(model, batch=1)
    first = batcher.put(question())
    assert model.begun.wait(10)
    late, gone = batcher.put(question(seconds=0.0)), batcher.put(question())
    assert gone.cancel()
    model.leave.release()
    batcher.close()
    assert first.result().labels.shape == (24, 32) and model.batches == [1]
    with pytest.raises(TooLate):
        late.result()
    with pytest.raises(CancelledError):
        gone.result()


def test_an_error_is_that_of_its_question():
    red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    model = Slow()
    batcher = Batcher(model, batch=4)
    first = batcher.put(question())
    assert model.begun.wait(10)
    bad, good = batcher.put(question(red)), batcher.put(question())
    for _ in range(8):
        model.leave.release()
    assert good.result(10).labels.shape == (24, 32) and first.result(10)
    with pytest.raises(RuntimeError, match="no memory"):
        bad.result(10)
    batcher.close()


def test_more_than_is_taken_is_refused_and_late_answers_are_told(client):
    model = Slow()
    ask = client(model, Limits(waiting=2, seconds=1.0), batch=1)
    answers = asyncio.run(ask.many([{"url": GREYS, "content": png(PHOTO)}] * 5))
    kinds = sorted(answer.json()["kind"] for answer in answers)
    assert kinds == ["busy"] * 3 + ["late"] * 2
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert busy.headers["retry-after"] == "1" and {a.status_code for a in answers} == {503, 504}
    for _ in range(4):
        model.leave.release()


def test_health_and_metrics(client):
    ask = client()
    assert ask("/health", method="GET").json()["alive"] and ask("/ready", method="GET").status_code == 200
    for _ in range(3):
        assert ask(GREYS, content=png(PHOTO)).status_code == 200
    lines = ask("/metrics", method="GET").text.splitlines()
    assert 'ovseg_requests_total{outcome="done"} 3' in lines and "ovseg_requests_in_hand 0" in lines
    assert "ovseg_request_seconds_count 3" in lines and 'ovseg_request_seconds_bucket{le="+Inf"} 3' in lines
    assert 'ovseg_batch_photos_bucket{le="1"} 3' in lines and "# TYPE ovseg_batch_photos histogram" in lines
    ask.service.draining = True
    assert ask("/ready", method="GET").status_code == 503
    ask.service._batcher.close()
    assert ask("/health", method="GET").status_code == 500
    assert ask(GREYS, content=png(PHOTO)).json()["kind"] == "ending"


def test_an_error_of_the_model_is_told_without_its_inside(client):
    red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    answer = client()(GREYS, content=png(red))
    assert answer.status_code == 500 and answer.json()["error"] == "the model failed: RuntimeError"


def test_words_are_embedded_once(client):
    model = Segmenter()
    asked, wording = [], model.wording
    model.wording = lambda vocabulary, background=None: asked.append(vocabulary) or wording(vocabulary, background)
    ask = client(model)
    for _ in range(3):
        ask(GREYS, content=png(PHOTO))
    ask("/v1/segment?classes=left,right", content=png(PHOTO))
    assert len(asked) == 2


def test_labels_are_those_of_segment(client):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ovseg.load("clearclip", weights="nano", short_side=64, precision="fp32")
        ask = client(model)
        answer = ask("/v1/segment?classes=cat,grass,sky&format=png", content=png(PHOTO))
        model.set_vocabulary(["cat", "grass", "sky"])
        expected = model.segment(PHOTO).labels
    assert np.array_equal(np.array(Image.open(io.BytesIO(answer.content))), expected)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.slow
def test_the_command_ends_at_sigterm_after_what_is_in_hand(tmp_path):
    port = free_port()
    line = [sys.executable, "-m", "ovseg", "serve", "--model", "nano", "--port", str(port), "--threads", "1", "--json"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert json.loads(process.stdout.readline())["address"] == f"http://127.0.0.1:{port}"
        base = f"http://127.0.0.1:{port}"
        photo = png(np.kron(PHOTO, np.ones((8, 8, 1), np.uint8)))

        def ask(_: int) -> int:
            return httpx.post(f"{base}/v1/segment?classes=cat,grass,sky", content=photo, timeout=60).status_code

        assert ask(0) == 200
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ask, n) for n in range(8)]
            metrics = SimpleNamespace(text="")
            while "ovseg_requests_in_hand 8" not in metrics.text and not all(a.done() for a in answers):
                metrics = httpx.get(f"{base}/metrics", timeout=60)
            process.send_signal(signal.SIGTERM)
            assert [answer.result(60) for answer in answers] == [200] * 8
        assert process.wait(30) == 0
    finally:
        process.kill()
