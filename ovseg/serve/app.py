"""The service over HTTP.

``POST /v1/segment?classes=cat,dog&format=rle`` with a photo as the body, or with JSON ``{"image": base64, "classes":
[...], "background": ..., "format": ...}``. ``GET /health`` (alive), ``/ready`` (takes requests), ``/metrics``.

Words are words or the names of packaged vocabularies, photos are bytes: no request makes the server open a file or an
address.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from PIL import Image

from ovseg import __version__
from ovseg.apis import Segmenter
from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.io import HOW_TO_READ_LARGER, read_image
from ovseg.results import SegmentationResult
from ovseg.rle import encode_labels
from ovseg.serve.batcher import Batcher, Question, TooLate
from ovseg.serve.limits import Limits, Refused
from ovseg.serve.metrics import SECONDS, Counter, Gauge, Histogram
from ovseg.text import Vocabulary
from ovseg.text.vocabulary import VocabularyError, packaged_vocabularies

FORMATS = ("rle", "png", "coco", "areas")
_WHY_BUSY = "the service has as many requests as it takes; try again"


@dataclass(frozen=True)
class Asked:
    """A request that was read.

    Attributes:
        image: encoded photo.
        vocabulary: the words.
        background: name of the class that takes uncertain pixels.
        format: of :data:`FORMATS`.
    """

    image: bytes
    vocabulary: Vocabulary
    background: str | None
    format: str


class Service:
    """One model behind HTTP.

    Args:
        segmenter: the model.
        limits: of requests.
        batch, wait: see :class:`ovseg.serve.batcher.Batcher`.

    Attributes:
        app: the ASGI application.
    """

    def __init__(self, segmenter: Segmenter, limits: Limits, batch: int = 8, wait: float = 0.0) -> None:
        self.limits, self.draining = limits, False
        self._in_hand = 0
        self._requests = Counter("ovseg_requests_total", "Requests by outcome.", "outcome")
        self._seconds = Histogram("ovseg_request_seconds", "From a body's arrival to its answer.", SECONDS)
        self._batches = Histogram("ovseg_batch_photos", "Photos encoded together.", (1, 2, 4, 8, 16, 32))
        self._gauge = Gauge("ovseg_requests_in_hand", "Requests that wait or are worked on.", lambda: self._in_hand)
        self._batcher = Batcher(segmenter, batch, wait, self._batches.add)
        self._protocol = segmenter.protocol
        self.app = FastAPI(title="ovseg", version=__version__, lifespan=self._lifespan, openapi_url=None)
        self.app.add_api_route("/v1/segment", self._segment, methods=["POST"], response_model=None)
        self.app.add_api_route("/health", self._health, methods=["GET"], response_model=None)
        self.app.add_api_route("/ready", self._ready, methods=["GET"], response_model=None)
        self.app.add_api_route("/metrics", self._metrics, methods=["GET"], response_model=None)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(self._batcher.close)

    async def _health(self) -> Response:
        alive = self._batcher.alive
        return JSONResponse({"alive": alive, "version": __version__}, status_code=200 if alive else 500)

    async def _ready(self) -> Response:
        ready = self._batcher.alive and not self.draining and self._in_hand < self.limits.waiting
        return JSONResponse({"ready": ready, "protocol": self._protocol}, status_code=200 if ready else 503)

    async def _metrics(self) -> Response:
        parts = (self._requests, self._seconds, self._batches, self._gauge)
        text = "\n".join(line for part in parts for line in part.lines()) + "\n"
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def _segment(self, request: Request) -> Response:
        start = time.perf_counter()
        outcome = "error"
        try:
            if self._in_hand >= self.limits.waiting:
                raise Refused(503, "busy", _WHY_BUSY)
            self._in_hand += 1
            try:
                async with asyncio.timeout(self.limits.seconds):
                    response = await self._answer(request)
            finally:
                self._in_hand -= 1
            outcome = "done"
            self._seconds.add(time.perf_counter() - start)
            return response
        except Refused as error:
            outcome = error.kind
            headers = {"Retry-After": "1"} if error.status == 503 else None
            return JSONResponse({"error": str(error), "kind": error.kind}, error.status, headers)
        except (TimeoutError, TooLate):
            outcome = "late"
            message = f"not done within {self.limits.seconds:g} seconds"
            return JSONResponse({"error": message, "kind": outcome}, 504)
        except asyncio.CancelledError:
            outcome = "gone"  # whoever asked has gone
            raise
        except Exception as error:  # the model's: told as what it is, without its inside
            return JSONResponse({"error": f"the model failed: {type(error).__name__}", "kind": outcome}, 500)
        finally:
            self._requests.add(outcome)

    async def _answer(self, request: Request) -> Response:
        deadline = time.monotonic() + self.limits.seconds
        asked = await run_in_threadpool(self._read, request, await self._body(request))
        image = await run_in_threadpool(self._pixels, asked.image)
        try:
            future = self._batcher.put(Question(image, asked.vocabulary, asked.background, deadline))
        except RuntimeError as error:
            raise Refused(503, "ending", "the service is ending") from error
        result = await asyncio.wrap_future(future)
        return await run_in_threadpool(_response, result, asked.format)

    async def _body(self, request: Request) -> bytes:
        most = int(self.limits.megabytes * 1e6)
        too_large = Refused(413, "bytes", f"at most {self.limits.megabytes:g} MB are taken")
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said) > most:
            raise too_large
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > most:
                raise too_large
        if not data:
            raise Refused(422, "empty", "the body is empty: send a photo, or JSON with one")
        return bytes(data)

    def _read(self, request: Request, body: bytes) -> Asked:
        fields: dict[str, Any] = dict(request.query_params)
        image = body
        if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
            try:
                given = json.loads(body)
                fields |= given
                image = base64.b64decode(fields.pop("image"), validate=True)
            except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
                raise Refused(422, "json", 'JSON needs an object with "image": base64 and "classes"') from error
        wanted = fields.get("format", "rle")
        if wanted not in FORMATS:
            raise Refused(422, "format", f"format {str(wanted)[:40]!r} is none; there are {', '.join(FORMATS)}")
        vocabulary = self._vocabulary(fields.get("classes"))
        background = fields.get("background")
        if background is not None and not isinstance(background, str):
            raise Refused(422, "words", "background is a word")
        if background is not None:
            try:
                vocabulary.with_background(background)
            except VocabularyError as error:
                raise Refused(422, "words", "background is none of the classes: give the first name of one") from error
        return Asked(image, vocabulary, background, wanted)

    def _vocabulary(self, classes: object) -> Vocabulary:
        limits = self.limits
        most = Refused(422, "words", f"at most {limits.classes} classes and {limits.prompts} names are taken")
        if isinstance(classes, str | list) and len(classes) > limits.prompts * (limits.letters + 2):
            raise most
        try:
            if isinstance(classes, str):
                named = classes in packaged_vocabularies()
                words = [name.strip() for name in classes.split(",")]
                vocabulary = Vocabulary.from_file(classes) if named else Vocabulary.of(words)
            elif isinstance(classes, list) and all(isinstance(name, str) for name in classes):
                vocabulary = Vocabulary.of(classes)
            else:
                raise Refused(422, "words", "classes are words with commas, a list of words, or a packaged name")
        except VocabularyError as error:
            raise Refused(422, "words", " ".join(str(error).split())[:300]) from error
        if len(vocabulary) > limits.classes or len(vocabulary.queries) > limits.prompts:
            raise most
        if max(map(len, vocabulary.queries)) > limits.letters:
            raise Refused(422, "words", f"a name has at most {limits.letters} letters")
        return vocabulary

    def _pixels(self, data: bytes) -> np.ndarray:
        try:
            return read_image(data, max_pixels=self.limits.pixels)
        except ImageReadError as error:
            why = error.reason.removesuffix(HOW_TO_READ_LARGER)
            raise Refused(422, "photo", f"the photo cannot be read: {why}") from error


class _Server(uvicorn.Server):
    """Ends at SIGTERM or Ctrl-C, after what is in hand; a second Ctrl-C does not wait. The process goes on then."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: object) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = self._service.draining = True


def serve(service: Service, listener: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in hand are answered first.

    Args:
        service: what answers.
        listener: a bound socket.
    """
    config = uvicorn.Config(
        service.app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(service.limits.seconds) + 1
    )
    _Server(config, service).run(sockets=[listener])


def _response(result: SegmentationResult, wanted: str) -> Response:
    """The answer in the format that was asked for."""
    height, width = result.labels.shape
    if wanted == "png":
        file, small = io.BytesIO(), len(result.names) <= 256
        Image.fromarray(result.labels.astype(np.uint8 if small else np.uint16)).save(file, "PNG")
        names = json.dumps(result.names)  # ASCII: a header holds no more
        return Response(file.getvalue(), media_type="image/png", headers={"X-Names": names})
    if wanted == "areas":
        return JSONResponse({"height": height, "width": width, "classes": result.table()})
    if wanted == "coco":
        return JSONResponse({"height": height, "width": width, "annotations": result.to_coco()})
    codes = {str(index): code["counts"] for index, code in encode_labels(result.labels).items()}
    return JSONResponse({"height": height, "width": width, "names": result.names, "counts": codes})
