"""Many items in bounded memory: read ahead in a thread while the caller computes, worked on in batches."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

Source, Item, Result = TypeVar("Source"), TypeVar("Item"), TypeVar("Result")
_POLL = 0.1
"""Seconds after which a waiting reader looks whether it is still wanted."""
_PATIENCE = 5.0
"""Seconds that the end waits for a reader that is inside ``read``."""


def read_ahead(
    sources: Iterable[Source], read: Callable[[Source], Item], ahead: int
) -> Generator[tuple[Source, Item | None, Exception | None]]:
    """Sources in their order with what ``read`` makes of them, read in one background thread.

    At most ``ahead`` items wait, one more is being read. The thread ends with the iteration, also when the consumer
    stops early (``close``), and closes ``sources`` where it is a generator.

    Yields:
        source, item and ``None``; or source, ``None`` and the exception that ``read`` raised.

    Raises:
        Exception: what ``sources`` itself raises, at its place.
    """
    waiting: queue.Queue = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(what: tuple) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(what, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        iterator: Any = iter(())
        end: Exception | None = None
        try:
            iterator = iter(sources)
            for source in iterator:
                if stopped.is_set():
                    return
                try:
                    item, error = read(source), None
                except Exception as raised:  # whatever is wrong with a source is told with it, and reading goes on
                    item, error = None, raised
                if not put(("item", source, item, error)):
                    return
        except Exception as raised:  # of the iterable itself: raised where the consumer is
            end = raised
        finally:
            if stopped.is_set() and hasattr(iterator, "close"):
                iterator.close()
            put(("end", None, None, end))

    thread = threading.Thread(target=work, name="ovseg-reader", daemon=True)
    thread.start()
    try:
        while True:
            kind, source, item, error = waiting.get()
            if kind == "end":
                if error is not None:
                    raise error
                return
            yield source, item, error
    finally:
        stopped.set()
        thread.join(_PATIENCE)


def in_batches(
    sources: Iterable[Source],
    read: Callable[[Source], Item],
    work: Callable[[list[Source], list[Item]], Sequence[Result]],
    batch: int,
) -> Generator[tuple[Source, Result | None, Exception | None]]:
    """Sources in their order with what ``work`` makes of ``batch`` items at once; see :func:`read_ahead`.

    Where a batch fails, its items are worked on one by one, so that the error stands with the item it belongs to.

    Yields:
        source, result and ``None``; or source, ``None`` and the exception that ``read`` or ``work`` raised.
    """
    with contextlib.closing(read_ahead(sources, read, batch)) as reader:
        while group := list(itertools.islice(reader, batch)):
            good = [(source, item) for source, item, error in group if error is None]
            results = iter(_attempts(good, work))
            for source, _, error in group:
                yield (source, None, error) if error is not None else (source, *next(results))


def _attempts(
    good: list[tuple[Source, Item]], work: Callable[[list[Source], list[Item]], Sequence[Result]]
) -> list[tuple[Result | None, Exception | None]]:
    """Result or exception of every item."""
    if not good:
        return []
    sources, items = ([pair[i] for pair in good] for i in range(2))
    try:
        return [(result, None) for result in work(sources, items)]
    except Exception as error:  # whatever is wrong is told with the item it belongs to
        if len(good) == 1:
            return [(None, error)]
    return [outcome for pair in good for outcome in _attempts([pair], work)]


class WriteBehind:
    """Hands items to a function in one background thread, in their order, while the caller goes on.

    Use as a context: its end waits until all are done. At most ``ahead`` items wait.

    Args:
        consume: what is done with an item.
        ahead: items that may wait.
    """

    def __init__(self, consume: Callable[[Any], object], ahead: int) -> None:
        self._consume, self._waiting = consume, queue.Queue[Any](maxsize=ahead)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="ovseg-writer", daemon=True)

    def put(self, item: object) -> None:
        """One more item; waits while too many do.

        Raises:
            Exception: what ``consume`` raised for an earlier item; none after that one is consumed.
        """
        self._raise()
        self._waiting.put(item)

    def __enter__(self) -> WriteBehind:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._waiting.put(_END)
        self._thread.join()
        if kind is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (item := self._waiting.get()) is not _END:
            if self._error is None:
                try:
                    self._consume(item)
                except Exception as error:  # raised where the caller is
                    self._error = error


_END = object()
"""What ends the queue of a :class:`WriteBehind`."""
