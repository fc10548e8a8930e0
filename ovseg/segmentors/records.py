"""What a segmentor keeps between its steps: a photo that was encoded, the words of a call, what was decided."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ovseg.encoder import Features
from ovseg.heads import ClassMapHead, MaxQueryHead
from ovseg.photo import Photo
from ovseg.queries import Queries
from ovseg.text import Vocabulary
from ovseg.windows import WindowLayout


@dataclass(frozen=True)
class Wording:
    """The words of one call, as they were at its start.

    Attributes:
        vocabulary: the words.
        queries: their embeddings.
        head: makes labels of scores, with the thresholds that belong to these words.
    """

    vocabulary: Vocabulary
    queries: Queries
    head: MaxQueryHead | ClassMapHead


@dataclass
class EncodedPhoto:
    """A photo after everything that no word can change.

    Attributes:
        photo: the photo, with its region ids and encodings where the method has some.
        layout: where its windows lie; ``None``: no window was encoded.
        features: what the stitch gathered of it.
        masks: bool ``[M, H, W]``, for segmentors that classify masks; their embeddings are ``features['masks']``.
    """

    photo: Photo
    layout: WindowLayout | None
    features: Features
    masks: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the features and the masks."""
        masks = 0 if self.masks is None else self.masks.nbytes
        return masks + sum(tensor.numel() * tensor.element_size() for tensor in self.features.values())


@dataclass(frozen=True)
class Decision:
    """What a photo is labelled.

    Attributes:
        labels: ``[H, W]`` int32.
        top_classes, top_probabilities: ``[k, H, W]`` int32 and float32, where they were asked for: the best k classes
            of every pixel before any threshold and label refiner, best first.
        regions: ``[H, W]`` integer ids of the method's regions, where it has some.
    """

    labels: Tensor
    top_classes: Tensor | None = None
    top_probabilities: Tensor | None = None
    regions: Tensor | None = None


class WordsLock:
    """A lock that its owner may be copied and pickled with: the copy has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple:
        return WordsLock, ()
