"""DenseCLIP's segmentor: a decoder whose words are learned prompts, for the classes that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.decoders import DenseClipDecoder
from ovseg.registry import MODELS
from ovseg.segmentors.decoder import DecoderSegmentor
from ovseg.text import Vocabulary


@MODELS.register_module()
class DenseClipSegmentor(DecoderSegmentor):
    """A :class:`DecoderSegmentor` whose words are embedded by its decoder's prompts, anew wherever these have changed.

    Args:
        vocabulary: the classes, one name each, in the order of the decoder's channels.
        decoder: config of a :class:`ovseg.decoders.DenseClipDecoder`.
        **settings: see :class:`DecoderSegmentor`; there are no templates.

    Raises:
        ValueError: for another decoder.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        *,
        decoder: dict,
        vocabulary: Vocabulary | str | Sequence | Mapping | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(decoder=decoder, **settings)
        if not isinstance(self.decoder, DenseClipDecoder):
            raise ValueError(f"DenseClipSegmentor needs a DenseClipDecoder, not {type(self.decoder).__name__}")
        self._embedded: Tensor | None = None
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)

    def told_of_encoder(self) -> dict[str, Any]:
        """As in the base class, and the width of the text tower."""
        return dict(super().told_of_encoder(), text_width=self.backbone.clip.token_embedding.embedding_dim)

    @torch.no_grad()
    def embed_words(self, vocabulary: Vocabulary) -> Tensor:
        """Unit embeddings ``[Q, D]`` float32 of a vocabulary's queries.

        Raises:
            ValueError: for another number of them than the decoder has classes.
        """
        if len(vocabulary.queries) != self.decoder.classes:
            raise ValueError(
                f"{len(vocabulary.queries)} words for a model of {self.decoder.classes} classes: DenseCLIP's set is "
                "closed, and its words are those of its training in their order"
            )
        self._embedded = self.decoder.prompts.contexts.detach().clone()
        return self._embed(vocabulary)

    def follow_weights(self) -> None:
        """As in the base class; prompts are weights, too."""
        super().follow_weights()
        changed = self._embedded is not None and not torch.equal(self._embedded, self.decoder.prompts.contexts)
        if changed and self.vocabulary is not None:
            self.set_vocabulary(self.vocabulary)

    def training_text(self, words: Sequence[int] | None = None) -> Tensor:
        """As in the base class, with gradients for the prompts.

        Raises:
            ValueError: if some of the words are wanted: the decoder knows all or none.
        """
        if words is not None:
            raise ValueError("DenseCLIP's set of classes is closed: words_per_step and unseen are for open ones")
        return self._embed(self.words_of_training())

    def _embed(self, vocabulary: Vocabulary) -> Tensor:
        prompts = self.decoder.prompts
        tokens = prompts.tokens(self.backbone.tokenizer, vocabulary.queries)
        return F.normalize(prompts(self.backbone.clip, tokens).float(), dim=-1)
