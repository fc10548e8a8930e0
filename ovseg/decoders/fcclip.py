"""FC-CLIP and MAFT+: one convolutional CLIP is backbone and classifier, a Mask2Former makes the masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.backbones.convnext import ConvNextClip, ConvNextTower
from ovseg.decoders.base import Features, Prediction
from ovseg.decoders.content_transfer import ContentTransfer
from ovseg.decoders.mask_decoder import MaskDecoder
from ovseg.decoders.mask_pooling import (
    MaskClassEmbedding,
    class_logits,
    mask_pool,
    seen_classes,
    vocabulary_ensemble,
    with_void,
)
from ovseg.decoders.mask_transformer import MaskedAttentionDecoder, MaskProposals
from ovseg.registry import DECODERS
from ovseg.text import Vocabulary


@DECODERS.register_module()
class FcClipDecoder(MaskDecoder):
    """FC-CLIP (Yu et al., NeurIPS 2023).

    A mask is classified twice: by a trained class vector, and by the frozen CLIP's features pooled inside it. How much
    CLIP counts depends on whether the class was among those of the training.

    Args:
        tower: CLIP's ConvNeXt, given by the segmentor.
        trained_classes: the words of the training, see :meth:`ovseg.text.Vocabulary.of`: a class that shares a name
            with one of them counts as seen.
        queries: number of masks.
        decoder_layers: of the masked-attention decoder.
        alpha, beta: exponents of CLIP's probability for seen and for other classes.
        weights: name in the catalogue, e.g. ``'fcclip/convnext_large'``; ``None``: untrained.
        checkpoint: file to read instead of the catalogue's.

    Raises:
        TypeError: for a CLIP without a ConvNeXt.
        ImportError: without transformers.
    """

    def __init__(
        self,
        tower: ConvNextTower,
        trained_classes: str | Sequence | Mapping | Vocabulary = (),
        queries: int = 250,
        decoder_layers: int = 9,
        alpha: float = 0.4,
        beta: float = 0.8,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        super().__init__(tower)
        self._build(tower, queries, decoder_layers)
        for name, exponent in (("alpha", alpha), ("beta", beta)):
            if not 0 <= exponent <= 1:
                raise ValueError(f"{name} is {exponent}; it must lie between 0 and 1")
        self.alpha, self.beta = float(alpha), float(beta)
        self.trained_classes = Vocabulary.of(trained_classes) if len(trained_classes) else None
        self.load(weights, checkpoint)

    def _build(self, tower: ConvNextTower, queries: int, decoder_layers: int) -> None:
        if not isinstance(tower, ConvNextTower):
            raise TypeError(f"{type(self).__name__} needs a ConvNeXt CLIP: set backbone.type to ConvNextClip")
        self.proposals = MaskedAttentionDecoder(tower.channels, queries, decoder_layers=decoder_layers)
        self.classes = MaskClassEmbedding(self.proposals.width, tower.embed_dim)
        self.void_embedding = nn.Embedding(1, tower.embed_dim)

    def propose(self, frames: Tensor, backbone: ConvNextClip) -> tuple[list[MaskProposals], Tensor]:
        """Masks after every layer, and the last stage's features ``[B, C, h, w]``."""
        maps = backbone(frames)
        return self.proposals(maps)[0], maps[-1]

    def encode_masks(self, images: Tensor, frames: Tensor, backbone: ConvNextClip) -> Features:
        proposals, last = self.propose(frames, backbone)
        return self.kept(proposals[-1], last, backbone)

    def kept(self, proposals: MaskProposals, last: Tensor, backbone: ConvNextClip) -> Features:
        """``masks`` ``[B, Q, h, w]``; ``inside`` and ``outside`` ``[B, Q, D]``: scaled vectors of the trained
        classifier and of CLIP."""
        return {
            "masks": proposals.masks,
            "inside": self.classes(proposals),
            "outside": clip_vectors(backbone, last, proposals.masks),
        }

    def forward(self, features: Features, text: Tensor, vocabulary: Vocabulary) -> Prediction:
        index, count = vocabulary.query_to_class.to(text.device), len(vocabulary)
        inside = self.inside_logits(features["inside"], text, vocabulary)
        outside = class_logits(features["outside"], text, index, count)
        probabilities = vocabulary_ensemble(inside, outside, self.seen(vocabulary), self.alpha, self.beta)
        return _prediction(features["masks"], inside, probabilities)

    def predict_to_train(
        self, frames: Tensor, backbone: ConvNextClip, text: Tensor, vocabulary: Vocabulary
    ) -> Prediction:
        with torch.no_grad():  # CLIP stays as it is
            maps = backbone(frames)
        return self.layers_to_train(maps, text, vocabulary)

    def layers_to_train(self, maps: Sequence[Tensor], text: Tensor, vocabulary: Vocabulary) -> Prediction:
        """Masks and trained classes after every layer, of CLIP's maps."""
        proposals, _ = self.proposals(maps)
        logits = [self.inside_logits(self.classes(layer), text, vocabulary) for layer in proposals]
        earlier = {
            "earlier_masks": torch.stack([layer.masks for layer in proposals[:-1]], dim=1),
            "earlier_class_logits": torch.stack(logits[:-1], dim=1),
        }
        return Prediction(proposals[-1].masks, extras={"class_logits": logits[-1], **earlier})

    def seen(self, vocabulary: Vocabulary) -> Tensor:
        """bool ``[C]``: the classes of the training."""
        trained = () if self.trained_classes is None else self.trained_classes.classes
        return seen_classes(vocabulary.classes, trained)

    def with_void(self, text: Tensor) -> Tensor:
        """Words ``[T, D]`` and, last, the learned vector of "no object": ``[T + 1, D]``."""
        return torch.cat([text, F.normalize(self.void_embedding.weight, dim=-1)])

    def inside_logits(self, vectors: Tensor, text: Tensor, vocabulary: Vocabulary) -> Tensor:
        """The trained classifier's ``[B, Q, C + 1]`` of its vectors ``[B, Q, D]``, void last."""
        index = F.pad(vocabulary.query_to_class, (0, 1), value=len(vocabulary)).to(text.device)
        return class_logits(vectors, self.with_void(text), index, len(vocabulary) + 1)


@DECODERS.register_module()
class MaftPlusDecoder(FcClipDecoder):
    """MAFT+ (Jiao et al., ECCV 2024): FC-CLIP's network with a finetuned CLIP, whose words look at the image.

    Of the trained classifier only the probability of void is used.

    Args:
        tower, queries, decoder_layers, weights, checkpoint: see :class:`FcClipDecoder`.
        heads: attention heads of the content-dependent transfer.
        norm_residual: see :class:`ovseg.decoders.content_transfer.ContentTransfer`.
    """

    def __init__(
        self,
        tower: ConvNextTower,
        queries: int = 100,
        decoder_layers: int = 9,
        heads: int = 8,
        norm_residual: bool = True,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        super(FcClipDecoder, self).__init__(tower)
        self._build(tower, queries, decoder_layers)
        self.transfer = ContentTransfer(tower.embed_dim, heads, norm_residual)
        self.load(weights, checkpoint)

    def kept(self, proposals: MaskProposals, last: Tensor, backbone: ConvNextClip) -> Features:
        """FC-CLIP's, and ``dense`` ``[B, D, h, w]``, what the words look at."""
        return {**super().kept(proposals, last, backbone), "dense": self.transfer.dense(backbone.tower, last)}

    def forward(self, features: Features, text: Tensor, vocabulary: Vocabulary) -> Prediction:
        inside = self.inside_logits(features["inside"], text, vocabulary)
        outside = self.outside_logits(features["outside"], features["dense"], text, vocabulary)
        return _prediction(features["masks"], inside, with_void(outside, inside))

    def outside_logits(self, vectors: Tensor, dense: Tensor, text: Tensor, vocabulary: Vocabulary) -> Tensor:
        """CLIP's ``[B, Q, C]`` of its masks' vectors ``[B, Q, D]``, with the words adapted to ``dense``."""
        adapted = self.transfer(self.with_void(text), dense)[:, :-1]
        return class_logits(vectors, adapted, vocabulary.query_to_class.to(text.device), len(vocabulary))

    def predict_to_train(
        self, frames: Tensor, backbone: ConvNextClip, text: Tensor, vocabulary: Vocabulary
    ) -> Prediction:
        """FC-CLIP's, whose gradients stay in the decoder, and CLIP's side, whose gradients stay out of the masks.

        Returns:
            in ``extras`` besides: ``content_logits`` ``[B, Q, C]`` and ``last_features``, CLIP's last stage.
        """
        maps = backbone(frames)
        prediction = self.layers_to_train([features.detach() for features in maps], text, vocabulary)
        vectors = clip_vectors(backbone, maps[-1], prediction.maps.detach())
        dense = self.transfer.dense(backbone.tower, maps[-1])
        prediction.extras["content_logits"] = self.outside_logits(vectors, dense, text, vocabulary)
        prediction.extras["last_features"] = maps[-1]
        return prediction


def clip_vectors(backbone: ConvNextClip, last: Tensor, masks: Tensor) -> Tensor:
    """CLIP's vectors of masks: its last features pooled inside, projected, unit length times CLIP's scale.

    Args:
        backbone: CLIP.
        last: ``[B, C, h, w]`` its last stage's features.
        masks: ``[B, Q, h', w']`` logits.

    Returns:
        ``[B, Q, D]``.
    """
    return F.normalize(backbone.tower.project(mask_pool(last, masks)), dim=-1) * backbone.scale


def _prediction(masks: Tensor, inside: Tensor, probabilities: Tensor) -> Prediction:
    return Prediction(masks, probabilities[..., :-1], {"class_logits": inside, "probabilities": probabilities})
