"""Contrastive pretraining of nano from image-caption pairs, as an MMEngine model."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from ovseg.nano.assets import asset
from ovseg.nano.dataset import class_names
from ovseg.nano.textures import BACKGROUNDS, PLAIN
from ovseg.registry import MODELS
from ovseg.weights import hybrid

#: Prompts seen in training: short ones of the 80 ImageNet templates, so that those work at test time.
PROMPTS = (
    "a {}.",
    "the {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a photo of many {}.",
    "a bad photo of a {}.",
    "a good photo of the {}.",
    "a cropped photo of a {}.",
    "a photo of a small {}.",
    "a photo of a large {}.",
    "a photo of a clean {}.",
    "a rendering of a {}.",
    "a drawing of a {}.",
    "a cartoon {}.",
    "art of the {}.",
    "a toy {}.",
    "a close-up photo of a {}.",
    "a photo of my {}.",
    "itap of a {}.",
    "a {} in a video game.",
)

_BACKGROUNDS = frozenset((*BACKGROUNDS, PLAIN))
_MEAN = open_clip.OPENAI_DATASET_MEAN
_STD = open_clip.OPENAI_DATASET_STD


def build_clip(config: str | Path) -> open_clip.CLIP:
    """An untrained CLIP from a model config (json), see :func:`ovseg.weights.hybrid.build_clip`."""
    content = json.loads(asset(config).read_text(encoding="utf-8"))
    return hybrid.build_clip(content.get("model_cfg", content))


@functools.lru_cache(maxsize=100_000)
def tokens(text: str) -> Tensor:
    """Token ids of a text without the padding, int64 ``[n]``."""
    with torch.inference_mode(False):  # kept for callers inside and outside of it
        ids = open_clip.tokenize([text])[0]
    return ids[: int(ids.argmax()) + 1]


def encode_text(clip: open_clip.CLIP, texts: list[str]) -> Tensor:
    """Embed texts, cut to the longest one (the tower is causal, so padding has no influence) -> ``[n, embed_dim]``."""
    ids = nn.utils.rnn.pad_sequence([tokens(text) for text in texts], batch_first=True)
    ids = ids.to(clip.token_embedding.weight.device)
    length = ids.shape[1]
    x = clip.token_embedding(ids) + clip.positional_embedding[:length]
    mask = clip.attn_mask[:length, :length]
    for block in clip.transformer.resblocks:
        x = run_block(block, x, mask)
    x = clip.ln_final(x[torch.arange(len(ids), device=ids.device), ids.argmax(dim=1)])
    return x @ clip.text_projection


def patchify(images: Tensor, patch: int) -> Tensor:
    """Cut ``[b, 3, h, w]`` into rows ``[b, n, 3 * patch * patch]`` in the order of the patch convolution's weights."""
    b, c, h, w = images.shape
    x = images.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch * patch)


def attend(attn: nn.MultiheadAttention, x: Tensor, mask: Tensor | None = None, queries: int | None = None) -> Tensor:
    """Self-attention of ``attn``, written out: for a few dozen tokens the fused CPU kernel is four times slower.

    Args:
        attn: the weights.
        x: tokens ``[b, n, width]``.
        mask: added to the logits, ``[n, n]``.
        queries: only the first so many tokens ask.
    """
    width = x.shape[-1]
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    if queries is None:
        q, k, v = F.linear(x, weight, bias).chunk(3, dim=-1)
    else:
        q = F.linear(x[:, :queries], weight[:width], bias[:width])
        k, v = F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
    q, k, v = (t.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
    logits = q * q.shape[-1] ** -0.5 @ k.mT
    if mask is not None:
        logits = logits + mask
    return attn.out_proj((logits.softmax(dim=-1).to(v.dtype) @ v).transpose(1, 2).flatten(2))


def run_block(block: nn.Module, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """One pre-norm transformer block of open_clip, ``[b, n, width]`` -> the same shape."""
    x = x + attend(block.attn, block.ln_1(x), mask)
    return x + block.mlp(block.ln_2(x))


def value_path(visual: nn.Module, x: Tensor) -> Tensor:
    """The last block's values without any mixing: ``out_proj(v(ln_1(x)))``, ``[b, n, width]`` (MaskCLIP, section 3)."""
    block = visual.transformer.resblocks[-1]
    width = x.shape[-1]
    attn = block.attn
    value = F.linear(block.ln_1(x), attn.in_proj_weight[2 * width :], attn.in_proj_bias[2 * width :])
    return attn.out_proj(value)


def self_attention(visual: nn.Module, x: Tensor, which: str) -> Tensor:
    """The last block with queries on queries (``which="q"``) or keys on keys (``"k"``), as in ClearCLIP and NACLIP.

    Args:
        visual: open_clip's vision transformer.
        x: all tokens that enter the last block, class token first, ``[b, 1 + n, width]``.
        which: ``q`` or ``k``.

    Returns:
        ``out_proj(softmax(s s^T / sqrt(d)) v)`` of all tokens, without residual and feed-forward.
    """
    block = visual.transformer.resblocks[-1]
    attn = block.attn
    q, k, v = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    s, v = (t.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for t in (q if which == "q" else k, v))
    weights = (s * s.shape[-1] ** -0.5 @ s.mT).softmax(dim=-1).to(v.dtype)
    return attn.out_proj((weights @ v).transpose(1, 2).flatten(2))


def matching_loss(scores: Tensor, positive: Tensor) -> Tensor:
    """Two-sided contrastive loss with any number of positives.

    Each positive pair competes with the negatives of its row and with those of its column, never with other positives:
    ``log(1 + sum_neg exp(s_neg) / exp(s_pos))``, mean over the pairs and the two sides.

    Args:
        scores: scaled similarities ``[images, texts]``.
        positive: bool ``[images, texts]``: the image contains all that the text names.
    """
    negatives = scores.masked_fill(positive, -torch.inf)
    rows, columns = positive.nonzero(as_tuple=True)
    pairs = scores[rows, columns]
    by_image = F.softplus(negatives.logsumexp(dim=1)[rows] - pairs)
    by_text = F.softplus(negatives.logsumexp(dim=0)[columns] - pairs)
    return (by_image.mean() + by_text.mean()) / 2


def pool_patches(scores: Tensor, sharpness: float = 1.0) -> Tensor:
    """Similarity of image and phrase: the patches' similarities, weighted by their softmax; ``[b, n, k] -> [b, k]``."""
    return ((scores * sharpness).softmax(dim=1) * scores).sum(dim=1)


def share_patches(scores: Tensor) -> Tensor:
    """Which patches make up a word: the words of a caption compete for each patch, then each word averages its patches.

    Args:
        scores: ``[b, n, k]``, minus infinity for words that the caption does not name.

    Returns:
        Weights ``[b, n, k]`` that sum to 1 over the patches for every named word.
    """
    share = scores.softmax(dim=2)
    return share / (share.sum(dim=1, keepdim=True) + 1e-6)


@MODELS.register_module()
class ClipPretrainer(BaseModel):
    """CLIP with four contrastive terms on image-caption pairs; no masks, no boxes.

    1. *caption*: the class token against captions that name one to three of the image's words (CLIP's own loss);
    2. *slot*: the words of a caption share the image's patches among themselves; what a word got must match this word
       and no other, also none of the same caption (cf. SPARC, arXiv:2401.09865, section 3);
    3. *phrase*: every word of the batch against every image, by the patches that match it best, after
       FILIP (arXiv:2111.07783, section 3.1);
    4. *patch*: every patch must match the word of the caption that it fell to in 2, among all words of the batch.

    Terms 2 to 4 read the patches as dense CLIP methods do: half of the images by the last block's value path, a quarter
    each by its q-q and k-k attention. In a CLIP of this size the latter do not come about by themselves.

    Args:
        clip: path of a model config in open_clip's format.
        keep: share of the patches that is kept.
        weights: weight of each term, ``residual`` for terms 2 to 4 on the path with residual and feed-forward kept.
        autocast: run the towers in bfloat16.
        max_logit_scale: upper limit of the learned factor on similarities.
        background_weight: weight of background words in term 4: an object that is not known yet would go to them.
        bank: words that are negatives in every batch, beside those the batch names; default: the benchmark's.
    """

    def __init__(
        self,
        clip: str,
        keep: float = 1.0,
        weights: dict | None = None,
        autocast: bool = True,
        max_logit_scale: float = 50.0,
        bank: Sequence[str] | None = None,
        background_weight: float = 0.3,
    ) -> None:
        super().__init__()
        self.clip = build_clip(clip)
        self.keep, self.autocast, self.max_logit_scale = keep, autocast, max_logit_scale
        self.weights = {"caption": 0.1, "slot": 1.0, "phrase": 0.25, "patch": 1.0, "residual": 0.15, **(weights or {})}
        self.background_weight = background_weight
        self.bank = class_names() if bank is None else list(bank)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1) * 255, persistent=False)
        self._rng = np.random.default_rng()
        #: 1: words of a caption share its patches as equals, whatever their size; 0: each patch decides for itself.
        self.size_power = 1.0

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed images with a random part of their patches.

        Args:
            images: uint8 ``[b, 3, h, w]``, RGB, at most of the size in the model config.

        Returns:
            Class token ``[b, d]``; patches by value path, q-q or k-k attention ``[b, n, d]``; patches of the first
            quarter of the images by the value path with residual and feed-forward ``[b // 4, n, d]``.
        """
        visual = self.clip.visual
        patches = patchify(images, visual.patch_size[0])
        b, total = patches.shape[:2]
        kept = torch.rand(b, total, device=images.device).argsort(dim=1)[:, : max(1, round(total * self.keep))]
        patches = patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[-1]))
        patches = (patches.unflatten(-1, (3, -1)) - self.mean) / self.std
        place = self._places(images.shape[2] // visual.patch_size[0], images.shape[3] // visual.patch_size[1])
        x = F.linear(patches.flatten(2), visual.conv1.weight.flatten(1)) + place[kept]
        return self.encode_patches(x, images, kept)

    def encode_patches(self, x: Tensor, images: Tensor | None, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The tower after its patch embedding.

        Args:
            x: patches with their positions ``[b, n, width]``.
            images, kept: for :meth:`read_patches`.

        Returns:
            As :meth:`encode_image`.
        """
        visual, b = self.clip.visual, len(x)
        token = (visual.class_embedding + visual.positional_embedding[0]).expand(b, 1, -1)
        x = visual.ln_pre(torch.cat([token, x], dim=1))
        for block in visual.transformer.resblocks[:-1]:
            x = run_block(block, x)
        last = visual.transformer.resblocks[-1]
        # Only the class token's row of the last block is needed.
        token = x[:, :1] + attend(last.attn, last.ln_1(x), queries=1)
        token = token + last.mlp(last.ln_2(token))
        value = self.read_patches(x, images, kept)
        # A quarter of the batch is enough for the small term on this path.
        part = slice(0, max(1, b // 4))
        residual = x[part, 1:] + value_path(visual, x[part, 1:])
        residual = residual + last.mlp(last.ln_2(residual))
        return tuple(visual.ln_post(z) @ visual.proj for z in (token[:, 0], value, residual))

    def read_patches(self, x: Tensor, images: Tensor | None, kept: Tensor) -> Tensor:
        """Patches of the last block as dense methods read them: two quarters of the images by the value path, one each
        by q-q and k-k attention.

        Args:
            x: all tokens that enter the last block, class token first, ``[b, 1 + n, width]``.
            images: uint8 ``[b, 3, h, w]``.
            kept: which patches ``x`` holds, in its order, int64 ``[b, n]``.

        Returns:
            ``[b, n, width]``.
        """
        visual, b = self.clip.visual, len(x)
        first, second = b // 2, b // 2 + b // 4
        return torch.cat(
            [
                value_path(visual, x[:first, 1:]),
                self_attention(visual, x[first:second], "q")[:, 1:],
                self_attention(visual, x[second:], "k")[:, 1:],
            ]
        )

    def _places(self, rows: int, columns: int) -> Tensor:
        """Positional embedding of a small image: a random window of the full grid's, ``[rows * columns, width]``."""
        visual = self.clip.visual
        height, width = visual.grid_size
        if rows > height or columns > width:
            raise ValueError(f"images have {rows} x {columns} patches, more than the model's {height} x {width}")
        top, left = self._rng.integers(height - rows + 1), self._rng.integers(width - columns + 1)
        grid = visual.positional_embedding[1:].unflatten(0, (height, width))
        return grid[top : top + rows, left : left + columns].flatten(0, 1)

    def _captions(self, words: list[list[str]]) -> tuple[list[str], list[list[str]]]:
        """One caption per image that names a random part of its words, and which words those are."""
        captions, named = [], []
        for seen in words:
            part = [seen[i] for i in self._rng.permutation(len(seen))[: self._rng.integers(1, 4)]]
            text = part[0] if len(part) == 1 else f"{', a '.join(part[:-1])} and a {part[-1]}"
            captions.append(self._prompt(text))
            named.append(part)
        return captions, named

    def _prompt(self, text: str) -> str:
        # Half of the prompts are the bare text: learned first, and cheap.
        return text if self._rng.random() < 0.5 else PROMPTS[self._rng.integers(len(PROMPTS))].format(text)

    def sizes(self, named: Tensor) -> Tensor:
        """How many patches each word has, to the power of what :attr:`size_power` leaves: ``[b, 1, k]``."""
        return named.softmax(dim=2).sum(dim=1, keepdim=True) ** (1 - self.size_power)

    def _dense(
        self, patches: Tensor, texts: Tensor, positive: Tensor, scale: Tensor, weight: Tensor
    ) -> dict[str, Tensor]:
        patches = F.normalize(patches.float(), dim=-1)
        scores = scale * patches @ texts.T
        # Named words only, padded to the longest caption: a small part of all words.
        images, words = positive.nonzero(as_tuple=True)
        counts = positive.sum(dim=1)
        column = torch.arange(len(words), device=words.device) - (counts.cumsum(0) - counts)[images]
        index = words.new_zeros(len(positive), int(counts.max()))
        index[images, column] = words
        padding = torch.arange(index.shape[1], device=words.device) >= counts[:, None]
        named = scores.gather(2, index[:, None].expand(-1, scores.shape[1], -1))
        named = named.masked_fill(padding[:, None], -torch.inf)
        share = share_patches(named)
        slots = (share.mT @ patches)[images, column]
        # Each word's share of the patches is one, whatever its size: else backgrounds, which are known first, take all.
        target = share * self.sizes(named) if self.size_power < 1 else share
        target = (target / (target.sum(dim=2, keepdim=True) + 1e-9)).detach()
        log_likelihood = (named - scores.logsumexp(dim=2, keepdim=True)).masked_fill(padding[:, None], 0)
        same = words[:, None] == torch.arange(len(texts), device=words.device)
        return {
            "slot": matching_loss(scale * F.normalize(slots, dim=-1) @ texts.T, same),
            "phrase": matching_loss(pool_patches(scores), positive),
            "patch": -(target * log_likelihood * weight[index][:, None]).sum(dim=2).mean(),
        }

    def forward(self, inputs: Tensor, words: list[list[str]], mode: str = "loss") -> dict[str, Tensor]:
        """The training losses of a batch.

        Args:
            inputs: uint8 ``[b, 3, h, w]``.
            words: per image, all that its caption names; not empty.
            mode: ``loss``, the only one.
        """
        if mode != "loss":
            raise ValueError(f"ClipPretrainer only trains: mode must be 'loss', not {mode!r}")
        vocabulary = list(dict.fromkeys([*self.bank, *(word for seen in words for word in seen)]))
        index = {word: i for i, word in enumerate(vocabulary)}
        positive = torch.zeros(len(words), len(vocabulary), dtype=torch.bool)
        for row, seen in enumerate(words):
            positive[row, [index[word] for word in seen]] = True
        # One caption for every fourth image: the text tower is not where the time should go.
        captions, named = self._captions(words[::4])
        contained = torch.stack([positive[:, [index[word] for word in part]].all(dim=1) for part in named], dim=1)
        positive, contained = positive.to(inputs.device), contained.to(inputs.device)
        weight = torch.tensor(
            [self.background_weight if word in _BACKGROUNDS else 1.0 for word in vocabulary], device=inputs.device
        )

        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.autocast):
            token, value, residual = self.encode_image(inputs)
            # One prompt for all words: they differ in nothing but the word, and need little padding.
            prompt = self._prompt("{}")
            texts = encode_text(self.clip, [prompt.format(word) for word in vocabulary])
            caption_texts = encode_text(self.clip, captions)
        texts, caption_texts = (F.normalize(t.float(), dim=-1) for t in (texts, caption_texts))
        scale = self.clip.logit_scale.exp().clamp(max=self.max_logit_scale)
        w = self.weights
        losses = {}
        token_scores = scale * F.normalize(token.float(), dim=-1) @ caption_texts.T
        losses["loss_caption"] = w["caption"] * matching_loss(token_scores, contained)
        dense = self._dense(value, texts, positive, scale, weight)
        losses |= {f"loss_{name}": w[name] * loss for name, loss in dense.items()}
        if w["residual"]:
            dense = self._dense(residual, texts, positive[: len(residual)], scale, weight)
            losses["loss_residual"] = w["residual"] * sum(w[name] * loss for name, loss in dense.items())
        losses["scale"] = scale.detach()
        return losses
