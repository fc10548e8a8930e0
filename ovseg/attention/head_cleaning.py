"""Talk2DINO: words are compared with what each attention head looks at, which tells objects from background."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.attention.plain import PlainAttention
from ovseg.queries import Queries
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext


@ATTENTIONS.register_module()
class HeadCleaning(PlainAttention):
    """The block as it was trained, and scores raised where the heads that see a word look (Barsellotti et al.,
    Talk2DINO, ICCV 2025, section 3.3).

    The class token's attention logits ``a_h`` of the last block weigh the patches into one embedding per head, ``e_h``.
    A word's map is the heads' maps weighed by how near their embeddings are, ``softmax_p(sum_h softmax_h(t e_h) a_h)``,
    brought into the range of the window's scores ``m``: the result is ``(m + weight * map) / (1 + weight)``.

    Smallest and largest values are taken over all words of a window: a word's scores depend on the others'. Words of
    the class that a threshold gives pixels to have no part in it.

    Args:
        weight: of the maps, ``lambda`` in the paper; 0: none.

    Raises:
        ValueError: for a negative weight.
    """

    post_norm = False

    def __init__(self, weight: float = 0.2) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight is {weight}; it must not be negative")
        self.weight, self.rescores = float(weight), weight > 0

    def finish(self, z: Tensor, context: AttentionContext) -> Tensor:
        return context.tower.post_norm(super().finish(z, context))

    def keep(self, q: Tensor, k: Tensor, tokens: Tensor, context: AttentionContext) -> dict[str, Tensor] | None:
        if not self.rescores:
            return None
        prefix, scale = context.num_prefix, context.tower.blocks[-1].scale
        looks = (q[:, :, :1] @ k[:, :, prefix:].transpose(2, 3))[:, :, 0] * scale  # [B, heads, N]
        seen = F.normalize(looks @ tokens[:, prefix:], dim=-1)  # their length, and so the mean's 1 / N, does not matter
        return {"head_logits": looks, "head_embeddings": seen}

    def rescore(self, scores: Tensor, features: Mapping[str, Tensor], queries: Queries) -> Tensor:
        looks, seen = features["head_logits"], features["head_embeddings"]
        competing = queries.competing()
        if not competing.any():
            return scores
        nearness = (queries.text @ seen.transpose(1, 2)).softmax(-1)  # [B, Q, heads]
        maps = (nearness @ looks).softmax(-1)[:, competing]  # [B, q, N]
        low, high = (t[:, None, None] for t in torch.aminmax(scores[:, competing].flatten(1), dim=1))
        maps = (maps - maps.amin((1, 2), keepdim=True)) / maps.amax((1, 2), keepdim=True)
        maps = (maps * (high - low) + low).unflatten(2, scores.shape[2:])
        cleaned = scores.clone()
        cleaned[:, competing] = (scores[:, competing] + self.weight * maps) / (1 + self.weight)
        return cleaned
