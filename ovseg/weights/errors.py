"""Errors of the weights package: every expected failure is one of these, with one readable message."""

from __future__ import annotations

from os import PathLike


class WeightsError(RuntimeError):
    """Base class of everything that can be wrong with a weights file or with getting it."""


class UnknownWeights(WeightsError, KeyError):
    """A name that is not in the catalogue."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return self.args[0]


class WeightsNotFound(WeightsError):
    """The file is nowhere on this machine and could not be downloaded."""


class DownloadError(WeightsError):
    """A download that did not come to its end."""


class CheckpointError(WeightsError):
    """A file that is there but cannot be used: damaged, unsafe, or of another model.

    Args:
        path: The file.
        problem: What is wrong with it.
        remedy: What to do about it.
    """

    def __init__(self, path: str | PathLike[str], problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}. {remedy}")
        self.path = str(path)
        self.problem = problem
        self.remedy = remedy
