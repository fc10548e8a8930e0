"""Text vectors that look at the image (MAFT+'s content-dependent transfer)."""

from __future__ import annotations

from torch import Tensor, nn

from ovseg.backbones.convnext import ConvNextTower
from ovseg.decoders.mask_transformer import sine_positions


class ContentTransfer(nn.Module):
    """Cross-attention from words to an image's dense CLIP features (Jiao et al., MAFT+, ECCV 2024, section 3.3).

    The official code reads the memory of the channel-first map as if it were channel-last, so that a "pixel" is a run
    of C numbers of that memory. Released weights were trained with it, hence it is kept.

    Args:
        embed_dim: D, of the text space.
        heads: attention heads.
        norm_residual: ``True``: the norm is of words and update together (the semantic models); ``False``: of the
            update alone, whose projection starts at zero (the panoptic model).
    """

    def __init__(self, embed_dim: int, heads: int = 8, norm_residual: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(embed_dim, heads, batch_first=True)
        self.project = nn.Linear(embed_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.norm_residual = norm_residual
        if not norm_residual:
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    @staticmethod
    def dense(tower: ConvNextTower, features: Tensor) -> Tensor:
        """``[B, D, h, w]`` of the last stage's ``[B, C, h, w]``, in the order of the official code (see above)."""
        batch, channels, height, width = features.shape
        rows = features.contiguous().reshape(batch, height * width, channels)
        return tower.project(rows).transpose(1, 2).unflatten(2, (height, width))

    def forward(self, text: Tensor, dense: Tensor) -> Tensor:
        """``[T, D]`` unit vectors and ``[B, D, h, w]`` to ``[B, T, D]``, not normalised."""
        positions = sine_positions(dense)
        values = dense.flatten(2).transpose(1, 2)
        keys = (dense + positions).flatten(2).transpose(1, 2)
        text = text.expand(len(dense), -1, -1)
        update = self.project(self.attention(text, keys, values, need_weights=False)[0])
        return self.norm(text + update) if self.norm_residual else text + self.norm(update)
