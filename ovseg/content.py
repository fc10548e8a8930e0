"""Whether tensors still hold what they held: the one rule of everything that is derived from weights and kept.

A kept value (a packed weight, a resized position table, the embedding of a word, a feature or mask on disk) belongs to
the *content* of the weights it was made from, never to their names, their file, or torch's version counters, which
``parameter.data`` does not move. Whoever keeps such a value keeps a :class:`Watch` or a :class:`Fingerprint` beside it.

Reading all weights for every photo would cost some five per cent of the work (ViT-B/16: 340 MB). A watch costs the
comparison of addresses: it holds a copy-on-write clone of each tensor, which takes no memory, and whoever writes to the
tensor by any way that torch knows, ``.data`` and ``.numpy()`` included, thereby moves it to memory of its own. Where
that cannot be had (memory shared with numpy or another process, a torch without lazy clones) a checksum of the content
is computed at every look instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 1 << 20
"""Elements of a checksum that are worked on at once."""
_EXCLUSIVE = 2
"""Owners of a storage that one tensor has alone: the tensor, and the Python object that is asked."""


@lru_cache(maxsize=16)
def barrier_reasons(device_type: str = "cpu") -> tuple[str, ...]:
    """Why writes cannot be noticed by address on this kind of device; empty if they can (tried on two numbers)."""
    needed = ((torch, "_lazy_clone"), (torch._C, "_data_address"), (torch._C, "_storage_Use_Count"))
    missing = [name for place, name in needed if not hasattr(place, name)]
    if missing:
        return tuple(f"this torch has no {name}" for name in missing)
    with torch.inference_mode(False), torch.no_grad():
        probe = torch.zeros(2, device=device_type)
        try:
            clone = torch._lazy_clone(probe)
            shared = _address(clone) == _address(probe)
            probe.data.add_(1)
        except RuntimeError as error:
            return (f"lazy clones on {device_type}: {error}",)
        if not shared or _address(clone) == _address(probe):
            return (f"lazy clones on {device_type} do not notice writes",)
        if torch._C._storage_Use_Count(probe.untyped_storage()._cdata) != _EXCLUSIVE:
            return ("this torch counts the owners of a storage in another way",)
    return ()


def watchable(tensor: Tensor) -> bool:
    """Whether a watch on ``tensor`` costs no more than a comparison of addresses."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_meta or barrier_reasons(tensor.device.type):
        return False
    return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata) <= _EXCLUSIVE and _clone(tensor) is not None


class Watch:
    """Notices when tensors no longer hold what they held.

    A deep copy, or one that was pickled, watches nothing and says that nothing holds: its tensors are others.

    Args:
        tensors: what to watch; any dtype and device.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._seen: list[_Seen] | None = [_Seen.of(tensor) for tensor in tensors]

    def holds(self, tensors: Iterable[Tensor]) -> bool:
        """Whether these, in the same order, are equal to those that were given: shape, dtype, device and values."""
        if self._seen is None:
            return False
        tensors = list(tensors)
        return len(tensors) == len(self._seen) and all(
            seen.equals(tensor) for seen, tensor in zip(self._seen, tensors, strict=True)
        )

    def __deepcopy__(self, memo: dict) -> Watch:
        return _blank()

    def __reduce__(self) -> tuple:
        return _blank, ()


def _blank() -> Watch:
    watch = Watch(())
    watch._seen = None
    return watch


class Fingerprint:
    """SHA-256 over the content of tensors by name, computed again only after they have changed.

    It is given the tensors at every look, so that replaced parameters are seen, and does not know whose they are: a
    model that holds what holds the model would stay in memory after its last use.
    """

    def __init__(self) -> None:
        self._last: tuple[tuple[str, ...], Watch, str] | None = None

    def __call__(self, tensors: Mapping[str, Tensor]) -> str:
        """The hash of ``tensors``, by name."""
        last = self._last
        names = tuple(tensors)
        if last is None or last[0] != names or not last[1].holds(tensors.values()):
            # watched first: what is written while it is read is noticed at the next look
            watch = Watch(tensors.values())
            last = self._last = (names, watch, content_sha256(tensors))
        return last[2]


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers of a module by name: what ``state_dict`` holds, as the very tensors.

    ``state_dict`` gives new tensors on the same memory, which from then on has several owners and cannot be watched by
    address; one that is kept makes every look at the weights a reading of them.
    """
    return {
        f"{path}.{name}" if path else name: tensor
        for path, part in module.named_modules()
        for name, tensor in (*part._parameters.items(), *part._buffers.items())
        if tensor is not None and name not in part._non_persistent_buffers_set
    }


def content_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and values. About 0.2 s for the text tower of ViT-B/16."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if not tensor.is_meta:
            # a copy of the values: handing out the tensor's own memory would end its copy-on-write clones
            values = tensor.detach().to("cpu", copy=True).contiguous()
            digest.update(values.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def checksum(tensor: Tensor) -> Tensor:
    """A number, int64 ``[]``, that any change of one value changes, on the tensor's device.

    The sum, modulo 2^64, of each element's bits times an odd number that depends on its place.
    """
    data = tensor.detach().contiguous().reshape(-1)
    if data.is_complex():
        data = torch.view_as_real(data).reshape(-1)
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[data.element_size()]
    data = data.view(torch.uint8) if data.dtype == torch.bool else data.view(bits)
    total = torch.zeros((), dtype=torch.int64, device=data.device)
    odd = torch.arange(min(CHUNK, len(data)), device=data.device) * 0x2545F4914F6CDD1D * 2 + 0x1234567
    for start in range(0, len(data), CHUNK):
        part = data[start : start + CHUNK]
        total = total * 0x5851F42D4C957F2D + (part.long() * odd[: len(part)]).sum()
    return total


@dataclass
class _Seen:
    """One watched tensor.

    Attributes:
        layout: dtype, device, shape, strides.
        clone: copy-on-write clone; None where there is none.
        sum: checksum where there is no clone.
    """

    layout: tuple
    clone: Tensor | None
    sum: int | None

    @classmethod
    def of(cls, tensor: Tensor) -> _Seen:
        clone = _clone(tensor) if watchable(tensor) else None
        return cls(_layout(tensor), clone, None if clone is not None or tensor.is_meta else int(checksum(tensor)))

    def equals(self, tensor: Tensor) -> bool:
        if _layout(tensor) != self.layout:
            return False
        if self.clone is None:
            return tensor.is_meta or int(checksum(tensor)) == self.sum
        if _address(tensor) == _address(self.clone):
            return True
        # written to, or only handed out in a way that could write
        with torch.no_grad():
            same = torch.equal(checksum(tensor), checksum(self.clone))
        if same:
            again = _Seen.of(tensor)
            self.clone, self.sum = again.clone, again.sum
        return same


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.device, tensor.shape, tensor.stride()


def _address(tensor: Tensor) -> int:
    return torch._C._data_address(tensor)


def _clone(tensor: Tensor) -> Tensor | None:
    """A copy-on-write clone; None where the memory belongs to somebody else (numpy, a mapped file, a process)."""
    try:
        with torch.no_grad():
            return torch._lazy_clone(tensor.detach())
    except RuntimeError:
        return None
