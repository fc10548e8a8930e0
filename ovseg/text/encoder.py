"""From a vocabulary to text embeddings."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.content import Fingerprint, weights_of
from ovseg.text.cache import EmbeddingCache, default_cache_dir
from ovseg.text.causal import CausalTextTower, text_tower
from ovseg.text.templates import Templates, get_templates
from ovseg.text.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

PROMPTS_PER_BLOCK = 4096  # after each block the cache is written, so a stopped run does not start over
FULL_CONTEXT_BATCH = 128  # prompts at once where the text tower's prompts cannot share prefixes
_PROBE = "A photo of 3 Café-chairs & the dog's bowl."  # two tokenizers that agree here are taken as the same


class TextEncoder:
    """Embeds the names of a vocabulary with a CLIP text tower, exactly and without repeating work.

    open_clip's causal text towers are run over the tree of all prompts (:mod:`ovseg.text.causal`). Any other tower
    (SigLIP, Hugging Face towers, CoCa) is run by its own ``encode_text`` over the full context; ``fallback_reason``
    says why.

    Args:
        clip: an open_clip model, ``CLIP`` or ``CustomTextCLIP``. Embeddings are kept under the content of its weights
            (:mod:`ovseg.content`): whenever these are changed, names are encoded anew.
        tokenizer: the model's tokenizer: list of strings -> int64 ``[n, context]``.
        templates: see :func:`ovseg.text.templates.get_templates`.
        cache_dir: where embeddings are kept; None: :func:`ovseg.text.cache.default_cache_dir`.
        dtype: precision of the matrix products, e.g. ``torch.bfloat16``; None: the model's own.
        cache: False keeps nothing on disk and reads nothing.
        templates_apart: embeddings are not averaged over the templates; a query has one for each (SED).
        text_map: brings the tower's outputs into another space, ``[n, D] -> [n, D']``: embeddings are then the map of
            the mean of the outputs as they are, not normalised, and D below is D' (Talk2DINO).
        keep_length: a query is the mean of its unit vectors over the templates as it is, at most of unit length, so
            that its product with a patch is the mean of the templates' cosines (VIP).

    Attributes:
        templates: the :class:`Templates`.
        fallback_reason: why prompts do not share prefixes, or None if they do.
        fingerprint: call it for the SHA-256 (hex) over the text tower's weights as they are now.
    """

    def __init__(
        self,
        clip: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        templates: str | Sequence[str] | Templates = "openai_80",
        cache_dir: str | Path | None = None,
        dtype: torch.dtype | None = None,
        cache: bool = True,
        templates_apart: bool = False,
        text_map: nn.Module | None = None,
        keep_length: bool = False,
    ) -> None:
        if text_map is not None and templates_apart:
            raise ValueError("a text map takes the mean over the templates; drop templates_apart")
        if keep_length and (templates_apart or text_map is not None):
            raise ValueError("keep_length is about the mean of unit vectors: drop it, templates_apart or the text map")
        self.clip, self.text_map, self.keep_length = clip, text_map, keep_length
        self.tokenizer = tokenizer
        self.templates = get_templates(templates)
        self.templates_apart = templates_apart
        self.fallback_reason = CausalTextTower.not_supported(clip)
        self._content = Fingerprint()
        self._dtype = dtype
        self._cache_dir = Path(cache_dir) if cache_dir is not None else default_cache_dir()
        self._use_cache = cache
        self._cache: tuple[str, EmbeddingCache] | None = None
        if self.fallback_reason:
            logger.info("text prompts are encoded one by one over the full context: %s", self.fallback_reason)

    @torch.inference_mode(False)  # embeddings are kept: training may follow
    def encode(self, vocabulary: Vocabulary) -> Tensor:
        """Embeddings of all queries of a vocabulary.

        Per query: every template is encoded and L2-normalised; their mean is L2-normalised. With a text map: every
        template is encoded; the map of their mean is L2-normalised.

        Returns:
            float32 ``[n_queries, D]`` unit vectors (with ``keep_length`` at most that long) on the CPU, in the order of
            ``vocabulary.queries``; with ``templates_apart`` ``[n_queries, P, D]`` for P templates.

        Raises:
            ValueError: the tokenizer does not belong to the model.

        Warns:
            UserWarning: a name is too long for the context and was cut (when it is encoded, not when it is cached).
        """
        class_of = dict(zip(vocabulary.queries, vocabulary.query_to_class.tolist(), strict=True))
        weights = self.fingerprint()
        cache = self._open_cache(weights)
        embeddings = {query: cache.get(query) if cache else None for query in class_of}
        missing = [query for query, embedding in embeddings.items() if embedding is None]
        step = max(1, PROMPTS_PER_BLOCK // len(self.templates))
        for start in range(0, len(missing), step):
            block = missing[start : start + step]
            owners = [f"{query!r} (class {class_of[query]}, {vocabulary.names[class_of[query]]!r})" for query in block]
            with torch.no_grad():
                found = self._encode_queries(block, owners).cpu()
            for query, embedding in zip(block, found, strict=True):
                embeddings[query] = embedding
                if cache and self.fingerprint() == weights:  # they may have been changed meanwhile
                    cache.put(query, embedding)
            logger.info("text embeddings: %d of %d queries encoded", start + len(block), len(missing))
        return torch.stack([embeddings[query] for query in vocabulary.queries])

    @torch.inference_mode(False)
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of whole sentences, without templates or cache: float32 ``[n, D]`` unit vectors on the CPU."""
        if isinstance(prompts, str):
            raise TypeError(f"expected a list of prompts, got the single string {prompts!r}")
        prompts = list(prompts)
        if not prompts:
            raise ValueError("no prompts to encode")
        with torch.no_grad():
            return self._unit(self._embed(prompts, [repr(prompt) for prompt in prompts])).cpu()

    @property
    def trains(self) -> bool:
        """Whether a parameter of the text tower is trained."""
        return any(tensor.requires_grad for tensor in self._weights().values())

    def encode_to_train(self, vocabulary: Vocabulary) -> Tensor:
        """As :meth:`encode`, on the tower's device, with gradients and without cache."""
        owners = [repr(query) for query in vocabulary.queries]
        return self._encode_queries(list(vocabulary.queries), owners)

    def _encode_queries(self, queries: list[str], owners: list[str]) -> Tensor:
        """``[n, D]`` embeddings averaged over the templates, or ``[n, P, D]`` of each of them.

        ``owners`` name the queries in warnings.
        """
        prompts = [prompt for query in queries for prompt in self.templates.prompts(query)]
        prompt_owners = [owner for owner in owners for _ in range(len(self.templates))]
        embeddings = self._embed(prompts, prompt_owners).unflatten(0, (len(queries), -1))
        if self.templates_apart:
            return embeddings
        mean = embeddings.mean(1)
        return mean if self.keep_length else self._unit(mean)

    def _unit(self, embeddings: Tensor) -> Tensor:
        """``[n, D]`` of unit length, in the space of the patches."""
        return F.normalize(embeddings if self.text_map is None else self.text_map(embeddings), dim=-1)

    def _embed(self, prompts: list[str], owners: list[str]) -> Tensor:
        """float32 ``[n, D]`` outputs of the tower, of unit length where no map wants them as they are."""
        tokens = self._tokenize(prompts, owners)
        if self.fallback_reason is None:
            features = CausalTextTower(self.clip, self._dtype).encode(tokens)
        else:
            device = next(self.clip.parameters()).device
            precision = torch.autocast(device.type, self._dtype) if self._dtype else contextlib.nullcontext()
            with precision:
                batches = tokens.split(FULL_CONTEXT_BATCH)
                features = torch.cat([self.clip.encode_text(batch.to(device)) for batch in batches])
        return features.float() if self.text_map is not None else F.normalize(features.float(), dim=-1)

    def _tokenize(self, prompts: list[str], owners: list[str]) -> Tensor:
        tokens = self.tokenizer(prompts)
        context = getattr(self.clip, "context_length", tokens.shape[1])
        words = getattr(self.clip, "vocab_size", None)
        if tokens.shape[1] > context or (words and int(tokens.max()) >= words):
            raise ValueError(
                f"the tokenizer gives {tokens.shape[1]} tokens with ids up to {int(tokens.max())}, but the model reads "
                f"{context} tokens with ids below {words}; take both from the same model name"
            )
        padding = int(self.tokenizer([""])[0, -1])
        filled = (tokens[:, -1] != padding).nonzero()[:, 0].tolist()
        cut = dict.fromkeys(owners[i] for i in filled if self._is_cut(prompts[i], tokens.shape[1]))
        for owner in cut:
            warnings.warn(
                f"{owner} makes prompts longer than the {tokens.shape[1]} tokens of the model; they are cut at the end",
                stacklevel=2,
            )
        return tokens

    def _is_cut(self, prompt: str, context: int) -> bool:
        """Whether a prompt that fills the context was longer; where the tokenizer cannot tell, it is assumed."""
        encode = getattr(self.tokenizer, "encode", None)
        return encode is None or len(encode(prompt)) + 2 > context  # + start and end of text

    def _open_cache(self, weights: str) -> EmbeddingCache | None:
        if not self._use_cache:
            return None
        dtype = self._dtype or next(self.clip.parameters()).dtype
        probe = self.tokenizer([_PROBE]).tolist()
        # The architecture is part of the key, because it is not in the weights: the same file read with GELU
        # instead of QuickGELU gives other embeddings.
        parts = [weights, text_architecture(self.clip), self.templates.content_hash, str(dtype), probe]
        if self.text_map is not None:
            parts.append(f"mapped by {self.text_map}")  # its weights are in those of the tower
        if self.keep_length:
            parts.append("length kept")
        context = json.dumps([*parts, "templates apart"] if self.templates_apart else parts)
        if self._cache is None or self._cache[0] != context:
            self._cache = (context, EmbeddingCache(self._cache_dir, context))
        return self._cache[1]

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the weights of the text tower (and the map) as they are now; read again only after a
        change."""
        return self._content(self._weights())

    def _weights(self) -> dict[str, Tensor]:
        mapped = {} if self.text_map is None else weights_of(self.text_map)
        return text_weights(self.clip) | {f"text_map.{name}": tensor for name, tensor in mapped.items()}


def text_weights(clip: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of the text tower by name."""
    tensors = weights_of(text_tower(clip))
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(("visual.", "logit_"))}


def text_architecture(clip: nn.Module) -> str:
    """What the text tower computes besides its weights: modules, activation, number of heads, pooling."""
    tower = text_tower(clip)
    parts = [f"{name}: {part}" for name, part in tower.named_children() if name != "visual"]
    heads = [
        part.num_heads
        for name, part in tower.named_modules()
        if not name.startswith("visual.") and hasattr(part, "num_heads")
    ]
    pool = [getattr(tower, name, None) for name in ("pool_type", "text_pool_type", "eos_id", "text_eos_id")]
    return "\n".join([type(tower).__name__, *parts, f"heads {heads}", f"pool {pool}"])
