"""What a request may ask for, and the errors of one that asks for more."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of requests.

    Attributes:
        megabytes: of a body.
        pixels: width x height of a photo.
        classes: classes of a vocabulary.
        prompts: classes and synonyms together: what the text tower encodes.
        letters: of one name.
        waiting: requests that are in hand or wait; one more is refused.
        seconds: from the body's arrival to the answer.
    """

    megabytes: float = 20
    pixels: int = 16_000_000
    classes: int = 200
    prompts: int = 400
    letters: int = 100
    waiting: int = 64
    seconds: float = 60.0


class Refused(Exception):
    """A request that is not done.

    Args:
        status: HTTP's.
        kind: one word, for metrics.
        message: a sentence for whoever asked.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind
