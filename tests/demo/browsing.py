"""The page in a real headless browser: one server of the command line, visitors with windows of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def server(temporary: Path, *arguments: str) -> Iterator[str]:
    """Address of an ``ovseg demo`` of its own; temporary files go below ``temporary``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    environment.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, "-m", "ovseg", "demo", "--port", str(port), *arguments]
    log = temporary / "server.log"
    with open(log, "w") as output:
        process = subprocess.Popen(command, cwd=temporary, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(process, address, log)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait(process: subprocess.Popen, address: str, log: Path, seconds: int = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"no page at {address}:\n{log.read_text()}")
