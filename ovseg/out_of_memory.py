"""Too little memory: told from other errors, work on windows halved until it fits, and one clear error where it never
does."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from ovseg.errors import SetupError

# PyTorch's own class is for accelerators; its allocators of the CPU (Windows', POSIX') raise a bare RuntimeError.
_TEXTS = ("DefaultCPUAllocator: not enough memory", "DefaultCPUAllocator: can't allocate memory", "out of memory")
_WANTED = re.compile(r"[Tt]ried to allocate ([\d.]+ ?[KMGT]?i?B|\d+ bytes)")


class OutOfMemory(SetupError):
    """A photo that does not fit into memory, even with one window at a time."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: PyTorch's for accelerators and for the CPU, and Python's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


@contextmanager
def told_when_out_of_memory(sizes: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Within it, too little memory is an :class:`OutOfMemory` that says for which photos and what to do.

    Args:
        sizes: ``(H, W)`` of the photos that are worked on, in pixels.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        wanted = _WANTED.search(str(error).replace("you tried", "tried"))
        asked = f" ({wanted[1]} more were asked for)" if wanted else ""
        photos = ", ".join(f"{width} x {height}" for height, width in sizes[:3]) + (", ..." if len(sizes) > 3 else "")
        raise OutOfMemory(
            f"too little memory for {'a photo' if len(sizes) == 1 else 'photos'} of {photos} pixels{asked}: give a "
            "smaller short_side, fewer words, fewer photos at once, or a machine with more memory"
        ) from error


class _Rows(Protocol):
    def __len__(self) -> int: ...

    def rows(self, wanted: slice) -> Self: ...


_Batch = TypeVar("_Batch", bound=_Rows)


class Halving:
    """Work on batches whose size is halved where memory does not hold them; later batches start with what fitted.

    Attributes:
        most: rows that are worked on at once; ``None``: no batch was too large yet.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def __call__(self, batch: _Batch, work: Callable[[_Batch], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What ``work`` makes of a batch: tensors by name, a row for each of the batch's.

        Raises:
            Exception: what ``work`` raises, too little memory included where a single row is too much.
        """
        done: list[dict[str, Tensor]] = []
        first = 0
        while first < len(batch):
            size = min(len(batch), self.most or len(batch))
            found = self._attempt(batch if size == len(batch) else batch.rows(slice(first, first + size)), work)
            if found is None:  # what the error held is free only out of its except block
                _release()
                self.most = size // 2
                warnings.warn(f"too little memory for {size} windows at once: {self.most} from now on", stacklevel=3)
                continue
            done.append(found)
            first += size
        return done[0] if len(done) == 1 else {name: torch.cat([part[name] for part in done]) for name in done[0]}

    @staticmethod
    def _attempt(batch: _Batch, work: Callable[[_Batch], dict[str, Tensor]]) -> dict[str, Tensor] | None:
        try:
            return work(batch)
        except Exception as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
        return None


def _release() -> None:
    """Give the accelerator's cached blocks back: smaller tensors may not fit into what is left of them."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
