"""The saved middle of an evaluation: which samples are done, and the confusion matrix they gave."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ovseg.datasets.files import atomic_path
from ovseg.engine.errors import ResumeError
from ovseg.errors import DAMAGED_ARRAYS


@dataclass
class EvalState:
    """What one process, or all together, have behind them.

    Attributes:
        fingerprint: what must agree for a state to be continued: config hash, number of samples.
        matrix: int64 ``[C, C]``.
        done: indices of the samples in ``matrix``.
        seconds: time spent.
    """

    fingerprint: dict[str, object]
    matrix: np.ndarray
    done: set[int] = field(default_factory=set)
    seconds: float = 0.0

    def save(self, folder: Path, rank: int = 0) -> None:
        """Write ``rank{rank}.npz``, atomically."""
        self.write(_path(folder, rank))

    def write(self, path: Path) -> None:
        """Write a file, atomically."""
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary,
                matrix=self.matrix,
                done=np.array(sorted(self.done), np.int64),
                seconds=np.float64(self.seconds),
                fingerprint=np.array(json.dumps(self.fingerprint, sort_keys=True)),
            )

    @classmethod
    def load(cls, folder: Path, fingerprint: dict[str, object]) -> EvalState | None:
        """The sum of what all processes of the interrupted run saved; ``None`` if there is nothing.

        It does not matter how many processes there were.

        Raises:
            ResumeError: if a file is damaged or of another evaluation.
        """
        total: EvalState | None = None
        for path in sorted(folder.glob("rank*.npz"), key=lambda p: int(p.stem.removeprefix("rank"))):
            state = cls.read(path, fingerprint)
            if total is None:
                total = state
            elif total.done.isdisjoint(state.done):
                total = cls(
                    fingerprint,
                    total.matrix + state.matrix,
                    total.done | state.done,
                    max(total.seconds, state.seconds),
                )
            elif not state.done <= total.done:  # a subset was merged before, by a run that broke off right then
                raise ResumeError(f"cannot resume from {folder}: its files overlap. Run without --resume to start anew")
        return total

    @classmethod
    def read(cls, path: Path, fingerprint: dict[str, object]) -> EvalState:
        """One file.

        Raises:
            ResumeError: if it is damaged or of another evaluation.
        """
        state = _read(path)
        if state.fingerprint != fingerprint:
            changed = [k for k in fingerprint if state.fingerprint.get(k) != fingerprint[k]]
            raise ResumeError(
                f"cannot resume from {path}: another {', '.join(changed)} "
                f"({', '.join(str(state.fingerprint.get(k)) for k in changed)} then, "
                f"{', '.join(str(fingerprint[k]) for k in changed)} now). Run without --resume to start anew"
            )
        return state

    @staticmethod
    def clear(folder: Path, from_rank: int = 0) -> None:
        """Remove the files of ranks from ``from_rank`` on."""
        for path in folder.glob("rank*.npz"):
            if int(path.stem.removeprefix("rank")) >= from_rank:
                path.unlink(missing_ok=True)
        if from_rank == 0 and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _path(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}.npz"


def _read(path: Path) -> EvalState:
    try:
        with np.load(path, allow_pickle=False) as saved:
            fingerprint = json.loads(str(saved["fingerprint"]))
            return EvalState(fingerprint, saved["matrix"], set(saved["done"].tolist()), float(saved["seconds"]))
    except DAMAGED_ARRAYS as error:
        raise ResumeError(
            f"cannot resume from {path}: damaged ({error}). Run without --resume to start anew"
        ) from error
