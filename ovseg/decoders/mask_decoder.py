"""What decoders of class-agnostic masks share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ovseg.decoders.base import Decoder, Features, Prediction
from ovseg.text import Vocabulary


class MaskDecoder(Decoder):
    """Images to masks, and masks to classes once the words are known: it asks which words belong to one class.

    A decoder writes :meth:`encode_masks` and :meth:`forward`.
    """

    def encode_masks(self, images: Tensor, frames: Tensor, backbone: Any) -> Features:
        """Everything that needs no word.

        Args:
            images: ``[B, 3, h, w]`` normalised images.
            frames: ``[B, 3, H, W]`` what the framing made of them (padded).
            backbone: the CLIP.
        """
        raise NotImplementedError

    def predict_to_train(self, frames: Tensor, backbone: Any, text: Tensor, vocabulary: Vocabulary) -> Prediction:
        """What the losses look at (:class:`ovseg.training.mask_loss.MaskSetLoss`), with gradients.

        Args:
            frames: ``[B, 3, H, W]`` normalised.
            backbone: the CLIP.
            text, vocabulary: see :meth:`forward`.

        Returns:
            ``maps`` and in ``extras`` ``class_logits``, ``earlier_masks`` and ``earlier_class_logits``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no training of its masks")

    def forward(self, features: Features, text: Tensor, vocabulary: Vocabulary) -> Prediction:
        """Masks and what each counts for each *class* of the vocabulary.

        Args:
            features: from :meth:`encode_masks`.
            text: ``[Q, D]`` float32 unit vectors of the vocabulary's queries.
            vocabulary: which query belongs to which class.

        Returns:
            ``maps`` ``[B, K, h, w]``, ``classes`` ``[B, K, C]``; in ``extras`` ``class_logits`` ``[B, K, C + 1]`` of
            the trained classifier and ``probabilities`` ``[B, K, C + 1]``, both with "no object" last.
        """
        raise NotImplementedError
