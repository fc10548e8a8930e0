"""Requests of different sizes and words, encoded together: whoever waits while the model works shares its next step."""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from ovseg.apis import Segmenter
from ovseg.encoded import EncodedImage, Wanted, result_of
from ovseg.results import SegmentationResult
from ovseg.segmentors.records import Wording
from ovseg.text import Vocabulary

_KEPT = 64
"""Vocabularies whose embeddings are kept."""


@dataclass(eq=False)
class Question:
    """A photo and words.

    Attributes:
        image: uint8 RGB ``[H, W, 3]``.
        vocabulary: the words.
        background: name of the class that takes uncertain pixels.
        deadline: of ``time.monotonic``; what has not begun by then is not begun.
        answer: gets the result, or the error.
    """

    image: np.ndarray
    vocabulary: Vocabulary
    background: str | None
    deadline: float
    answer: Future[SegmentationResult] = field(default_factory=Future)


class TooLate(TimeoutError):
    """A question whose deadline had passed before its turn came."""


class Batcher:
    """Answers questions in one thread, several at a time.

    Args:
        segmenter: the model; nobody else changes it.
        batch: most photos that are encoded together.
        wait: seconds that a question waits for company at most; 0: it shares a step with those that came meanwhile.
        seen: gets the size of every batch.
    """

    def __init__(
        self, segmenter: Segmenter, batch: int, wait: float = 0.0, seen: Callable[[int], object] = lambda photos: None
    ) -> None:
        self._segmenter, self._batch, self._wait, self._seen = segmenter, batch, wait, seen
        self._waiting: queue.Queue[Question | None] = queue.Queue()
        self._wordings: OrderedDict[tuple[str, str | None, tuple[str, ...]], Wording] = OrderedDict()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ovseg-batcher", daemon=True)
        self._thread.start()

    def put(self, question: Question) -> Future[SegmentationResult]:
        """A question joins the line; its answer comes later.

        Raises:
            RuntimeError: after :meth:`close`.
        """
        if self._closed.is_set():
            raise RuntimeError("no more questions are taken")
        self._waiting.put(question)
        return question.answer

    def close(self) -> None:
        """Answer what waits, then end."""
        self._closed.set()
        self._waiting.put(None)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether questions are still answered."""
        return self._thread.is_alive()

    def _work(self) -> None:
        ended = False
        while not ended:
            first = self._waiting.get()
            group, until = [first], time.monotonic() + self._wait
            while len(group) < self._batch and group[-1] is not None:
                try:
                    left = until - time.monotonic()
                    group.append(self._waiting.get(timeout=left) if left > 0 else self._waiting.get_nowait())
                except queue.Empty:
                    break
            ended = group[-1] is None
            self._answer([question for question in group if question is not None])

    def _answer(self, group: list[Question]) -> None:
        """Answer some questions; an error is that of the question it belongs to."""
        now = time.monotonic()
        ready = []
        for question in group:
            if not question.answer.set_running_or_notify_cancel():
                continue
            if question.deadline < now:
                question.answer.set_exception(TooLate("its turn came too late"))
            else:
                ready.append(question)
        if not ready:
            return
        self._seen(len(ready))
        try:
            encoded: list[EncodedImage | Exception] = [*self._segmenter.encode_batch([q.image for q in ready])]
        except Exception:  # one by one, so that the others are not its victims
            encoded = [self._alone(question) for question in ready]
        for question, photo in zip(ready, encoded, strict=True):
            try:
                if isinstance(photo, Exception):
                    raise photo
                model, inside = photo.opened()
                wording = self._wording(question.vocabulary, question.background)
                question.answer.set_result(
                    result_of(model, inside, photo.image, wording, Wanted(confidence=False, top=0))
                )
            except Exception as error:  # told to whoever asked
                question.answer.set_exception(error)

    def _alone(self, question: Question) -> EncodedImage | Exception:
        try:
            return self._segmenter.encode_batch([question.image])[0]
        except Exception as error:  # told to whoever asked
            return error

    def _wording(self, vocabulary: Vocabulary, background: str | None) -> Wording:
        """Words made ready; those of the last vocabularies are kept."""
        key = (vocabulary.content_hash, background, vocabulary.display_names)
        found = self._wordings.pop(key, None)
        if found is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # words that a small model has not learned
                found = self._segmenter.wording(vocabulary, background)
        self._wordings[key] = found
        while len(self._wordings) > _KEPT:
            self._wordings.popitem(last=False)
        return found
