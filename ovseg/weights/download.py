"""Downloads one file over HTTP: with progress, resumed where it stopped, checked, and put in place in one step."""

from __future__ import annotations

import http.client
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from .. import __version__
from .catalogue import Source
from .errors import CheckpointError, DownloadError
from .hashes import file_digest

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte
_CHANGED = "Try again; if it stays so, the file was changed at its source: get it elsewhere and compare its hash"


class _Interrupted(Exception):
    """The connection broke; what has arrived is kept and the rest can be asked for."""


class _RangeRefused(Exception):
    """There is nothing after the bytes that are here."""

    def __init__(self, total: int | None) -> None:
        super().__init__()
        self.total = total


def download(
    source: Source,
    target: Path,
    *,
    check: Callable[[Path], None] | None = None,
    attempts: int = 4,
    pause: float = 1.0,
    progress: bool | None = None,
) -> Path:
    """Fetches ``source`` into ``target``.

    Bytes arrive in ``<target>.part``, which a later call continues. The file appears under its own name only when it
    is complete and its hash is right: the one of the catalogue, else the one that the Hugging Face hub states.

    Args:
        source: What to fetch.
        target: Where the file goes; folders are made.
        check: Called with the complete file before it is put in place; may raise to refuse it.
        attempts: How often a broken connection is resumed before giving up.
        pause: Seconds before the second attempt, doubled for each later one.
        progress: Whether to draw a bar on stderr. None: when stderr is a terminal.

    Raises:
        DownloadError: No connection, refused, not found, or broken off for good.
        CheckpointError: The file that arrived is not the one that was promised; it is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.exists():  # another process has fetched it while this one waited
            return target
        stated = _fetch(source, part, attempts, pause, progress)
        try:
            _verify(source, part, stated)
            if check is not None:
                check(part)
        except CheckpointError as error:
            _forget(part)
            raise CheckpointError(source.url, f"what arrived {error.problem}; it was removed", _CHANGED) from None
        os.replace(part, target)
        _validator(part).unlink(missing_ok=True)
    return target


def _fetch(source: Source, part: Path, attempts: int, pause: float, progress: bool | None) -> str | None:
    for attempt in range(1, attempts + 1):
        try:
            with _bar(source.filename, progress) as advance:
                return _transfer(source, part, advance)
        except _Interrupted as error:
            if attempt == attempts:
                have = part.stat().st_size if part.exists() else 0
                raise DownloadError(
                    f"{source.url}: broken off {attempts} times ({error}); {have:,} bytes are kept, "
                    "run the command again to continue"
                ) from None
            time.sleep(pause * 2 ** (attempt - 1))
        except OSError as error:  # of the disk: those of the network are caught where they happen
            raise DownloadError(f"{part}: cannot be written ({error.strerror or error})") from None
    raise AssertionError("unreachable: attempts is at least 1")


def _transfer(source: Source, part: Path, advance: Callable[[int, int | None], None]) -> str | None:
    """One request. Returns the SHA-256 that the server states, if it does."""
    have = part.stat().st_size if part.exists() else 0
    validator = _validator(part).read_text() if have and _validator(part).exists() else None
    if have and validator is None and source.sha256 is None:
        have = 0  # nothing would tell whether both halves are of the same file
    redirects = _Redirects()
    try:
        with _open(_request(source, have, validator), redirects) as response:
            return _receive(response, part, have, advance) or redirects.stated_sha256
    except _RangeRefused as error:
        if error.total == have:  # complete; the process ended before it could be checked
            return redirects.stated_sha256
        _forget(part)
        raise _Interrupted("the partial file is longer than the file") from None


def _receive(response: Any, part: Path, have: int, advance: Callable[[int, int | None], None]) -> str | None:
    """Writes the body behind the ``have`` bytes that are there, or anew where the server sends all of it."""
    total = _int(response.headers.get("Content-Length"))
    if response.status == 206:
        start, total = _content_range(response.headers.get("Content-Range", ""))
        if start != have:
            _forget(part)
            raise _Interrupted("the server resumed at another place")
    else:
        have = 0
        _forget(part)
    validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    if validator and not validator.startswith("W/"):
        _validator(part).write_text(validator)
    advance(have, total)
    with part.open("ab" if have else "wb") as file:
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _Interrupted(str(error) or type(error).__name__) from None
            if not chunk:
                break
            file.write(chunk)
            have += len(chunk)
            advance(have, total)
    if total is not None and have < total:
        raise _Interrupted(f"{have:,} of {total:,} bytes arrived")
    return _sha256_of_headers(response.headers)


def _request(source: Source, have: int, validator: str | None) -> Request:
    request = Request(source.url, headers={"User-Agent": f"ovseg/{__version__}", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if validator:
            request.add_header("If-Range", validator)  # a changed file is sent whole
    token = os.environ.get("HF_TOKEN")
    if token and urlsplit(source.url).netloc == "huggingface.co":
        # "unredirected": the hub forwards to other hosts, which must not see it
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


@contextmanager
def _open(request: Request, redirects: _Redirects) -> Any:
    try:
        response = build_opener(redirects).open(request, timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416:
            raise _RangeRefused(_int(error.headers.get("Content-Range", "").removeprefix("bytes */"))) from None
        if error.code == 429 or error.code >= 500:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from None
        hint = ""
        if error.code in (401, 403):
            hint = "; it may ask for a login and consent: accept the licence on its page and set HF_TOKEN"
        raise DownloadError(f"{request.full_url}: HTTP {error.code} {error.reason}{hint}") from None
    except URLError as error:
        raise DownloadError(f"{request.full_url}: no connection ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(str(error) or type(error).__name__) from None
    with response:
        yield response


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, but not from https to http, and notes the hash that the hub states on the way."""

    stated_sha256: str | None = None

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise DownloadError(f"{req.full_url}: refers to an address that is not https ({newurl})")
        self.stated_sha256 = self.stated_sha256 or _sha256_of_headers(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _sha256_of_headers(headers: Any) -> str | None:
    """The hub's ``X-Linked-Etag`` is the SHA-256 of a large file; other ETags mean other things."""
    match = re.fullmatch(r'"?([0-9a-f]{64})"?', headers.get("X-Linked-Etag", ""))
    return match[1] if match else None


def _verify(source: Source, part: Path, stated: str | None) -> None:
    expected = source.sha256 or stated
    if expected is None:
        return
    digest = file_digest(part)
    if not digest.startswith(expected):
        raise CheckpointError(part, f"has the SHA-256 {digest}, not {expected}", _CHANGED)


def _validator(part: Path) -> Path:
    """Holds the ETag or date of the file that the part is the beginning of."""
    return part.with_name(part.name + ".etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def _content_range(value: str) -> tuple[int | None, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", value.strip())
    return (int(match[1]), _int(match[2])) if match else (None, None)


def _int(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None


@contextmanager
def _bar(name: str, shown: bool | None) -> Any:
    """Yields ``advance(bytes so far, bytes in all)``."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    visible = sys.stderr.isatty() if shown is None else shown
    with Progress(*columns, console=console, disable=not visible) as bar:
        task = bar.add_task(name, total=None)
        yield lambda have, total: bar.update(task, completed=have, total=total)
