"""What every segmentor of photos shares: words in, a class per pixel out, whatever gives the scores."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor

from ovseg.errors import NotFinite
from ovseg.float32 import all_finite, exact_convolutions
from ovseg.heads import ClassMapHead, MaxQueryHead
from ovseg.heads.evidence import Evidence
from ovseg.out_of_memory import told_when_out_of_memory
from ovseg.photo import Photo
from ovseg.queries import Queries
from ovseg.registry import HEADS, REFINERS
from ovseg.scores import AnyScoreMap
from ovseg.segmentors.records import Decision, EncodedPhoto, Wording
from ovseg.segmentors.words import WordModel
from ovseg.text import Vocabulary


class PhotoSegmentor(WordModel):
    """Photos and words in, labels out. A segmentor writes :meth:`prepare`, :meth:`encode` and :meth:`score_map`.

    Args:
        head: config of a registered head.
        label_refiners: configs of registered refiners that are called with the final labels, the :class:`Photo` and
            the :class:`Evidence` of the labels, and give better labels (ITACLIP's morphological closing).
        **words: see :class:`ovseg.segmentors.words.WordModel`.
    """

    probability_scale: float | None = None
    queries_apart: bool = False
    """Of the queries, see :class:`ovseg.queries.Queries`."""
    keep_confidence = False
    """Whether :meth:`forward` leaves ``pred_best`` and ``pred_confidence``, too; a second pass over the scores."""

    @torch.inference_mode(False)  # parts and buffers made in it could never be trained
    def __init__(self, *, head: dict | None = None, label_refiners: Sequence[dict] = (), **words: Any) -> None:
        super().__init__(**words)
        self.head = HEADS.build(head or dict(type="MaxQueryHead"))
        self.label_refiners = [REFINERS.build(r) for r in label_refiners]

    @property
    def finds_background(self) -> bool:
        """Whether the method finds the background by itself, without a threshold."""
        return False

    def prepare(
        self, image: Tensor, size: tuple[int, int], original: Tensor | None = None, regions: Tensor | None = None
    ) -> Photo:
        """One uint8 RGB image ``[3, h, w]`` made ready; see :class:`Photo`."""
        raise NotImplementedError

    def encode(self, photos: Sequence[Photo]) -> list[EncodedPhoto]:
        """Everything that needs no word."""
        raise NotImplementedError

    def score_map(self, encoded: EncodedPhoto, wording: Wording) -> AnyScoreMap:
        """The scores of an encoded photo for given words."""
        raise NotImplementedError

    def set_vocabulary(
        self,
        vocabulary: Vocabulary | str | Sequence | Mapping,
        embeddings: Tensor | None = None,
        head: MaxQueryHead | ClassMapHead | None = None,
    ) -> None:
        """As :meth:`WordModel.set_vocabulary`; calls that began before it keep their words.

        Args:
            vocabulary, embeddings: see there.
            head: takes the place of the model's head at the same moment, e.g. a copy with other thresholds.
        """
        with self.words_lock:
            super().set_vocabulary(vocabulary, embeddings)
            if head is not None:
                self.head = head

    @property
    def queries(self) -> Queries:
        """The words in use, for the parts that compare with them.

        Raises:
            ValueError: if no vocabulary was set.
        """
        return self.wording().queries

    def wording(
        self,
        vocabulary: Vocabulary | str | Sequence | Mapping | None = None,
        head: MaxQueryHead | ClassMapHead | None = None,
    ) -> Wording:
        """The words of a call; whoever sets others meanwhile does not change them.

        Args:
            vocabulary: see :meth:`set_vocabulary`; ``None``: the words in use.
            head: makes the labels; ``None``: a copy of the model's own as it is now.

        Raises:
            ValueError: if there are no words.
        """
        if vocabulary is None:
            with self.words_lock:
                self.follow_weights()
                vocabulary, text, query_to_class = self.require_vocabulary(), self.text, self.query_to_class
                head = head or copy.copy(self.head)
        else:
            vocabulary = Vocabulary.of(vocabulary)
            text = self.embed_words(vocabulary)
            query_to_class = vocabulary.query_to_class.to(text.device)
            head = head or copy.copy(self.head)
        queries = Queries(
            text,
            query_to_class,
            len(vocabulary),
            vocabulary.background,
            head.active_background,
            self.probability_scale,
            self.queries_apart,
            self.text_encoder.encode,
            vocabulary,
        )
        return Wording(vocabulary, queries, head)

    @exact_convolutions()
    @torch.no_grad()
    def predict(self, photos: Sequence[Photo]) -> list[Tensor]:
        """Labels ``[H, W]`` int32 per photo.

        Raises:
            ValueError: if no vocabulary was set.
        """
        wording = self.wording()
        return [self.decide(encoded, wording).labels for encoded in self.encode(photos)]

    @exact_convolutions()
    @torch.no_grad()
    def decide(self, encoded: EncodedPhoto, wording: Wording, top: int = 0) -> Decision:
        """What an encoded photo is in given words.

        Args:
            top: find the best ``top`` classes of every pixel, too (all, where there are fewer).

        Raises:
            NotFinite: for scores that hold NaN or infinite values; the largest of them would be class 0's.
            OutOfMemory: if memory does not hold the scores.
        """
        with told_when_out_of_memory([encoded.photo.size]):
            scores = self.score_map(encoded, wording)
            if not scores.finite:
                raise self.not_finite(encoded.photo, wording)
            evidence = self.evidence(scores, wording)
            labels = self.label(scores, encoded.photo, wording)
            best = evidence.top(top) if top else (None, None)
        return Decision(labels, *best, regions=encoded.photo.regions)

    def not_finite(self, photo: Photo, wording: Wording) -> NotFinite:
        """The error for scores that are no numbers; says where they come from as far as it can be seen."""
        height, width = photo.size
        weight = next((name for name, tensor in self.named_parameters() if not all_finite(tensor)), None)
        if weight is not None:
            why = f"the weights hold such values in {weight}: give other weights, or train with a lower learning rate"
        elif not all_finite(wording.queries.text):
            why = "the words' embeddings hold such values: remove the text cache, or give other words"
        else:
            why = "weights and words hold none: try precision='fp32', which overflows last"
        return NotFinite(f"scores of a photo of {width} x {height} pixels hold NaN or infinite values; {why}")

    @exact_convolutions()
    def score(self, photos: Sequence[Photo]) -> list[AnyScoreMap]:
        """Score maps of photos at their wanted sizes, for the words in use."""
        wording = self.wording()
        return [self.score_map(encoded, wording) for encoded in self.encode(photos)]

    def evidence(self, scores: AnyScoreMap, wording: Wording | None = None) -> Evidence:
        """What labels are made from: the scores, the head and the words (``None``: those in use)."""
        wording = wording or self.wording()
        return Evidence(scores, wording.head, wording.queries.query_to_class, wording.queries.num_classes)

    def label(self, scores: AnyScoreMap, photo: Photo, wording: Wording | None = None) -> Tensor:
        """The head's labels ``[H, W]`` int32, then the label refiners in order."""
        evidence = self.evidence(scores, wording)
        labels = evidence.labels()
        for refiner in self.label_refiners:
            labels = refiner(labels, photo, evidence)
        return labels

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence | None = None,
        mode: str = "predict",
        original: Sequence[Tensor] | None = None,
        regions: Sequence[Tensor] | None = None,
    ) -> list:
        """MMEngine's entry: uint8 RGB images of any sizes, data samples with ``ori_shape``.

        Returns:
            the data samples with ``pred_sem_seg`` (int32 ``[1, H, W]`` at the original size); with
            :attr:`keep_confidence` also ``pred_best`` (int32) and ``pred_confidence`` (float32): the class of the
            largest probability of every pixel before any threshold and label refiner, and that probability.

        Raises:
            ValueError: for another mode.
        """
        if mode != "predict":
            raise ValueError(f"mode {mode!r}: {type(self).__name__} is training-free; only 'predict' is defined")
        extras = zip(original or [None] * len(inputs), regions or [None] * len(inputs), strict=True)
        photos = [
            self.prepare(image, tuple(sample.ori_shape[:2]), first, ids)
            for image, sample, (first, ids) in zip(inputs, data_samples, extras, strict=True)
        ]
        if not self.keep_confidence:
            for sample, labels in zip(data_samples, self.predict(photos), strict=True):
                sample.pred_sem_seg = PixelData(data=labels[None])
            return list(data_samples)
        wording = self.wording()
        for sample, encoded in zip(data_samples, self.encode(photos), strict=True):
            decision = self.decide(encoded, wording, top=1)
            sample.pred_sem_seg = PixelData(data=decision.labels[None])
            sample.pred_best = PixelData(data=decision.top_classes)
            sample.pred_confidence = PixelData(data=decision.top_probabilities)
        return list(data_samples)
