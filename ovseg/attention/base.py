"""The seam where methods differ: the last block of CLIP's image encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ovseg.describing import described
from ovseg.structures import AttentionContext, FeatureMap

if TYPE_CHECKING:
    from ovseg.queries import Queries


@described
class LastBlockAttention(nn.Module):
    """Runs CLIP's last block in a method's own way. A new method subclasses this and writes :meth:`mix`.

    Args:
        residual: add the block's input to the attention output, as CLIP does.
        ffn: run the block's feed-forward, as CLIP does (on ``x + attention`` or, without residual, on the attention
            output alone).

    Class attributes:
        needs_inputs: blocks whose input tokens the method wants in ``context.inputs`` (0-based; negative from the end).
        post_norm: whether the tokens still need the tower's LayerNorm before projection.
        window_scope: ``'window'``: every window is computed on its own. ``'image'``: the method looks at all windows of
            an image together, so that the segmentor keeps them in one batch.
        rewrites_tokens: the values are of tokens that were mixed or replaced first, each staying at its place: what is
            explained (:mod:`ovseg.explain`) are the weights of values by the place where they are made.
    """

    needs_inputs: tuple[int, ...] = ()
    post_norm: bool = True
    window_scope: str = "window"
    rewrites_tokens: bool = False

    def __init__(self, residual: bool = False, ffn: bool = False) -> None:
        super().__init__()
        self.residual, self.ffn = residual, ffn

    def needs_inputs_of(self, num_blocks: int) -> tuple[int, ...]:
        """``needs_inputs`` as non-negative block indices of a tower with ``num_blocks`` blocks.

        Raises:
            ValueError: if the tower has too few blocks for the method.
        """
        indices = tuple(i + num_blocks if i < 0 else i for i in self.needs_inputs)
        if any(not 0 <= i < num_blocks for i in indices):
            raise ValueError(
                f"{type(self).__name__} reads the inputs of blocks {self.needs_inputs}, "
                f"but this tower has {num_blocks} blocks; set the layers in the config"
            )
        return indices

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: AttentionContext) -> Tensor:
        """Mixed values of every token.

        Args:
            q, k, v: ``[B, heads, P + N, d / heads]`` of the last block; q unscaled (``block.scale`` is the factor).
            context: see :class:`AttentionContext`.

        Returns:
            ``[B, heads, P + N, d / heads]``.
        """
        raise NotImplementedError

    def forward(self, context: AttentionContext) -> FeatureMap:
        """The whole last block: ``[B, P + N, d]`` tokens on ``context.grid``."""
        block, x = context.tower.blocks[-1], context.x
        q, k, v = block.qkv(block.norm1(x), context.grid)
        z = block.out(self.mix(q, k, v, context).transpose(1, 2).flatten(2))
        tokens = self.finish(z, context)
        return FeatureMap(tokens, context.grid, context.num_prefix, kept=self.keep(q, k, tokens, context))

    def finish(self, z: Tensor, context: AttentionContext) -> Tensor:
        """Residual and feed-forward around the attention output ``z``, as the method wants them."""
        z = z + context.x if self.residual else z
        return z + context.tower.blocks[-1].ffn(z) if self.ffn else z

    def keep(self, q: Tensor, k: Tensor, tokens: Tensor, context: AttentionContext) -> dict[str, Tensor] | None:
        """What :meth:`rescore` needs of the windows, see :attr:`FeatureMap.kept`; here nothing.

        Args:
            q, k: as for :meth:`mix`.
            tokens: what :meth:`finish` gave.
            context: see :class:`AttentionContext`.
        """
        return None

    rescores = False
    """Whether the method changes window scores by what it kept of the windows, in :meth:`rescore`."""

    def rescore(self, scores: Tensor, features: Mapping[str, Tensor], queries: Queries) -> Tensor:
        """Window scores changed by more than the patch embeddings say (Talk2DINO's background cleaning).

        Args:
            scores: ``[B, Q, gh, gw]``.
            features: what :meth:`ovseg.encoder.WindowEncoder.embed` gave, with the method's :attr:`FeatureMap.kept`.
            queries: the words.
        """
        raise NotImplementedError

    background = False
    """Whether the method finds the background by itself, in :meth:`place_background`."""

    def place_background(self, scores: Tensor, features: FeatureMap, background: int) -> Tensor:
        """Last word on window probabilities for methods that find the background by themselves (CLIP-DINOiser).

        Args:
            scores: ``[B, Q, gh, gw]`` probabilities of the queries.
            features: the windows' patch embeddings, with what the method put beside them.
            background: a query of the background class.
        """
        return scores
