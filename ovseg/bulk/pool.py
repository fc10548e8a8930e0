"""Worker processes on one machine: each holds the model and takes one shard after the other from the plan."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from ovseg.bulk.plan import Shard
from ovseg.bulk.worker import Task, Worker, WorkError

_POLL = 0.3
"""Seconds after which a wish to stop is noticed."""
_DEATHS = 3
"""Processes that one shard may cost before the run gives up."""
_PATIENCE = 10.0
"""Seconds that processes get to notice that their connection has ended."""


class Pool:
    """Processes that work on shards.

    A process that dies (killed, out of memory) loses its shard in hand, which another one begins anew; nothing of it
    was to be seen. Processes end when this one does, however it ends.

    Args:
        task: what they do.
        workers: how many.
    """

    def __init__(self, task: Task, workers: int) -> None:
        self._task, self._workers = task, workers
        self._context = multiprocessing.get_context("spawn")
        self._hands: dict[Connection, tuple[Any, Shard | None]] = {}
        self._started = 0

    def run(
        self,
        shards: Iterable[Shard],
        stop: threading.Event,
        tell: Callable[[int], object],
        done: Callable[[Shard, dict[str, int]], object],
    ) -> None:
        """Work on shards until there are no more, or until ``stop`` is set: shards in hand are finished then.

        Args:
            shards: taken one by one.
            stop: asks for an end.
            tell: gets the number of photos that were done since; negative for those of a process that died.
            done: gets each shard that was committed, with its counts.

        Raises:
            WorkError: if a shard costs several processes their lives.
            Exception: what a process raised; the others finish their shards first.
        """
        waiting, source = deque[Shard](), iter(shards)
        told: dict[Connection, int] = {}
        deaths: dict[int, int] = {}
        failure: Exception | None = None

        def next_shard() -> Shard | None:
            if stop.is_set() or failure is not None:
                return None
            return waiting.popleft() if waiting else next(source, None)

        try:
            first = [shard for _ in range(self._workers) if (shard := next_shard()) is not None]
            for shard in first:
                self._start(shard)
            while self._hands:
                for connection in wait(list(self._hands), _POLL):
                    assert isinstance(connection, Connection)
                    process, shard = self._hands[connection]
                    try:
                        kind, value = connection.recv()
                    except (EOFError, OSError):
                        del self._hands[connection]
                        process.join()
                        tell(-told.pop(connection, 0))
                        if shard is None:
                            continue
                        deaths[shard.number] = deaths.get(shard.number, 0) + 1
                        if deaths[shard.number] == _DEATHS:
                            failure = failure or WorkError(_dead(shard, process.exitcode))
                        elif failure is None and not stop.is_set():
                            self._start(shard)
                        continue
                    if kind == "photos":
                        told[connection] = told.get(connection, 0) + value
                        tell(value)
                    elif kind == "done":
                        assert shard is not None
                        told.pop(connection, None)
                        done(shard, value)
                        self._give(connection, next_shard())
                    else:
                        failure = failure or value
                        self._give(connection, None)
        finally:
            self._end()
        if failure is not None:
            raise failure

    def _start(self, shard: Shard) -> None:
        here, there = self._context.Pipe()
        number, self._started = self._started, self._started + 1
        process = self._context.Process(
            target=_work, args=(there, _on_device(self._task, number % self._workers)), name=f"ovseg-bulk-{number}"
        )
        process.start()
        there.close()  # so that the end of the process is the end of the connection
        self._hands[here] = (process, None)
        self._give(here, shard)

    def _give(self, connection: Connection, shard: Shard | None) -> None:
        process, _ = self._hands[connection]
        self._hands[connection] = (process, shard)
        try:
            connection.send(shard)
        except OSError:  # it has died: the next look at the connection says so
            pass

    def _end(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        for connection in self._hands:
            connection.close()
        for process, _ in self._hands.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._hands.clear()


def _dead(shard: Shard, exit_code: int | None) -> str:
    how = f"signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"exit status {exit_code}"
    memory = ", often too little memory: fewer --workers, or a smaller --batch" if exit_code == -signal.SIGKILL else ""
    return (
        f"{_DEATHS} processes died on shard {shard.number}, photos {shard.first} ({shard.photos[0].name}) to "
        f"{shard.first + len(shard.photos) - 1} ({how}{memory}); finished shards are kept"
    )


def _on_device(task: Task, number: int) -> Task:
    """The task on a GPU of its own, where several are meant by ``cuda``."""
    import torch

    if task.model.device not in (None, "cuda") or torch.cuda.device_count() < 2 or os.environ.get("OVSEG_DEVICE"):
        return task
    device = f"cuda:{number % torch.cuda.device_count()}"
    return replace(task, model=replace(task.model, device=device))


def _work(connection: Connection, task: Task) -> None:
    """A process: shards come in, counts go out; ``None`` or the end of the connection ends it."""
    for number in (signal.SIGINT, signal.SIGTERM):  # who started this process says when it ends
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()

    def tell(photos: int) -> None:
        if os.getppid() != parent:
            os._exit(1)  # the run is gone, and another may be in its place
        connection.send(("photos", photos))

    try:
        worker = Worker(task)
        while (shard := connection.recv()) is not None:
            connection.send(("done", worker.run(shard, tell)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        with contextlib.suppress(OSError):  # nobody listens any more
            connection.send(("failed", _sendable(error)))


def _sendable(error: Exception) -> Exception:
    """The error, or one of its text where it does not travel."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return WorkError(f"{type(error).__name__}: {error}")
