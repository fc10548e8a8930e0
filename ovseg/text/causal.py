"""CLIP's text tower over many prompts, without computing anything twice. Exact.

CLIP's text tower is causal (Radford et al. 2021, section 2.4: masked self-attention): a token's state depends only on
the tokens before it. Two things follow.

* Tokens after the end-of-text token, whose state is the embedding, never matter: cut them off instead of padding every
  prompt to 77 tokens.
* Prompts that begin alike share the states of their common beginning. All prompts together form a tree whose nodes are
  the distinct prefixes. The layer norms and matrix products run once per node; only attention looks at whole prompts.

80 templates for each of the 56 names of VOC21 are 344,960 tokens when padded, but only 14,440 nodes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from ovseg.projections import in_projection

PAD = -1
# Small chunks keep the intermediate results in the CPU's cache (about 40 MB in all); a GPU wants large products.
MAX_NODES = {"cpu": 2048, "cuda": 32768}


@dataclass(frozen=True)
class PrefixTree:
    """The distinct prefixes ("nodes") of some token rows. All tensors are int64.

    Attributes:
        token: ``[N]`` last token of each prefix.
        depth: ``[N]`` position of that token.
        leaf: ``[R]`` node of each whole row.
        paths: the rows grouped by shape, each group as ``[r, L]`` nodes along its ``r`` rows and the number ``S`` of
            places at their ends that no earlier row has. Over all groups these ends are the ``N`` nodes, each once.
    """

    token: Tensor
    depth: Tensor
    leaf: Tensor
    paths: tuple[tuple[Tensor, int], ...]

    def to(self, device: torch.device) -> PrefixTree:
        """The same tree on another device."""
        paths = tuple((nodes.to(device), new) for nodes, new in self.paths)
        return PrefixTree(self.token.to(device), self.depth.to(device), self.leaf.to(device), paths)


def prefix_trees(rows: np.ndarray, max_nodes: int) -> Iterator[tuple[slice, PrefixTree]]:
    """Cut sorted rows into trees of about ``max_nodes`` nodes.

    Args:
        rows: int64 ``[P, L]``, distinct and in lexicographic order, so that rows that begin alike are neighbours;
            :data:`PAD` after the last token of a row.
        max_nodes: a tree ends with the row that reaches this many new prefixes.

    Yields:
        The slice of ``rows`` and its tree.
    """
    new = _new_prefixes(rows)
    chunk = np.cumsum(new.sum(1)) // max_nodes
    starts = [0, *(np.flatnonzero(np.diff(chunk)) + 1), len(rows)]
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        yield slice(start, stop), _tree(rows[start:stop])


def _new_prefixes(rows: np.ndarray) -> np.ndarray:
    """Bool ``[P, L]``: the prefix that ends here occurs in no earlier row."""
    new = np.ones(rows.shape, dtype=bool)
    new[1:] = np.logical_or.accumulate(rows[1:] != rows[:-1], axis=1)
    return new & (rows != PAD)


def _tree(rows: np.ndarray) -> PrefixTree:
    new = _new_prefixes(rows)
    number = np.where(new, np.cumsum(new).reshape(new.shape) - 1, 0)
    # A prefix that is not new is the one most recently seen in this column, which has the largest number so far.
    node = np.maximum.accumulate(number, axis=0)
    _, depth = np.nonzero(new)
    shape = np.stack([(rows != PAD).sum(1), new.sum(1)], axis=1)
    paths = []
    for length, ends in np.unique(shape, axis=0):
        members = (shape == (length, ends)).all(1)
        paths.append((torch.from_numpy(node[members, :length]), int(ends)))
    leaf = node[np.arange(len(rows)), shape[:, 0] - 1]
    return PrefixTree(*map(torch.from_numpy, (rows[new], depth, leaf)), tuple(paths))


class CausalTextTower:
    """Runs the text tower of an open_clip model over prefix trees.

    Args:
        model: an open_clip ``CLIP``, or ``CustomTextCLIP`` with open_clip's own text transformer, for which
            :meth:`not_supported` gives None. Its modules are used as they are, on their device.
        dtype: precision of the matrix products; None: the model's own. With bfloat16 the layer norms and the residual
            sums stay in the model's precision.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        reason = self.not_supported(model)
        if reason:
            raise ValueError(f"no shared prefixes for this text tower: {reason}")
        self.tower = text_tower(model)
        self.model_dtype = self.tower.transformer.get_cast_dtype()
        self.dtype = dtype or self.model_dtype

    @staticmethod
    def not_supported(model: nn.Module) -> str | None:
        """Why the prompts of this model cannot share prefixes, or None if they can."""
        tower = text_tower(model)
        parts = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
        if not all(hasattr(tower, part) for part in parts):
            return f"{type(tower).__name__} is not open_clip's text transformer"
        mask = getattr(tower, "attn_mask", None)
        if mask is None:
            return "its attention is not causal"
        causal = torch.full_like(mask, float("-inf")).triu(1)
        if not torch.equal(mask, causal):
            return "its attention mask is not the causal one"
        if getattr(tower, "cls_emb", None) is not None:
            return "it appends a class token that sees the whole text"
        if _pool_type(tower) not in ("argmax", "eos"):
            return f"it pools '{_pool_type(tower)}' instead of the end-of-text token"
        for block in tower.transformer.resblocks:
            if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
                return f"its blocks are {type(block).__name__}, not plain attention blocks"
        return None

    def lengths(self, tokens: Tensor) -> Tensor:
        """Tokens of each row of ``[P, context]`` up to and with the one whose state is the embedding; int64 ``[P]``."""
        if _pool_type(self.tower) == "argmax":
            return tokens.argmax(-1) + 1
        eos = getattr(self.tower, "eos_id", getattr(self.tower, "text_eos_id", None))
        return (tokens == eos).int().argmax(-1) + 1

    def encode(self, tokens: Tensor) -> Tensor:
        """Embeddings, not normalised, of the tokenizer's output: int64 ``[P, context]`` -> ``[P, D]``, model's dtype.

        Equal to ``model.encode_text(tokens)`` up to rounding, its gradients too.
        """
        tower = self.tower
        device = tower.token_embedding.weight.device
        tokens = tokens.cpu()
        lengths = self.lengths(tokens)[:, None]
        rows = tokens[:, : int(lengths.max())].clone()
        rows[torch.arange(rows.shape[1]) >= lengths] = PAD
        rows, inverse = np.unique(rows.numpy(), axis=0, return_inverse=True)
        layers = [_Layer(block, self.dtype, self.model_dtype) for block in tower.transformer.resblocks]
        max_nodes = MAX_NODES.get(device.type, MAX_NODES["cpu"])
        states = [self._leaf_states(tree.to(device), layers) for _, tree in prefix_trees(rows, max_nodes)]
        x = tower.ln_final(torch.cat(states))
        if isinstance(tower.text_projection, nn.Linear):
            x = tower.text_projection(x)
        elif tower.text_projection is not None:
            x = x @ tower.text_projection
        return x[torch.from_numpy(inverse.reshape(-1)).to(device)]

    def _leaf_states(self, tree: PrefixTree, layers: list[_Layer]) -> Tensor:
        """States ``[R, width]`` of the whole rows after the last layer."""
        tower, dtype = self.tower, self.model_dtype
        x = tower.token_embedding(tree.token).to(dtype) + tower.positional_embedding[tree.depth].to(dtype)
        for layer in layers[:-1]:
            x = layer.feed_forward(x + layer.project(layer.mix(x, tree)))
        # Of the last layer only the ends of the rows are asked for.
        mixed = layers[-1].mix(x, tree)[tree.leaf]
        return layers[-1].feed_forward(x[tree.leaf] + layers[-1].project(mixed))


class _Layer:
    """One residual attention block over tree nodes, its matrix products in ``dtype``."""

    def __init__(self, block: ResidualAttentionBlock, dtype: torch.dtype, model_dtype: torch.dtype) -> None:
        self.block, self.dtype, self.model_dtype = block, dtype, model_dtype
        self.attn, self.mlp = block.attn, block.mlp
        if dtype != model_dtype:
            self.attn, self.mlp = (copy.deepcopy(part).to(dtype) for part in (block.attn, block.mlp))

    def mix(self, x: Tensor, tree: PrefixTree) -> Tensor:
        """Attention before its output projection, of each node over its prefix: ``[N, d] -> [N, d]``."""
        heads, width = self.attn.num_heads, x.shape[-1]
        qkv = in_projection(self.block.ln_1(x).to(self.dtype), self.attn)
        queries, keys_values = qkv[:, :width], qkv[:, width:]
        mixed = torch.empty_like(queries)
        for nodes, new in tree.paths:
            ends, length = nodes[:, -new:], nodes.shape[1]
            q = queries[ends].unflatten(-1, (heads, -1)).transpose(1, 2)  # [r, heads, S, d / heads]
            k, v = keys_values[nodes].unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)  # [r, heads, L, d / heads]
            mask = torch.ones(new, length, dtype=torch.bool, device=x.device).tril(length - new)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            mixed[ends.flatten()] = out.transpose(1, 2).reshape(-1, width)
        return mixed

    def project(self, mixed: Tensor) -> Tensor:
        """Output projection and layer scale: the residual branch of the attention."""
        return self.block.ls_1(self.attn.out_proj(mixed).to(self.model_dtype))

    def feed_forward(self, x: Tensor) -> Tensor:
        """``x`` plus the feed-forward branch."""
        return x + self.block.ls_2(self.mlp(self.block.ln_2(x).to(self.dtype)).to(self.model_dtype))


def shortened(tokens: Tensor, length: int) -> Tensor:
    """int64 ``[P, length]``: CLIP's tokens ``[P, context]``, longer texts cut and ended by the end token.

    Args:
        tokens: of open_clip's own tokenizer, whose end token has the largest number.
        length: start and end included.
    """
    ends = tokens.argmax(dim=1)
    short, last = tokens[:, :length].clone(), length - 1
    short[ends > last, last] = tokens.gather(1, ends[:, None])[:, 0][ends > last]
    return short


def text_tower(model: nn.Module) -> nn.Module:
    """What holds the text tower's parts: the model itself (``CLIP``) or ``model.text`` (``CustomTextCLIP``)."""
    return getattr(model, "text", model)


def _pool_type(tower: nn.Module) -> str:
    return getattr(tower, "pool_type", None) or getattr(tower, "text_pool_type", "argmax")
