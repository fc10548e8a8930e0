"""Pictures from the web, by a server on this machine."""

import http.server
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.given import as_rgb
from ovseg.datasets.web import fetch

RGB = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    return buffer.getvalue()


class Server(http.server.BaseHTTPRequestHandler):
    redirects = {
        "/moved": "/photo.png",
        "/file": "file:///etc/passwd",
        "/ftp": "ftp://127.0.0.1/photo.png",
        "/data": "data:image/png;base64,AAAA",
        "/round": "/round",
    }

    def do_GET(self):
        if self.path in self.redirects:
            self.send_response(302)
            self.send_header("Location", self.redirects[self.path])
            self.end_headers()
        elif self.path == "/slow-headers":
            for letter in b"HTTP/1.0 200 OK\r\nX: " + b"x" * 400:
                self.wfile.write(bytes([letter]))
                time.sleep(0.05)
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self.send_response(200)
            data = b"<html>" if self.path == "/page" else png()
            if self.path != "/endless":
                self.send_header("Content-Length", str(10**12 if self.path == "/huge" else len(data) + 99 * self.cut))
            self.end_headers()
            if self.path == "/drip":
                for byte in data[:400]:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            while self.path == "/endless":
                self.wfile.write(b"x" * 4096)
            self.wfile.write(data)

    @property
    def cut(self) -> bool:
        return self.path == "/cut"

    def handle(self):
        try:
            super().handle()
        except OSError:  # the client has gone, as it should
            return

    def log_message(self, *args):
        return


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("path", ["/photo.png", "/moved"])
def test_an_address_is_a_picture(address, path):
    np.testing.assert_array_equal(as_rgb(address + path), RGB)
    np.testing.assert_array_equal(as_rgb(address.upper() + path), RGB)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing", "the server answers 404"),
        ("/page", "127.0.0.1:"),
        ("/file", "file:///etc/passwd"),
        ("/ftp", "not followed"),
        ("/data", "not allowed|not followed"),
        ("/round", "302"),
        ("/huge", "1,000,000,000,000 bytes; at most"),
        ("/cut", "broken off"),
    ],
)
def test_what_is_wrong_is_said_with_the_address(address, path, reason):
    with pytest.raises(ImageReadError, match=reason) as found:
        as_rgb(address + path)
    assert found.value.source == address + path


def test_an_endless_answer_ends(address):
    with pytest.raises(ImageReadError, match="more than 100,000 bytes"):
        fetch(address + "/endless", max_bytes=100_000)


@pytest.mark.parametrize("path", ["/drip", "/slow-headers"])
def test_the_time_is_for_all_of_it(address, path):
    """A server that sends a byte now and then never lets a socket's own timeout pass."""
    start = time.monotonic()
    with pytest.raises(ImageReadError, match="more than 0.4 seconds"):
        fetch(address + path, seconds=0.4)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("url", ["http://", "http:///photo.png", "http://[::1", "http://127.0.0.1:x/", "http://a b/"])
def test_addresses_that_are_none(url):
    with pytest.raises(ImageReadError):
        as_rgb(url)


def test_nobody_listens_and_no_password_is_shown():
    with pytest.raises(ImageReadError, match="no answer") as found:
        as_rgb("http://user:secret@127.0.0.1:1/photo.png")
    assert "secret" not in str(found.value)
