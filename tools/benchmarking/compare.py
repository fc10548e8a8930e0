"""The same measurement in another checkout, or with another config, in turn with this one.

Each side is a process of its own that imports its own ``ovseg``; the measuring code is always this tree's
(:mod:`tools.benchmarking` of this checkout, whatever the other one has).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Setting:
    """What both sides run.

    Attributes:
        photo: image file.
        precision: of the encoders.
        weights: ``'standin'`` or ``'real'``.
        threads: of torch.
        clock: ``'wall'`` or ``'cpu'``.
    """

    photo: Path
    precision: str
    weights: str
    threads: int
    clock: str


class SideError(RuntimeError):
    """A measuring process ended before its time."""


class Side:
    """A process that runs one config of one checkout when asked.

    Args:
        tree: root of the checkout whose ``ovseg`` is imported.
        config: config file; relative to the checkout's ``configs`` folder, or absolute.
        setting: the rest.

    Raises:
        SideError: with the process's last words, where it cannot build the model.
    """

    def __init__(self, tree: Path, config: str, setting: Setting) -> None:
        path = Path(config) if Path(config).is_absolute() else tree / "configs" / config
        if not path.is_file():
            raise FileNotFoundError(f"{tree} has no config {config}")
        self._said = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would fill up
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        order = dict(vars(setting), photo=str(setting.photo), config=str(path))
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(order)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        self.facts = self._answer()

    def run(self) -> dict[str, float]:
        """Seconds per stage of one more run."""
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Let the process end."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._said.close()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._said.seek(0)
            raise SideError(f"the measuring process {self._process.args[-1]} ended: {self._said.read()[-2000:]}")
        return json.loads(line)


def compare(sides: Mapping[str, Side], repeats: int) -> dict[str, list[dict[str, float]]]:
    """Seconds per stage of every repeat of both sides, in turn, after one run of each that is not counted."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            seconds = side.run()
            if repeat:
                runs[name].append(seconds)
    return runs


def compare_rows(name: str, runs: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict[str, object]]:
    """Median milliseconds per stage of both sides (``here`` and ``there``) and their ratio."""
    here, there = runs.values()
    rows: list[dict[str, object]] = []
    for stage in (*dict.fromkeys(s for run in (*here, *there) for s in run), "total"):
        totals = [[sum(r.values()) if stage == "total" else r.get(stage, 0.0) for r in side] for side in (here, there)]
        a, b = (statistics.median(values) * 1e3 for values in totals)
        ratio = statistics.median(y / x for x, y in zip(*totals, strict=True) if x) if any(totals[0]) else float("nan")
        rows.append(
            dict(method=name, stage=stage, here_ms=round(a, 2), there_ms=round(b, 2), there_over_here=round(ratio, 3))
        )
    return rows


def compare_table(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> Table:
    """The rows as a table; ``names`` of the two sides."""
    table = Table(title=Text(f"here: {names[0]}   there: {names[1]}"))
    for column in ("method", "stage", "here ms", "there ms", "there / here"):
        table.add_column(column, justify="left" if column in ("method", "stage") else "right")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))
    return table


def _serve(order: dict) -> None:
    """The other end of :class:`Side`: build, then one JSON line per request."""
    import ovseg  # noqa: F401  (first: from the checkout that PYTHONPATH names)

    sys.path[0] = str(ROOT)  # Python puts a script's folder first; the measuring code is always this checkout's
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not stand between the answers
    import torch

    from tools.benchmarking.clock import Clock
    from tools.benchmarking.methods import build_job
    from tools.benchmarking.stages import Tracer

    torch.set_num_threads(order["threads"])
    job = build_job(order["config"], Path(order["photo"]), order["precision"], order["weights"])
    print(json.dumps({"ovseg": sys.modules["ovseg"].__file__}), file=answers, flush=True)
    for _ in sys.stdin:
        tracer = Tracer(Clock(order["clock"]))
        with tracer.attached(job.model):
            figures = tracer.run(job.predict)
        print(json.dumps(figures.seconds), file=answers, flush=True)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
