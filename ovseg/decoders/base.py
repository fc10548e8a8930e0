"""What a trained decoder is: a module that is given tensors and gives maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from ovseg.describing import described
from ovseg.structures import AttentionContext, Tower
from ovseg.weights import load_decoder

Features = dict[str, Tensor]
"""What a decoder keeps of images before any word is known: tensors by name, images first."""


class Encoder(Protocol):
    """What a decoder may use of an image encoder (:class:`ovseg.backbones.ClipBackbone`)."""

    tower: Tower
    clip: nn.Module
    pos_embed: str

    def __call__(self, images: Tensor, record: Sequence[int] = (), depth: int | None = None) -> AttentionContext: ...


@dataclass
class Prediction:
    """What a decoder gives for a batch of images.

    Attributes:
        maps: ``[B, K, h, w]`` float32 logits: a map for each of the words, or of K class-agnostic masks.
        classes: ``[B, K, Q]`` what each mask counts for each word (its class probability); ``None``: a map belongs to a
            word, ``K = Q``.
        extras: what a loss looks at besides: class logits with the "no object" column, outputs of earlier layers, ...
    """

    maps: Tensor
    classes: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)


@described
class Decoder(nn.Module):
    """Features of images and word embeddings in, maps out; it never sees the segmentor.

    A decoder writes :meth:`encode` and :meth:`forward`, and calls :meth:`load` at the end of its constructor. Its first
    argument is ``tower``, given by the segmentor: what it needs to know of the encoder (widths, blocks). It keeps no
    tower: the one to use comes with the context.

    Class attributes:
        needs_inputs: blocks whose input tokens it wants in ``context.inputs`` (0-based; negative from the end).
        weights_argument: the argument that names weights of the catalogue.
    """

    needs_inputs: tuple[int, ...] = ()
    weights_argument = "weights"

    def __init__(self, tower: Tower) -> None:
        super().__init__()

    def load(self, weights: str | None, checkpoint: str | Path | None) -> None:
        """Take the weights of a name of the catalogue, strictly.

        Args:
            weights: name of the catalogue; ``None``: stay as initialised.
            checkpoint: file to read instead of the catalogue's.

        Raises:
            ValueError: for a checkpoint without a name.
            WeightsError: as the loaders of :mod:`ovseg.weights`.
        """
        if weights is None and checkpoint is not None:
            raise ValueError(f"checkpoint {checkpoint}: name the format in `weights` too, a name of the catalogue")
        if weights is not None:
            load_decoder(weights, self, checkpoint)

    def needs_inputs_of(self, num_blocks: int) -> tuple[int, ...]:
        """:attr:`needs_inputs` as non-negative block indices of a tower with ``num_blocks`` blocks.

        Raises:
            ValueError: if the tower has too few blocks.
        """
        indices = tuple(i + num_blocks if i < 0 else i for i in self.needs_inputs)
        if any(not 0 <= i < num_blocks for i in indices):
            raise ValueError(
                f"{type(self).__name__} reads the inputs of blocks {self.needs_inputs}, but this tower has "
                f"{num_blocks} blocks; set the blocks in the config"
            )
        return indices

    def features(self, frames: Tensor, backbone: Encoder) -> Features:
        """Everything that needs no word, of normalised inputs ``[B, 3, H, W]``.

        CLIP runs up to its last block, and :meth:`encode` takes what it gives. A decoder that works inside CLIP's
        blocks, or beside another kind of encoder, has a method of its own.

        Args:
            frames: see above.
            backbone: the encoder.
        """
        return self.encode(backbone(frames, self.needs_inputs_of(len(backbone.tower.blocks))))

    def encode(self, context: AttentionContext) -> Features:
        """Everything that needs no word, of a batch of images that CLIP ran up to its last block."""
        raise NotImplementedError

    def forward(self, features: Features, text: Tensor) -> Prediction:
        """The maps of a batch for given words.

        Args:
            features: from :meth:`encode`.
            text: ``[Q, D]`` float32 unit vectors.
        """
        raise NotImplementedError
