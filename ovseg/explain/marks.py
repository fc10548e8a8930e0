"""Marks on the values of CLIP's last block: where they turn up says what a token attends to.

Every token of a window gets a mark of its own in channels beside its features. Norms and the tower's other pieces hand
marks on as they are; the last block's value projection copies them, times ``EPSILON``, behind each head's values;
whatever the attention does with values it then does with marks, and the output projection takes them off again. What
arrives at token i of the mark of token j is the weight with which j's value enters i: the attention matrix, without any
attention's formula. Since values may be keys too (v-v attention), the marks are so small that their products with each
other vanish; they lie in channels of their own, so that nothing cancels.

An attention that mixes tokens before it takes their values (``rewrites_tokens``: SC-CLIP, SFP) hands on values that are
no single token's. There the value made at a place gets the place's mark: the weights are those of its last block, and
of the averages it takes afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.structures import AttentionContext, Block, FeatureMap, Tower

EPSILON = 2.0**-12
"""Size of a mark: products of two are 6e-8, below the rounding of the scores they are added to."""
TOLERANCE = 2e-3
"""Of the largest number: how far tokens with marks may lie from those without, and weights times values from what the
attention made of the values. Rounding stays far below; int8 models multiply the last block in bf16."""


class AttentionNotReadable(ValueError):
    """An attention of which weights on values say nothing; the message says why."""


@dataclass
class Read:
    """What the last block's pieces were given, for a batch of B windows.

    Attributes:
        values: of every call of the value projection on marked tokens, ``[B, P + N, heads, d / heads]``.
        mixed: of every call of the output projection on marked values: the values ``[B, n, heads, d / heads]`` and
            the marks that arrived with them ``[B, n, heads, P + N]``.
        unmarked: calls of the output projection on values without marks.
    """

    values: list[Tensor] = field(default_factory=list)
    mixed: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    unmarked: int = 0


class MarkedBlock:
    """A block whose tokens carry ``[features, own marks, arrived marks]``; tokens of bare features pass as they are.

    Args:
        block: the block.
        width: d, features of a token.
        count: number of marks.
        read: filled by the last block; ``None``: another block, whose values are not marked.
        pad: give queries and keys zero channels, so that they stay as wide as the marked values.
        places: ``[B, P + N, P + N]``: mark values by where they are made, not by their tokens' own marks.
    """

    def __init__(
        self, block: Block, width: int, count: int, read: Read | None, pad: bool, places: Tensor | None = None
    ) -> None:
        self.block, self.width, self.count, self.read, self.pad = block, width, count, read, pad
        self.places = places
        self.num_heads, self.scale = block.num_heads, block.scale

    def __call__(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        mixed = F.scaled_dot_product_attention(*self.qkv(self.norm1(x), grid), scale=self.scale)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.ffn(x)

    def norm1(self, x: Tensor) -> Tensor:
        return _beside(self.block.norm1, x, self.width)

    def norm2(self, x: Tensor) -> Tensor:
        return _beside(self.block.norm2, x, self.width)

    def ffn(self, x: Tensor) -> Tensor:
        return F.pad(self.block.ffn(x[..., : self.width]), (0, x.shape[-1] - self.width))

    def split_heads(self, t: Tensor) -> Tensor:
        return t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def qkv(self, y: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.block.qkv(y[..., : self.width], grid)
        v = self._marked(v.transpose(1, 2), y).transpose(1, 2)
        extra = v.shape[-1] - q.shape[-1]
        return (F.pad(q, (0, extra)), F.pad(k, (0, extra)), v) if self.pad else (q, k, v)

    def value(self, y: Tensor) -> Tensor:
        v = self.block.value(y[..., : self.width])
        return self._marked(v.unflatten(-1, (self.num_heads, -1)), y).flatten(-2)

    def unscaled_out(self, mixed: Tensor) -> Tensor:
        """Of bare values: what is made of it says how values are weighed and is no mixture that arrives (RADSeg)."""
        heads = mixed.unflatten(-1, (self.num_heads, -1))
        return self.block.unscaled_out(heads[..., : self.width // self.num_heads].flatten(-2))

    def out(self, mixed: Tensor) -> Tensor:
        if mixed.shape[-1] == self.width:
            if self.read is not None:
                self.read.unmarked += 1
            return F.pad(self.block.out(mixed), (0, 2 * self.count))
        heads = mixed.unflatten(-1, (self.num_heads, -1))
        values, arrived = heads[..., : -self.count], heads[..., -self.count :] / EPSILON
        self.read.mixed.append((values, arrived))
        z, arrived = self.block.out(values.flatten(-2)), arrived.mean(-2)
        return torch.cat([z, torch.zeros_like(arrived), arrived], -1)

    def _marked(self, v: Tensor, y: Tensor) -> Tensor:
        """``[B, n, heads, d / heads]`` values, behind them the marks of the tokens ``y`` they were made of."""
        if self.read is None or y.shape[-1] == self.width:
            return v
        self.read.values.append(v)
        if self.places is None:
            marks = y[..., self.width : self.width + self.count]
        else:  # without the tokens before the patches these are the last ones
            marks = self.places[:, -y.shape[1] :]
        marks = marks * EPSILON
        return torch.cat([v, marks[:, :, None].expand(-1, -1, self.num_heads, -1)], -1)


class MarkedTower:
    """A tower whose last block marks values; everything else is the tower's own.

    Args:
        tower: the tower.
        count: number of marks.
        read: what the last block's pieces are given is written here.
        pad: see :class:`MarkedBlock`.
        everywhere: the inputs of the other blocks carry marks too.
        places: see :class:`MarkedBlock`.
    """

    def __init__(
        self, tower: Tower, count: int, read: Read, pad: bool, everywhere: bool, places: Tensor | None = None
    ) -> None:
        self._tower, width = tower, tower.width
        *others, last = tower.blocks
        if everywhere:
            others = [MarkedBlock(block, width, count, None, pad=False) for block in others]
        self.blocks = [*others, MarkedBlock(last, width, count, read, pad, places)]

    def __getattr__(self, name: str) -> object:
        return getattr(self._tower, name)

    @property
    def final_norm(self) -> nn.Module:
        raise AttentionNotReadable(
            "it takes the last norm apart, its tokens are parts of the photo's embedding and no mixtures of values"
        )

    def post_norm(self, x: Tensor) -> Tensor:
        return _beside(self._tower.post_norm, x, self._tower.width)


def _beside(function: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """``function`` of the features; what lies beside them stays."""
    return torch.cat([function(x[..., :width]), x[..., width:]], -1)


def marked_context(
    context: AttentionContext, window: int, read: Read, pad: bool, everywhere: bool, by_place: bool
) -> AttentionContext:
    """A context in which token t of one window carries mark t; arguments as of :class:`MarkedTower`.

    ``by_place``: tokens carry none, and what the last block makes at place t gets mark t.
    """
    count = context.x.shape[1]
    own = context.x.new_zeros(len(context.x), count, count)
    own[window] = torch.eye(count, device=own.device)
    places, carried = (own, torch.zeros_like(own)) if by_place else (None, own)
    marks = F.pad(carried, (0, count))

    def carrying(x: Tensor) -> Tensor:
        return torch.cat([x, marks], -1)

    inputs = {i: carrying(x) for i, x in context.inputs.items()} if everywhere else context.inputs
    tower = MarkedTower(context.tower, count, read, pad, everywhere, places)
    return replace(context, x=carrying(context.x), inputs=inputs, tower=tower)


def read_attention(
    attention: Callable[[AttentionContext], FeatureMap], context: AttentionContext, window: int
) -> FeatureMap:
    """What an attention gives, and how much of the values of one window's tokens is in each of its tokens.

    What it does after the output projection (residual, feed-forward, norms) token by token leaves the weights alone;
    what it pools there (CLIP-DINOiser) it pools of them too.

    Args:
        attention: a registered attention.
        context: of a batch of windows.
        window: whose tokens are marked.

    Returns:
        the attention's own features with ``[.., d + P + N]`` tokens: features, then the weights of the window's P + N
        tokens, mean over heads.

    Raises:
        AttentionNotReadable: for an attention that is not linear in the values of the last block.
    """
    width, count = context.x.shape[-1], context.x.shape[1]
    plain, name, reasons = attention(context), type(attention).__name__, []
    by_place = getattr(attention, "rewrites_tokens", False)  # any callable may be an attention
    # Operators want q, k and v of one width, an attention that takes its scale from q's does not. Values of earlier
    # layers' tokens count where there are some; an attention whose own layers read these tokens wants them bare.
    for everywhere, pad in ((True, True), (True, False), (False, True), (False, False)):
        read = Read()
        try:
            found = attention(marked_context(context, window, read, pad, everywhere, by_place))
        except AttentionNotReadable as error:
            raise AttentionNotReadable(f"{name} cannot be read: {error}") from error
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reasons.append(f"it does not run on values with marks ({str(error).splitlines()[0]})")
            continue
        if not read.mixed or read.unmarked or found.tokens.shape[-1] != width + 2 * count:
            reasons.append("it does not take all its values through the last block's projections")
        elif not _close(found.tokens[..., :width], plain.tokens):
            reasons.append("its tokens change when values carry more channels")
        elif not _explained(read, window):
            reasons.append("it is not linear in the values, so that no weights of tokens describe it")
        else:
            tokens = torch.cat([found.tokens[..., :width], found.tokens[..., width + count :]], -1)
            return replace(plain, tokens=tokens)
    # the last word is that of the try that came furthest
    raise AttentionNotReadable(f"{name} cannot be read: {max(reasons, key=_how_far)}")


def _how_far(reason: str) -> int:
    return [r in reason for r in ("does not run", "does not take", "its tokens change", "not linear")].index(True)


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= TOLERANCE * other.abs().max())


def _explained(read: Read, window: int) -> bool:
    """Whether weights times values are what the output projection was given, in every call."""
    for mixed, arrived in read.mixed:
        fitting = [v[window] for v in reversed(read.values) if v.shape[1] <= arrived.shape[-1]]
        sums = (torch.einsum("nht,thc->nhc", arrived[window][..., -len(v) :], v) for v in fitting)
        if not any(_close(total, mixed[window]) for total in sums):
            return False
    return True
