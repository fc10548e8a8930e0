"""What is found out about a data set's files, one sentence each."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data set, or worth knowing.

    Attributes:
        kind: short name, one of those in docs/datasets.md, e.g. ``'doubled-photo'``.
        message: one sentence that names files and says what to do.
        wrong: whether it can make a number wrong; ``False``: worth knowing.
        paths: all files or folders it is about.
    """

    kind: str
    message: str
    wrong: bool = True
    paths: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)
