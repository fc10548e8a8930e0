"""Pictures on the web, fetched within limits of size and time."""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import threading
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from ovseg.datasets.errors import ImageReadError

MAX_BYTES = 100 << 20
"""Largest answer that is read."""
SECONDS = 30.0
"""From the first connection to the last byte, redirects included."""
_SCHEMES = ("http", "https")
_CHUNK = 1 << 16


def is_url(source: object) -> bool:
    """Whether this is an address on the web: a string that starts with ``http://`` or ``https://``."""
    return isinstance(source, str) and source[:8].lower().startswith(("http://", "https://"))


def fetch(url: str, max_bytes: int = MAX_BYTES, seconds: float = SECONDS) -> bytes:
    """What is at an address.

    Redirects are followed to http and https only, and never from https to http. Proxies are those of the environment
    (``http_proxy``, ``https_proxy``, ``no_proxy``).

    Args:
        url: starts with ``http://`` or ``https://``.
        max_bytes: longest answer accepted.
        seconds: time for all of it.

    Raises:
        ImageReadError: naming the address and what went wrong: no such host, an answer other than 200, too long, too
            slow, broken off.
    """
    shown = without_password(url)
    too_slow = ImageReadError(shown, f"it takes more than {seconds:g} seconds; download it first and give the file")
    with _Deadline(seconds) as deadline:
        try:
            if not urlsplit(url).hostname:
                raise ImageReadError(shown, "the address names no host")
            request = Request(url, headers={"User-Agent": "ovseg", "Accept": "image/*,*/*;q=0.5"})
            with _opener(deadline).open(request, timeout=seconds) as answer:
                data, length = _read(answer, max_bytes, shown)
        except ImageReadError:
            raise
        except HTTPError as error:
            error.close()
            raise ImageReadError(shown, f"the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if deadline.passed or isinstance(reason, TimeoutError):
                raise too_slow from error
            raise ImageReadError(shown, f"no answer ({reason or type(reason).__name__})") from error
        if deadline.passed:
            raise too_slow
    if length is not None and len(data) < length:
        raise ImageReadError(shown, f"broken off after {len(data):,} of {length:,} bytes; try again")
    return data


def _read(answer: http.client.HTTPResponse, max_bytes: int, shown: str) -> tuple[bytes, int | None]:
    """What a server sends, and how much it said it would."""
    said = answer.headers.get("Content-Length", "")
    length = int(said) if said.isdecimal() else None
    if length is not None and length > max_bytes:
        raise ImageReadError(shown, f"{length:,} bytes; at most {max_bytes:,} are read from the web")
    data = bytearray()
    while part := answer.read1(_CHUNK):
        data += part
        if len(data) > max_bytes:
            raise ImageReadError(shown, f"more than {max_bytes:,} bytes, the most that are read from the web")
    return bytes(data), length


class _Deadline:
    """Shuts the connections of a download when its time is over: timeouts of sockets begin anew with every byte."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def watch(self, connection: socket.socket) -> None:
        self._sockets.append(connection)
        if self.passed:
            raise TimeoutError("no time left for another connection")

    def _end(self) -> None:
        self.passed = True
        for connection in self._sockets:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)


class _Http(http.client.HTTPConnection):
    def __init__(self, deadline: _Deadline, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        self._deadline.watch(self.sock)


class _Https(http.client.HTTPSConnection):
    def __init__(self, deadline: _Deadline, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        self._deadline.watch(self.sock)


class _OpensHttp(HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Http, self._deadline), req)


class _OpensHttps(HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Https, self._deadline), req)


class _Redirects(HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        scheme = urlsplit(newurl).scheme.lower()
        if scheme not in _SCHEMES or (scheme == "http" and urlsplit(req.full_url).scheme.lower() == "https"):
            raise URLError(f"the server redirects to {without_password(newurl)}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(deadline: _Deadline) -> OpenerDirector:
    """Knows http and https only: urllib's own opener reads files and FTP servers, too."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), _OpensHttp(deadline), _OpensHttps(deadline)):
        opener.add_handler(handler)
    for handler in (HTTPDefaultErrorHandler(), HTTPErrorProcessor(), _Redirects()):
        opener.add_handler(handler)
    return opener


def without_password(url: str) -> str:
    """The address as errors show it: names and passwords before the host are left out."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address at all; urllib says what is wrong with it
        return repr(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
