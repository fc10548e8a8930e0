"""Names of tensors in the files of others and in ovseg's modules, told apart by one table that reads both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_FIELDS = {"i": r"(?P<i>\d+)", "j": r"(?P<j>\d+)", "rest": r"(?P<rest>.+)", "qkv": r"(?P<qkv>[qkv])"}


@dataclass(frozen=True)
class Rename:
    """A pair of names.

    Attributes:
        ours, theirs: names in the module and in the file. ``{i}`` and ``{j}`` stand for numbers and ``{rest}`` for any
            ending, on both sides. ``{qkv}`` in ``ours`` alone: the file's tensor is that of queries,
            keys and values, joined.
    """

    ours: str
    theirs: str

    @property
    def joint(self) -> bool:
        """Whether the file joins what are three tensors here."""
        return "{qkv}" in self.ours

    @cached_property
    def ours_pattern(self) -> re.Pattern[str]:
        return _pattern(self.ours)

    @cached_property
    def theirs_pattern(self) -> re.Pattern[str]:
        return _pattern(self.theirs)


class Renaming:
    """A table of names; the first pair that fits a name is its own.

    Args:
        pairs: of names ``(ours, theirs)``, see :class:`Rename`.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.renames = [Rename(*pair) for pair in pairs]

    def ours(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a file under the module's names; those without a pair keep theirs."""
        out: dict[str, Tensor] = {}
        for key, tensor in weights.items():
            for rename, match in self._fits(key, lambda rename: rename.theirs_pattern):
                if rename.joint:
                    for part, rows in zip("qkv", tensor.tensor_split(3), strict=True):
                        out[rename.ours.format(qkv=part, **match)] = rows.clone()
                else:
                    out[rename.ours.format(**match)] = tensor
                break
            else:
                out[key] = tensor
        return out

    def theirs(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The reverse of :meth:`ours`."""
        out: dict[str, Tensor] = {}
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in weights.items():
            for rename, match in self._fits(key, lambda rename: rename.ours_pattern):
                if rename.joint:
                    parts.setdefault(rename.theirs.format(**match), {})[match["qkv"]] = tensor
                else:
                    out[rename.theirs.format(**match)] = tensor
                break
            else:
                out[key] = tensor
        return out | {key: torch.cat([three[part] for part in "qkv"]) for key, three in parts.items()}

    def their_name(self, key: str) -> str:
        """A module's name in the file."""
        fits = self._fits(key, lambda rename: rename.ours_pattern)
        return next((rename.theirs.format(**match) for rename, match in fits), key)

    def _fits(self, key: str, pattern: Callable[[Rename], re.Pattern[str]]) -> Iterator[tuple[Rename, dict[str, str]]]:
        for rename in self.renames:
            if match := pattern(rename).fullmatch(key):
                yield rename, match.groupdict()


def _pattern(name: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", name)
    return re.compile("".join(_FIELDS[piece] if n % 2 else re.escape(piece) for n, piece in enumerate(pieces)))
