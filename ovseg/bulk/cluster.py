"""The same plan on many machines, by Ray Data: actors hold the model, work on shards and commit them.

Ray gives shards out as actors come free (back-pressure), starts and ends actors as there is work (autoscaling), and
gives the shards of a machine that was lost to others. What an actor does with a shard is
:class:`ovseg.bulk.worker.Worker`, as on one machine; the output folder, and the source, must be the same files on all
of them.
"""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ovseg.bulk.manifest import committed
from ovseg.bulk.plan import Shard
from ovseg.bulk.worker import Task, Worker
from ovseg.errors import SetupError


class ShardActor:
    """A process of a Ray cluster that holds the model; called with rows of one shard each."""

    def __init__(self, task: Task) -> None:
        self._task, self._worker = task, Worker(task)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Work on a shard, unless it is there: an actor that is told to end (SIGTERM) still commits the shard in hand,
        and Ray, which did not hear of it, gives it to the next one."""
        shard = pickle.loads(row["shard"])
        return {"number": row["number"], **(committed(self._task.out, shard) or self._worker.run(shard))}


def run_on_ray(
    task: Task,
    workers: int,
    shards: Iterable[Shard],
    stop: threading.Event,
    tell: Callable[[int], object],
    done: Callable[[Shard, dict[str, int]], object],
    address: str | None = None,
) -> None:
    """Work on shards until there are no more, or until ``stop`` is set: those in hand are lost then.

    Args:
        task: what the actors do; ``threads`` CPUs (1 where it says nothing), and a GPU where the model runs on one,
            belong to each.
        workers: most actors at a time.
        shards: all that are to be done.
        stop, tell, done: as in :meth:`ovseg.bulk.pool.Pool.run`.
        address: of a running cluster; ``None``: Ray's own choice (``RAY_ADDRESS``), else a cluster on this machine.

    Raises:
        SetupError: without Ray, for a cluster that is not there, and for what an actor raised.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SetupError("--ray needs Ray Data: pip install 'ovseg[scale]'") from error
    by_number = {shard.number: shard for shard in shards}
    if not by_number:
        return
    started = not ray.is_initialized()
    try:
        if started:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.max_errored_blocks = False, 0
        items = [{"number": shard.number, "shard": pickle.dumps(shard)} for shard in by_number.values()]
        found = ray.data.from_items(items, override_num_blocks=len(items)).map(
            ShardActor,
            fn_constructor_args=(task,),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, len(items))),
            num_cpus=task.threads or 1,
            num_gpus=1 if task.made_with["model"]["device"] == "cuda" else None,
        )
        for row in found.iter_rows():
            shard = by_number[row.pop("number")]
            tell(row["photos"])
            done(shard, row)
            if stop.is_set():
                break
    except (ray.exceptions.RayError, ConnectionError, ValueError) as error:
        cause = getattr(error, "cause", None) or error
        raise SetupError(f"Ray: {' '.join(str(cause).split())[-500:]}") from error
    finally:
        if started:
            ray.shutdown()
