"""Ctrl-C and SIGTERM as a wish that is granted at the next good moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_asked_for() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM (a cluster's notice) set the event; a second one interrupts at once, as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread only
        yield event
        return

    def stop(number: int, frame: object) -> None:
        event.set()
        restore()

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    try:
        yield event
    finally:
        restore()
