"""Image encoders that are not CLIP's, with a text tower of their own: what words are compared with all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ovseg.backbones.clip import ClipBackbone
from ovseg.backbones.precision import MixedPrecision
from ovseg.backbones.towers import VisionTower, check_pos_embed


class TwoTowerBackbone(ClipBackbone):
    """An image tower and a text tower that were not trained as one CLIP. A subclass loads both and says so here.

    Args:
        weights: what travels with a result: names of all weights.
        sha256: of their files.
        tower: of images.
        clip: holds the text tower, as open_clip's models do; an image tower that it has is dropped.
        tokenizer: of the text tower.
        mean, std: normalisation of the RGB image in 0..1.
        pos_embed: how positions are resized, see :meth:`ovseg.backbones.towers.VisionTower.positions`.
        precision: as for :class:`ClipBackbone`.

    Raises:
        ValueError: unknown ``precision`` or ``pos_embed``.
    """

    def __init__(
        self,
        weights: str,
        sha256: str,
        tower: VisionTower,
        clip: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        mean: Sequence[float],
        std: Sequence[float],
        pos_embed: str = "size",
        precision: str | None = None,
    ) -> None:
        MixedPrecision.__init__(self, precision)
        check_pos_embed(pos_embed)
        self.weights, self.sha256 = weights, sha256
        self.clip = clip.eval().requires_grad_(False)
        self.clip.visual = NoImages(type(self).__name__)  # the half that is not used would be a third of the memory
        self.tokenizer, self.words = tokenizer, None
        self.tower = tower.eval().requires_grad_(False)
        self.pos_embed, self.compile_mode = pos_embed, None
        self._encode = ClipBackbone._run
        self.register_buffer("mean", torch.tensor(mean).float().view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).float().view(3, 1, 1) * 255, persistent=False)


class NoImages(nn.Module):
    """In the place of an image tower that was dropped.

    Args:
        owner: name of the backbone.
    """

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError(
            f"{self.owner} compares words with patches of windows; it has no embedding of a whole picture, which "
            "this part asks for (regions embedded as pictures need ClipBackbone)"
        )
