"""The segmentor of methods that propose masks and then name them: FC-CLIP, MAFT+, OVSeg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovseg.decoders import Features, Prediction
from ovseg.decoders.panoptic import instances, panoptic_segments
from ovseg.float32 import all_finite, exact_convolutions
from ovseg.heads.evidence import Evidence
from ovseg.out_of_memory import told_when_out_of_memory
from ovseg.photo import Photo
from ovseg.registry import BACKBONES, MODELS
from ovseg.results import SegmentationResult
from ovseg.results.instances import Instance
from ovseg.scores import AnyScoreMap, DecodedScoreMap
from ovseg.segmentors.decoder import DecoderSegmentor
from ovseg.segmentors.records import EncodedPhoto, Wording
from ovseg.text import Vocabulary

NO_SEGMENT = "(no segment)"
"""Class of the pixels of a panoptic result that belong to no segment."""


@MODELS.register_module()
class MaskSegmentor(DecoderSegmentor):
    """Photo and vocabulary in, a class per pixel out: masks that know no word, then a class for each.

    As :class:`DecoderSegmentor`, with a :class:`ovseg.decoders.MaskDecoder`; it also gives panoptic results and
    instances. The score of a class at a pixel is the sum over the masks of the mask's class probability times the mask
    (Cheng et al., MaskFormer, NeurIPS 2021, section 3.4).

    Args:
        teacher: config of a backbone that stays as it is, for losses that compare with it (MAFT+).
        **parts: see :class:`DecoderSegmentor`.
    """

    @torch.inference_mode(False)
    def __init__(self, *, teacher: dict | None = None, **parts: Any) -> None:
        super().__init__(**parts)
        self.teacher = BACKBONES.build(teacher) if teacher else None

    def train(self, mode: bool = True) -> MaskSegmentor:
        """As in the base class; the teacher stays in evaluation mode, too."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def words_of_training(self) -> Vocabulary:
        """The words of the label maps that are trained on; names of one class are pooled by the decoder."""
        return self.training_vocabulary or self.require_vocabulary()

    def decode(self, images: Sequence[Tensor], words: Sequence[int] | None = None) -> Prediction:
        """What the decoder gives in training for uint8 RGB images ``[3, h, w]`` of one size; the last stage of the
        teacher's features as ``extras['teacher_features']``.

        Args:
            words: indices of some words of training; ``None``: all.

        Raises:
            ValueError: if the framing changes the images' size: label maps would no longer lie on the masks.
        """
        batch = torch.stack([self.backbone.normalise(image) for image in images])
        frames = self.training_framing.frames(batch)
        if frames.shape != batch.shape:
            sizes = [" x ".join(map(str, shape[-2:])) for shape in (batch.shape, frames.shape)]
            raise ValueError(f"training images of {sizes[0]} px would become {sizes[1]}: crop them to that size")
        vocabulary = self.words_of_training()
        if words is not None:
            vocabulary = Vocabulary.of([vocabulary.classes[word] for word in words])
        prediction = self.decoder.predict_to_train(frames, self.backbone, self.training_text(words), vocabulary)
        if self.teacher is not None:
            with torch.no_grad():
                prediction.extras["teacher_features"] = self.teacher(frames)[-1]
        return prediction

    @exact_convolutions()
    @torch.no_grad()
    def encode(self, photos: Sequence[Photo]) -> list[EncodedPhoto]:
        """Masks and their vectors, photo by photo: nothing depends on what else is in the batch."""
        found = []
        for photo in photos:
            with told_when_out_of_memory([photo.size]):
                found.append(EncodedPhoto(photo, None, self._features(photo.image[None])))
        return found

    def _features(self, images: Tensor) -> Features:
        return self.decoder.encode_masks(images, self.framing.frames(images), self.backbone)

    def predict_masks(self, encoded: EncodedPhoto, wording: Wording) -> Prediction:
        """Masks ``[1, K, h, w]`` and their classes in given words."""
        return self.decoder(encoded.features, wording.queries.text, wording.vocabulary)

    def score_map(self, encoded: EncodedPhoto, wording: Wording) -> DecodedScoreMap:
        """The scores of an encoded photo, one for each class."""
        prediction = self.predict_masks(encoded, wording)
        return self.framing.merge(prediction, tuple(encoded.photo.image.shape[1:]), encoded.photo.size)

    def masks(self, encoded: EncodedPhoto, prediction: Prediction, wording: Wording) -> DecodedScoreMap:
        """The masks' own probabilities at the photo's pixels, class-agnostic.

        Raises:
            NotFinite: for masks or class probabilities that hold NaN or infinite values.
        """
        if not (all_finite(prediction.maps) and all_finite(prediction.extras["probabilities"])):
            raise self.not_finite(encoded.photo, wording)
        alone = Prediction(prediction.maps)
        return self.framing.merge(alone, tuple(encoded.photo.image.shape[1:]), encoded.photo.size)

    @torch.no_grad()
    def panoptic(
        self, photos: Sequence[Photo], things: Sequence[str], threshold: float = 0.0, overlap: float = 0.8
    ) -> list[SegmentationResult]:
        """Things and stuff of photos, see :func:`ovseg.decoders.panoptic.panoptic_segments`.

        Args:
            things: names of the classes that are counted one by one; the others are stuff.
            threshold, overlap: see there.

        Returns:
            results whose ``regions`` are the segments' ids, so that ``result.to_panoptic(instances=True)`` and
            ``result.instances()`` give the segments. Pixels without a segment have id 0 and the last, additional class
            :data:`NO_SEGMENT`.

        Raises:
            ValueError: for a thing that is no class of the vocabulary.
        """
        wording, results = self.wording(), []
        names = wording.vocabulary.display_names
        counted = self._things(names, things)
        for encoded in self.encode(photos):
            prediction = self.predict_masks(encoded, wording)
            masks = self.masks(encoded, prediction, wording)
            ids, segments = panoptic_segments(masks, prediction.extras["probabilities"][0], counted, threshold, overlap)
            table = np.array([len(names), *(segment.category for segment in segments)], np.uint16)
            ids = ids.cpu().numpy()
            results.append(SegmentationResult(table[ids], (*names, NO_SEGMENT), _pixels(encoded.photo), regions=ids))
        return results

    @torch.no_grad()
    def instances(
        self, photos: Sequence[Photo], things: Sequence[str] | None = None, most: int = 100
    ) -> list[list[Instance]]:
        """Instances of photos, best first; see :func:`ovseg.decoders.panoptic.instances`.

        Args:
            things: names of the classes of which instances are wanted; ``None``: all.
            most: see there.

        Raises:
            ValueError: for a thing that is no class of the vocabulary.
        """
        wording = self.wording()
        names, found = wording.vocabulary.display_names, []
        counted = None if things is None else self._things(names, things)
        for encoded in self.encode(photos):
            prediction = self.predict_masks(encoded, wording)
            masks = self.masks(encoded, prediction, wording)
            found.append(instances(masks, prediction.extras["probabilities"][0], names, counted, most))
        return found

    def _things(self, names: Sequence[str], things: Sequence[str]) -> Tensor:
        unknown = [name for name in things if name not in names]
        if unknown:
            raise ValueError(f"things {unknown[:5]} are no classes of the vocabulary ({', '.join(names[:5])}, ...)")
        return torch.tensor([name in things for name in names])

    def evidence(self, scores: AnyScoreMap, wording: Wording | None = None) -> Evidence:
        """As in the base class; scores are of classes, not of queries."""
        wording = wording or self.wording()
        classes = torch.arange(wording.queries.num_classes, device=wording.queries.text.device)
        return Evidence(scores, wording.head, classes, len(classes))


def _pixels(photo: Photo) -> np.ndarray | None:
    """The photo itself, uint8 ``[H, W, 3]``, where the data pipeline brought it."""
    return None if photo.original is None else photo.original.permute(1, 2, 0).cpu().numpy()
