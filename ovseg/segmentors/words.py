"""What every segmentor shares: CLIP, and the words that photos are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor

from ovseg.content import Fingerprint, Watch, weights_of
from ovseg.describing import described
from ovseg.float32 import KeepsFloat32
from ovseg.registry import BACKBONES, construct
from ovseg.segmentors.records import WordsLock
from ovseg.text import TextEncoder, Vocabulary
from ovseg.text.auxiliary import AuxiliaryText


@described
class WordModel(KeepsFloat32, BaseModel):
    """A model that is told in words what to look for.

    Args:
        backbone: config of a registered backbone, e.g. ``dict(type='ClipBackbone', weights='openai/ViT-B-16')``.
        vocabulary: see :meth:`ovseg.text.Vocabulary.of`; ``None``: call :meth:`set_vocabulary`.
        templates: name of a template set or a list of templates with ``{}``.
        auxiliary_text: arguments of :class:`ovseg.text.auxiliary.AuxiliaryText`: a further text per class, mixed into
            the embedding of its names (ITACLIP).
        templates_apart: words have one embedding per template, for decoders that read them so (SED).
        keep_length: words are means over their templates as they are, not of unit length (VIP).
        text_cache: folder of the text-embedding cache; ``None``: the default folder; ``False``: no cache.
        data_preprocessor, init_cfg, train_cfg, test_cfg, pretrained: MMEngine's and MMSegmentation's habits.
    """

    @torch.inference_mode(False)  # parts and buffers made in it could never be trained
    def __init__(
        self,
        backbone: dict,
        vocabulary: dict | None = None,
        templates: str | Sequence[str] = "openai_80",
        auxiliary_text: dict | None = None,
        templates_apart: bool = False,
        keep_length: bool = False,
        text_cache: str | Path | bool | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        pretrained: str | None = None,
    ) -> None:
        # images arrive as lists of different sizes: the preprocessor only moves them to the device
        super().__init__(data_preprocessor or BaseDataPreprocessor(non_blocking=True), init_cfg)
        self.backbone = BACKBONES.build(backbone)
        self.auxiliary_text = construct(AuxiliaryText, auxiliary_text, "auxiliary_text") if auxiliary_text else None
        self.text_encoder = TextEncoder(
            self.backbone.clip,
            self.backbone.tokenizer,
            templates=templates,
            cache_dir=text_cache or None,
            cache=text_cache is not False,
            templates_apart=templates_apart,
            text_map=getattr(self.backbone, "text_map", None),
            keep_length=keep_length,
        )
        if templates_apart and auxiliary_text:
            raise ValueError("auxiliary_text is mixed into one embedding per name; drop it or templates_apart")
        self.words_lock = WordsLock()  # the words are changed and read together
        self.vocabulary: Vocabulary | None = None
        self._encoded_by: str | None = None  # fingerprint of the text tower that made `text`
        self._content = Fingerprint()
        self.register_buffer("text", torch.zeros(0, self.backbone.tower.embed_dim), persistent=False)
        self.register_buffer("query_to_class", torch.zeros(0, dtype=torch.long), persistent=False)
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)

    @torch.inference_mode(False)  # the words outlive the call
    def set_vocabulary(
        self, vocabulary: Vocabulary | str | Sequence | Mapping, embeddings: Tensor | None = None
    ) -> None:
        """Choose the words; encoded once, and cached on disk.

        Args:
            vocabulary: a :class:`Vocabulary`, or what :meth:`Vocabulary.of` makes one from: names (``'sofa; couch'``
                gives one class two queries), a packaged name, a class file, a mapping of names to synonyms.
            embeddings: ``[Q, D]`` (with ``templates_apart`` ``[Q, P, D]``) unit vectors to use instead of encoding the
                queries.
        """
        vocabulary = Vocabulary.of(vocabulary)
        encoded_by = None
        if embeddings is not None:
            text = embeddings.clone() if embeddings.is_inference() else embeddings
        else:
            encoded_by = self.text_encoder.fingerprint()
            text = self.embed_words(vocabulary)
        if text.shape[0] != len(vocabulary.queries):
            raise ValueError(f"{text.shape[0]} text embeddings for {len(vocabulary.queries)} queries")
        device = self.backbone.mean.device
        text, query_to_class = text.to(device, torch.float32), vocabulary.query_to_class.to(device)
        with self.words_lock:
            self.vocabulary, self._encoded_by = vocabulary, encoded_by
            self.text, self.query_to_class = text, query_to_class

    @torch.inference_mode(False)
    def embed_words(self, vocabulary: Vocabulary) -> Tensor:
        """Unit embeddings ``[Q, D]`` (``[Q, P, D]``) float32 of a vocabulary's queries, the auxiliary text mixed in.

        Nothing is set.
        """
        text = self.text_encoder.encode(vocabulary)
        if self.auxiliary_text is not None:
            text = self.auxiliary_text.mix(text, vocabulary, self.text_encoder)
        return text.to(self.backbone.mean.device, torch.float32)

    def follow_weights(self) -> None:
        """Embed the words again if CLIP's text tower has changed since; prediction does it by itself.

        Embeddings that were given to :meth:`set_vocabulary` stay as they are.
        """
        if self._encoded_by is not None and self._encoded_by != self.text_encoder.fingerprint():
            self.set_vocabulary(self.vocabulary)

    def watch(self) -> Watch:
        """What :meth:`same_weights` compares with."""
        return Watch(weights_of(self).values())

    def same_weights(self, watch: Watch) -> bool:
        """Whether all weights are, on their device, what they were when ``watch`` was made by :meth:`watch`."""
        return watch.holds(weights_of(self).values())

    def weights_content(self) -> str:
        """SHA-256 (hex) over all weights as they are now; read again only after a change."""
        return self._content(weights_of(self))

    def require_vocabulary(self) -> Vocabulary:
        """The words in use.

        Raises:
            ValueError: if none were set.
        """
        if self.vocabulary is None:
            raise ValueError("no vocabulary: give `vocabulary` in the config or call set_vocabulary([...]) first")
        return self.vocabulary
