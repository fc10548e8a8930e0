"""A file server on 127.0.0.1 that can break off, redirect, and state hashes as the Hugging Face hub does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FileServer:
    """What is served, and what was asked.

    Attributes:
        files: Content by path.
        break_after: A connection is cut after so many bytes; each entry is for one request, in order.
        ranges: Whether ``Range`` is obeyed.
        etag: Sent as ETag; changing it says that the files have changed.
        linked_etags: Path to the hash stated in ``X-Linked-Etag``, on a redirect to ``/cdn<path>``.
        statuses: Path to an error status to answer with; each entry is for one request.
        requests: Path and headers of every request that came.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: str | None = '"v1"'
    linked_etags: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path
        self.requests.append((path, dict(handler.headers)))
        if self.statuses.get(path):
            return handler.send_error(self.statuses[path].pop(0))
        if path in self.linked_etags:
            headers = {"Location": f"/cdn{path}", "X-Linked-Etag": f'"{self.linked_etags[path]}"'}
            return self._head(handler, 302, {**headers, "Content-Length": "0"})
        content = self.files.get(path.removeprefix("/cdn"))
        if content is None:
            return handler.send_error(404)
        start, status, headers = 0, 200, {}
        wanted = handler.headers.get("Range")
        if wanted and self.ranges and handler.headers.get("If-Range") in (None, self.etag):
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(content):
                return self._head(handler, 416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.etag:
            headers["ETag"] = self.etag
        body = content[start:]
        self._head(handler, status, {**headers, "Content-Length": str(len(body))})
        if self.break_after:
            body = body[: self.break_after.pop(0)]
        handler.wfile.write(body)

    @staticmethod
    def _head(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()


@contextmanager
def serve() -> Iterator[FileServer]:
    """Runs a :class:`FileServer` until the end of the block."""
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # a client that hangs up is part of the tests
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
