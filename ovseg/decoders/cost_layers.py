"""Layers of cost aggregation: a map per word is refined over the image, then over the words.

Cost maps travel as ``[B, T, h, w, C]``: images, words, grid, channels. Words are treated alike and on their own in the
spatial layers, cells in the class layers. What depends on the guidance only is computed once and shared: a linear layer
of ``x`` and guidance side by side is the sum of two.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_DIM = 32


class GuidedLinear(nn.Linear):
    """A linear layer of features and guidance side by side, given each on its own."""

    def __init__(self, dim: int, guidance_dim: int, out: int) -> None:
        super().__init__(dim + guidance_dim, out)
        self.dim = dim

    def of_guidance(self, guidance: Tensor) -> Tensor:
        """What the guidance ``[..., guidance_dim]`` adds, the bias included."""
        return F.linear(guidance, self.weight[:, self.dim :], self.bias)

    def of_features(self, x: Tensor) -> Tensor:
        """What the features ``[..., dim]`` add."""
        return F.linear(x, self.weight[:, : self.dim])


class GuidedAttention(nn.Module):
    """Projections of an attention whose queries and keys see the guidance, with an output projection where wanted."""

    def __init__(self, dim: int, guidance_dim: int, project: bool) -> None:
        super().__init__()
        self.q, self.k = GuidedLinear(dim, guidance_dim, dim), GuidedLinear(dim, guidance_dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim) if project else None


class FeedForward(nn.Module):
    """Two linear layers with GELU between, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Attention in windows of one word's map, guided by the image (CAT-Seg, section 3.3; Liu et al., Swin, 2021).

    Args:
        dim, guidance_dim: channels.
        window: side of a window in cells.
        shift: the map is rolled by so many cells first; cells that meet only by that do not attend to each other.
    """

    def __init__(self, dim: int, guidance_dim: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift, self.heads = window, shift, dim // HEAD_DIM
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = GuidedAttention(dim, guidance_dim, project=True)
        self.mlp = FeedForward(dim)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """``[B, T, h, w, C]`` and ``[B, h, w, G]`` to ``[B, T, h, w, C]``."""
        normed = self.norm1(x)
        q, k = (
            layer.of_features(normed) + layer.of_guidance(guidance)[:, None] for layer in (self.attn.q, self.attn.k)
        )
        x = x + self.attn.proj(self._attend(q, k, self.attn.v(normed)))
        return x + self.mlp(self.norm2(x))

    def _attend(self, *qkv: Tensor) -> Tensor:
        rows, columns = qkv[0].shape[2:4]
        side, shift = self.window, self.shift
        rolled = [t.roll((-shift, -shift), (2, 3)) if shift else t for t in qkv]
        mixed = torch.empty_like(rolled[0])
        for y in range(0, rows, side):
            for x in range(0, columns, side):
                parts = (t[:, :, y : y + side, x : x + side] for t in rolled)
                q, k, v = (p.flatten(2, 3).unflatten(-1, (self.heads, -1)).flatten(0, 1).transpose(1, 2) for p in parts)
                out = F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask(y, x, rows, columns, q))
                out = out.transpose(1, 2).flatten(2).unflatten(0, mixed.shape[:2])
                mixed[:, :, y : y + side, x : x + side] = out.unflatten(2, (side, side))
        return mixed.roll((shift, shift), (2, 3)) if shift else mixed

    def _mask(self, y: int, x: int, rows: int, columns: int, like: Tensor) -> Tensor | None:
        """``[N, N]`` for the window at (y, x): 0 where two cells were neighbours before the roll, -100 elsewhere."""
        if not self.shift:
            return None
        inside = torch.arange(self.window, device=like.device)
        wrapped = [inside + start >= size - self.shift for start, size in ((y, rows), (x, columns))]
        region = (2 * wrapped[0][:, None] + wrapped[1]).flatten()
        if not region.any():
            return None
        return -100.0 * (region[:, None] != region).to(like.dtype)


class SpatialLayer(nn.Module):
    """Two Swin blocks over each word's map, the second shifted by half a window."""

    def __init__(self, dim: int, guidance_dim: int, window: int) -> None:
        super().__init__()
        self.block_1 = SwinBlock(dim, guidance_dim, window, 0)
        self.block_2 = SwinBlock(dim, guidance_dim, window, window // 2)
        self.guidance_norm = nn.LayerNorm(guidance_dim)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """``[B, T, h, w, C]`` and ``[B, h, w, G]`` to ``[B, T, h, w, C]``."""
        guidance = self.guidance_norm(guidance)
        return self.block_2(self.block_1(x, guidance), guidance)


class ClassLayer(nn.Module):
    """Linear attention over the words at every cell (CAT-Seg, section 3.3; Katharopoulos et al., 2020).

    The words are filled up to ``padded`` with copies of a learnt token. All copies at a cell are equal and their own
    output is thrown away, so that they are computed once and counted ``padded - T`` times: exact.

    Args:
        dim, guidance_dim: channels; without guidance 0.
        padded: number of words that attention sees at least; 0: as many as there are.
        heads: of the attention; ``None``: of 32 channels each.
    """

    def __init__(self, dim: int, guidance_dim: int, padded: int, heads: int | None = None) -> None:
        super().__init__()
        self.padded, self.heads = padded, heads or dim // HEAD_DIM
        self.attention = GuidedAttention(dim, guidance_dim, project=False)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.MLP = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))
        if padded:
            self.padding_tokens = nn.Parameter(torch.zeros(1, 1, dim))
            self.padding_guidance = nn.Parameter(torch.zeros(1, 1, guidance_dim))

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """``[N, T, C]`` cells and the words' guidance ``[T, G]`` to ``[N, T, C]``."""
        q, k, v = self._projected(x, guidance)
        missing = self.padded - x.shape[1]
        numerator, weights = torch.einsum("nthc,nthd->nhcd", k, v), k.sum(1)
        if missing > 0:
            _, k_pad, v_pad = self._projected(self.padding_tokens, self.padding_guidance[0])
            numerator = numerator + missing * torch.einsum("nthc,nthd->nhcd", k_pad, v_pad)
            weights = weights + missing * k_pad.sum(1)
        normaliser = torch.einsum("nthc,nhc->nth", q, weights) + 1e-6
        mixed = torch.einsum("nthc,nhcd->nthd", q, numerator) / normaliser[..., None]
        x = x + mixed.flatten(2)
        return x + self.MLP(self.norm2(x))

    def _projected(self, x: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q and k after ``elu + 1``, and v: each ``[N, T, heads, C / heads]``."""
        normed, own = self.norm1(x), self.attention
        q, k = (F.elu(layer.of_features(normed) + layer.of_guidance(guidance)) + 1 for layer in (own.q, own.k))
        return tuple(t.unflatten(-1, (self.heads, -1)) for t in (q, k, own.v(normed)))


class AggregatorLayer(nn.Module):
    """A spatial layer, then a class layer on the (pooled) grid, added to what went in.

    Args:
        dim, guidance_dim: channels.
        window: side of a window in cells.
        padded: see :class:`ClassLayer`.
    """

    def __init__(self, dim: int, guidance_dim: int, window: int, padded: int) -> None:
        super().__init__()
        self.swin_block = SpatialLayer(dim, guidance_dim, window)
        self.attention = ClassLayer(dim, guidance_dim, padded)

    def forward(self, x: Tensor, image: Tensor, words: Tensor, pooling: int, values: int) -> Tensor:
        """One layer.

        Args:
            x: ``[B, T, h, w, C]``.
            image: ``[B, h, w, G]`` guidance of the image.
            words: ``[T, G]`` guidance of the words.
            pooling: cells along a side that the class layer averages.
            values: bound on the numbers of ``x`` that are worked on at once; results do not depend on it.
        """
        x = in_parts(lambda part: self.swin_block(part, image), x, 1, values)
        pooled = x
        if pooling > 1:
            pooled = F.avg_pool2d(x.flatten(0, 1).permute(0, 3, 1, 2), pooling).permute(0, 2, 3, 1)
            pooled = pooled.unflatten(0, x.shape[:2])
        cells = pooled.permute(0, 2, 3, 1, 4).flatten(0, 2)  # [B * h * w, T, C]
        cells = in_parts(lambda part: self.attention(part, words), cells, 0, values)
        refined = cells.unflatten(0, (x.shape[0], *pooled.shape[2:4])).permute(0, 3, 1, 2, 4)
        if pooling > 1:
            maps = refined.flatten(0, 1).permute(0, 3, 1, 2)
            maps = F.interpolate(maps, size=x.shape[2:4], mode="bilinear", align_corners=True)
            refined = maps.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
        return x + refined


class UpBlock(nn.Module):
    """Twice the grid: a transposed convolution, the image's guidance beside it, two convolutions (CAT-Seg, 3.3).

    Args:
        dim: channels that come in.
        guidance_dim: channels of the guidance.
        out: channels that go out; GroupNorm takes 16 at a time.
        word_dim: channels of a guidance that every word has of its own (SED).
    """

    def __init__(self, dim: int, guidance_dim: int, out: int, word_dim: int = 0) -> None:
        super().__init__()
        self.own = dim - guidance_dim
        self.up = nn.ConvTranspose2d(dim, self.own, 2, stride=2)
        self.shared = slice(self.own, dim)
        self.conv = nn.ModuleDict({"double_conv": _double_convolution(dim + word_dim, out)})

    def forward(self, x: Tensor, guidance: Tensor, words: Tensor | None = None) -> Tensor:
        """``[T, C, h, w]`` maps of one image's words and ``[1, G, 2h, 2w]`` to ``[T, out, 2h, 2w]``.

        Args:
            words: ``[T, word_dim, 2h, 2w]``, where there is such a guidance.
        """
        first, *rest = self.conv["double_conv"]
        shared = F.conv2d(guidance, first.weight[:, self.shared], padding=1)
        x, weight = self.up(x), first.weight[:, : self.own]
        if words is not None:
            x, weight = torch.cat([x, words], 1), torch.cat([weight, first.weight[:, self.shared.stop :]], 1)
        x = F.conv2d(x, weight, padding=1) + shared
        for layer in rest:
            x = layer(x)
        return x


def _double_convolution(dim: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (dim, out):
        layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.GroupNorm(out // 16, out), nn.ReLU()]
    return nn.Sequential(*layers)


def in_parts(function: Callable[[Tensor], Tensor], x: Tensor, axis: int, values: int) -> Tensor:
    """``function(x)`` for functions that treat the slices of an axis alike, some slices at a time.

    All at once where gradients are kept, which need everything anyway.
    """
    length = x.shape[axis]
    step = length if torch.is_grad_enabled() else max(1, values * length // max(1, x.numel()))
    if step >= length:
        return function(x)
    return torch.cat([function(part) for part in x.split(step, axis)], axis)
