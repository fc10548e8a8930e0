"""Self-self attentions: a token attends to what has the same query (key, value) as itself."""

from __future__ import annotations

from torch import Tensor

from ovseg.attention.base import LastBlockAttention
from ovseg.ops import self_self_attention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext

TERMS = ("q", "k", "v")


@ATTENTIONS.register_module()
class SelfSelfAttention(LastBlockAttention):
    """Sum of softmax(t t^T / sqrt(d)) over the chosen terms t, times v.

    - SCLIP: q and k, with residual and feed-forward (Wang et al., ECCV 2024, equation 3)
    - ClearCLIP: q, without both (Lan et al., ECCV 2024, section 3.3)
    - CLIPtrase: q, k and v, with both (Shao et al., ECCV 2024)

    Args:
        terms: which projections attend to themselves, any of ``'q'``, ``'k'``, ``'v'``. The attention rows sum to the
            number of terms, as in the official code.
        average: divide by the number of terms (no paper does; useful with one's own methods).

    Raises:
        ValueError: if ``terms`` is empty or unknown.
    """

    def __init__(
        self,
        terms: tuple[str, ...] = ("q", "k"),
        average: bool = False,
        residual: bool = False,
        ffn: bool = False,
    ) -> None:
        super().__init__(residual, ffn)
        if not terms or any(t not in TERMS for t in terms):
            raise ValueError(f"terms is {terms!r}; give one or more of {', '.join(TERMS)}")
        self.terms, self.average, self.std = tuple(terms), average, 0.0

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: AttentionContext) -> Tensor:
        mixed = self_self_attention(
            q,
            k,
            v,
            terms=[2 * t for t in self.terms],
            scale=context.tower.blocks[-1].scale,
            neighbour_std=self.std,
            grid=context.grid,
        )
        return mixed / len(self.terms) if self.average else mixed


@ATTENTIONS.register_module()
class NeighbourAttention(SelfSelfAttention):
    """NACLIP: key-key attention with a Gaussian bias towards neighbouring patches (Hajimiri et al., WACV 2025, eq. 5).

    Args:
        std: standard deviation of the Gaussian in patches.
        terms, average, residual, ffn: see :class:`SelfSelfAttention`; NACLIP keeps neither residual nor feed-forward.

    Raises:
        ValueError: if ``std`` is not positive.
    """

    def __init__(
        self,
        std: float = 5.0,
        terms: tuple[str, ...] = ("k",),
        average: bool = False,
        residual: bool = False,
        ffn: bool = False,
    ) -> None:
        super().__init__(terms, average, residual, ffn)
        if std <= 0:
            raise ValueError(f"std is {std}; the neighbourhood needs a positive standard deviation in patches")
        self.std = float(std)
