"""ProxyCLIP's attention: a guide decides which patches share their values."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ovseg.attention.base import LastBlockAttention
from ovseg.attention.photo_scope import checked_scope, photo_cells
from ovseg.ops import correlation_attention
from ovseg.registry import ATTENTIONS
from ovseg.structures import AttentionContext, FeatureMap

MEAN_SCOPES = ("window", "image", "batch")


def require_guide(context: AttentionContext, who: object) -> FeatureMap:
    """The guide's features.

    Raises:
        ValueError: where the config has no guide.
    """
    if context.guide is None:
        raise ValueError(
            f"{type(who).__name__} needs a guide: add guide=dict(type='DinoBackbone', ...) to the model config"
        )
    return context.guide


def values_on(grid: tuple[int, int], x: Tensor, context: AttentionContext) -> Tensor:
    """Value projection of the patch tokens of ``x``, bilinearly resized to another grid: ``[B, h * w, d]``."""
    block = context.tower.blocks[-1]
    values = block.value(block.norm1(x))[:, context.num_prefix :]
    if grid == context.grid:
        return values
    image = values.transpose(1, 2).unflatten(2, context.grid)
    return F.interpolate(image, size=grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)


@ATTENTIONS.register_module()
class ProxyAttention(LastBlockAttention):
    """The guide's feature correspondence replaces CLIP's attention (Lan et al., ECCV 2024, equations 5 to 7).

    ``A = softmax(gamma (S - beta mean(S)))`` where that is not negative, 0 elsewhere, with S the cosine of the guide's
    features; one A for all heads, CLS left out. Tokens come out on the guide's grid; neither residual nor feed-forward.
    A patch is never cut off from itself: where ``beta mean(S) > 1`` the official code divides by zero, here such a
    patch keeps its own value.

    Args:
        beta: cut-off relative to the mean similarity.
        gamma: sharpness of the softmax.
        mean_scope: what mean(S) is taken over: ``'window'`` (ProxyCLIP's code runs windows one by one), ``'image'``:
            all windows of a photo (Trident), ``'batch'``: whatever lies in the window batch; only this last choice
            makes a result depend on the batch size.
        scope: ``'window'`` as in the paper; ``'photo'``: one S over all windows of a photo, and its own mean (ours, see
            :mod:`ovseg.attention.photo_scope`).

    Raises:
        ValueError: for an unknown ``mean_scope`` or ``scope``.
    """

    def __init__(
        self, beta: float = 1.2, gamma: float = 3.0, mean_scope: str = "window", scope: str = "window"
    ) -> None:
        super().__init__()
        self.scope = checked_scope(scope)
        if mean_scope not in MEAN_SCOPES:
            raise ValueError(f"mean_scope is {mean_scope!r}; choose one of {', '.join(MEAN_SCOPES)}")
        self.beta, self.gamma, self.mean_scope = float(beta), float(gamma), mean_scope
        self.window_scope = "image" if "image" == mean_scope or scope == "photo" else "window"

    def forward(self, context: AttentionContext) -> FeatureMap:
        guide = require_guide(context, self)
        features, values = guide.patches, values_on(guide.grid, context.x, context)
        cells = photo_cells(context, guide.grid, self) if self.scope == "photo" else None
        if cells is not None:
            features, values = F.normalize(cells.merge(features), dim=-1), cells.merge(values)
        mixed = correlation_attention(
            features,
            values,
            scale=self.gamma,
            beta=self.beta,
            mean_scope="sample" if self.mean_scope == "window" else "batch",
        )
        mixed = mixed if cells is None else cells.spread(mixed)
        return FeatureMap(context.tower.blocks[-1].out(mixed), guide.grid)
