"""The segmentor of trained methods: CLIP's features and words go through a decoder that was trained on masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovseg.class_files import read_class_file
from ovseg.decoders import Features, Prediction
from ovseg.describing import plain
from ovseg.float32 import exact_convolutions
from ovseg.out_of_memory import told_when_out_of_memory
from ovseg.photo import Photo
from ovseg.registry import DECODERS, FRAMINGS, LOSSES, MODELS
from ovseg.scores import DecodedScoreMap
from ovseg.segmentors.photos import PhotoSegmentor
from ovseg.segmentors.records import EncodedPhoto, Wording
from ovseg.text import Vocabulary
from ovseg.training import choose_words, pseudo_labelled, renumbered, select_trained
from ovseg.training.losses import check_labels
from ovseg.weights.needed import told_together


@MODELS.register_module()
class DecoderSegmentor(PhotoSegmentor):
    """Photo and vocabulary in, a class per pixel out, by a decoder that was trained on masks.

    framing -> CLIP up to its last block -> decoder (with the words) -> framing back to the photo -> head.

    Args:
        decoder: config of a registered decoder.
        framing: config of a registered framing: how a photo becomes inputs, and maps become the photo's.
        training_framing: likewise in training, where photos are of one size; ``None``: as ``framing``.
        head: config of a registered head; scores are probabilities, so there is no softmax by default.
        loss: config of a registered loss, for training.
        trained: patterns of the parameters that train, see :func:`ovseg.training.select_trained`; the rest is frozen.
        training_vocabulary: the words of the label maps that are trained on, see :meth:`Vocabulary.of`; ``None``: the
            vocabulary. They are encoded in every iteration where CLIP's text tower trains.
        words_per_step: so many of them are compared in one iteration: those that the label maps show, and others chosen
            at random by the content of the batch (so that a resumed training chooses the same); ``None``: all.
        unseen: names among the words of training whose pixels count as unlabelled and that are not compared; a class
            file of them.
        lower_seen: taken from the scores of the other words of training when photos are segmented, which training
            favours (calibrated stacking, Chao et al., ECCV 2016).
        label_refiners: see :class:`PhotoSegmentor`.
        supervision: what the parts were trained on, for the result row.
        **words: see :class:`ovseg.segmentors.words.WordModel`.

    Raises:
        ValueError: for patterns without a parameter, or unseen words that are no words of training.

    Attributes:
        self_training: pixels without a seen class are labelled with the likeliest unseen one, and all words compared;
            switched by :class:`ovseg.engine.hooks.SelfTrainingHook`.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        *,
        decoder: dict,
        framing: dict | None = None,
        training_framing: dict | None = None,
        head: dict | None = None,
        loss: dict | None = None,
        trained: Sequence[str] = (),
        training_vocabulary: Vocabulary | str | Sequence | Mapping | None = None,
        words_per_step: int | None = None,
        unseen: Sequence[str] | str = (),
        lower_seen: float = 0.0,
        label_refiners: Sequence[dict] = (),
        supervision: str = "CLIP: image-text pairs; decoder: masks with classes",
        **words: Any,
    ) -> None:
        with told_together(words.get("backbone"), decoder):
            super().__init__(
                head=head or dict(type="MaxQueryHead", softmax=False), label_refiners=label_refiners, **words
            )
            self.decoder = DECODERS.build(decoder, default_args=self.told_of_encoder())
        self.framing = FRAMINGS.build(framing or dict(type="WholePhoto"))
        self.training_framing = FRAMINGS.build(training_framing) if training_framing else self.framing
        self.criterion = LOSSES.build(loss) if loss else None
        self.supervision = supervision
        self.training_vocabulary = None if training_vocabulary is None else Vocabulary.of(training_vocabulary)
        self.words_per_step = words_per_step
        self.unseen = tuple(read_class_file(Path(unseen)).entries if isinstance(unseen, str) else unseen)
        self.lower_seen, self.self_training = float(lower_seen), False
        self._check_unseen()
        select_trained(self, trained)

    def told_of_encoder(self) -> dict[str, Any]:
        """Arguments of the decoder that the encoder decides."""
        return dict(tower=self.backbone.tower)

    def train(self, mode: bool = True) -> DecoderSegmentor:
        """As torch's; CLIP stays in evaluation mode: what of it is trained has no dropout and no batch statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    # ------------------------------------------------------------------ pipeline
    def prepare(
        self, image: Tensor, size: tuple[int, int], original: Tensor | None = None, regions: Tensor | None = None
    ) -> Photo:
        """One uint8 RGB image ``[3, h, w]`` made ready; see :class:`Photo`."""
        if original is not None:
            original = original.to(self.backbone.mean.device)
        return Photo(self.backbone.normalise(image), size, original)

    @exact_convolutions()
    @torch.no_grad()
    def encode(self, photos: Sequence[Photo]) -> list[EncodedPhoto]:
        """Everything that needs no word, photo by photo: nothing depends on what else is in the batch."""
        found = []
        for photo in photos:
            with told_when_out_of_memory([photo.size]):
                found.append(EncodedPhoto(photo, None, self.features(self.framing.frames(photo.image[None]))))
        return found

    def score_map(self, encoded: EncodedPhoto, wording: Wording) -> DecodedScoreMap:
        """The decoder's scores of an encoded photo."""
        prediction = self.prediction(encoded, wording)
        scores = self.framing.merge(prediction, tuple(encoded.photo.image.shape[1:]), encoded.photo.size)
        if self.lower_seen:
            seen = set().union(*(names for names in self._training_names() if names.isdisjoint(self.unseen)))
            lowered = [not seen.isdisjoint(names) for names in names_of(wording.vocabulary)]
            per_class = -self.lower_seen * torch.tensor(lowered, dtype=torch.float32)
            scores.offset = per_class.to(prediction.maps.device)[wording.queries.query_to_class]
        return scores

    def prediction(self, encoded: EncodedPhoto, wording: Wording) -> Prediction:
        """What the decoder gives for an encoded photo and given words."""
        return self.decoder(encoded.features, wording.queries.text)

    def features(self, frames: Tensor) -> Features:
        """What the decoder keeps of normalised inputs ``[B, 3, H, W]``."""
        return self.decoder.features(frames, self.backbone)

    # ------------------------------------------------------------------ training
    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence | None = None,
        mode: str = "predict",
        **extras: Sequence[Tensor],
    ) -> list | dict[str, Tensor] | Prediction:
        """MMEngine's entry.

        Args:
            inputs: uint8 RGB images ``[3, h, w]``; of one size for ``'loss'`` and ``'tensor'``.
            data_samples: with ``ori_shape`` for ``'predict'``, with ``gt_sem_seg`` of the images' size for ``'loss'``.
            mode: ``'predict'``: the samples with labels; ``'loss'``: the losses; ``'tensor'``: the decoder's
                :class:`Prediction` for the words of training.

        Raises:
            ValueError: for another mode, or a training without a loss.
        """
        if mode == "predict":
            return super().forward(inputs, data_samples, mode, **extras)
        if mode == "tensor":
            return self.decode(inputs)
        if mode != "loss":
            raise ValueError(f"mode {mode!r}: give 'predict', 'loss' or 'tensor'")
        if self.criterion is None:
            raise ValueError("this config has no loss: set model.loss, e.g. dict(type='BinaryMapLoss')")
        labels = torch.stack([sample.gt_sem_seg.data[0] for sample in data_samples]).long()
        labels = labels.to(self.backbone.mean.device)
        ignore = data_samples[0].get("ignore_index", 255)
        words = None
        if self.unseen:
            return self._zero_shot_loss(inputs, labels, ignore)
        if self.words_per_step is not None:
            words, labels = choose_words(labels, len(self.words_of_training()), self.words_per_step, ignore)
        return self.criterion(self.decode(inputs, words), labels, ignore)

    def _zero_shot_loss(self, inputs: Sequence[Tensor], labels: Tensor, ignore: int) -> dict[str, Tensor]:
        """The losses of a training that may not know the labels of some words."""
        classes = names_of(self.words_of_training())
        unseen = [i for i, names in enumerate(classes) if not names.isdisjoint(self.unseen)]
        check_labels(labels[labels != ignore], len(classes))
        if self.self_training:
            prediction = self.decode(inputs)
            return self.criterion(prediction, pseudo_labelled(labels, prediction.maps, unseen, ignore), ignore)
        seen = [i for i in range(len(classes)) if i not in unseen]
        return self.criterion(self.decode(inputs, seen), renumbered(labels, seen, len(classes), ignore), ignore)

    def _training_names(self) -> list[set[str]]:
        vocabulary = self.training_vocabulary or self.vocabulary
        return names_of(vocabulary) if vocabulary is not None else []

    def _check_unseen(self) -> None:
        known = set().union(*self._training_names())
        if (self.unseen or self.lower_seen) and not known:
            raise ValueError("unseen and lower_seen are about the words of training: set training_vocabulary")
        strange = [name for name in self.unseen if name not in known]
        if strange:
            raise ValueError(f"unseen: {strange[0]!r} is no word of training ({', '.join(sorted(known)[:5])}, ...)")
        if self.unseen and self.words_per_step is not None:
            raise ValueError("unseen and words_per_step: give one of them")

    def decode(self, images: Sequence[Tensor], words: Sequence[int] | None = None) -> Prediction:
        """What the decoder gives for uint8 RGB images ``[3, h, w]`` of one size and the words of training.

        Args:
            words: indices of some of them; ``None``: all.
        """
        frames = self.training_framing.frames(torch.stack([self.backbone.normalise(image) for image in images]))
        return self.decoder(self.features(frames), self.training_text(words))

    def words_of_training(self) -> Vocabulary:
        """The words of the label maps that are trained on.

        Raises:
            ValueError: if there are none, or one has several names: a map then belongs to a name.
        """
        vocabulary = self.training_vocabulary or self.require_vocabulary()
        several = next((names for names in vocabulary.classes if len(names) > 1), None)
        if several is not None:
            raise ValueError(f"training needs one name for each class, {several} are names of one")
        return vocabulary

    def training_text(self, words: Sequence[int] | None = None) -> Tensor:
        """Unit embeddings ``[Q, D]`` of the words of training; with gradients where CLIP's text tower trains."""
        vocabulary = self.words_of_training()
        if words is not None:
            vocabulary = Vocabulary.of([vocabulary.classes[word] for word in words])
        if self.text_encoder.trains:
            return self.text_encoder.encode_to_train(vocabulary)
        return self.embed_words(vocabulary)

    def describe(self) -> dict[str, object]:
        """What must travel with every result of this model (see the protocol in ``docs/evaluation.md``)."""
        facts = {
            "decoder": repr(self.decoder),
            "weights": self.backbone.weights,
            "weights_sha256": self.backbone.sha256,
            "weights_content": self.weights_content(),
            "precision": str(self.backbone.settled),
            "pos_embed": self.backbone.pos_embed,
            "vocabulary_hash": self.vocabulary.content_hash if self.vocabulary else None,
            "templates": self.text_encoder.templates.name,
            "refiners": [repr(r) for r in self.label_refiners],
            "auxiliary_text": repr(self.auxiliary_text) if self.auxiliary_text else None,
            "supervision": self.supervision,
            **({"lower_seen": self.lower_seen} if self.lower_seen else {}),
            **self.framing.describe(),
            **self.head.describe(),
        }
        return plain(facts)


def names_of(vocabulary: Vocabulary) -> list[set[str]]:
    """What each class is called: its names, and the one that results show."""
    return [{shown, *names} for shown, names in zip(vocabulary.display_names, vocabulary.classes, strict=True)]
