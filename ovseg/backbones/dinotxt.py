"""dino.txt: DINOv3 with two blocks on top that were trained together with a text tower."""

from __future__ import annotations

from pathlib import Path

import open_clip
from torch import Tensor, nn

from ovseg.backbones.dino import trunk_tower
from ovseg.backbones.towers import EvaBlock, TransformerBlock, VisionTower
from ovseg.backbones.two_towers import TwoTowerBackbone
from ovseg.registry import BACKBONES
from ovseg.weights import load_dino, load_heads

TOKENS = ("head", "backbone")


@BACKBONES.register_module()
class DinoTxtBackbone(TwoTowerBackbone):
    """A frozen DINOv3, trained blocks on its normed tokens, and the text tower that was trained with these (Jose et
    al., "DINOv2 Meets Text", CVPR 2025; here on DINOv3, Simeoni et al. 2025).

    Windows are normalised with DINOv3's mean and standard deviation. Words are compared with the patches after the last
    trained block and the LayerNorm that follows: the second half of the text tower's embedding, which was trained
    together with the mean of the patches.

    Args:
        weights: of the image encoder: a DINOv3 of the catalogue, e.g. ``'dinov3/vitl16'``.
        checkpoint: file to read instead of the catalogue's.
        text: the trained blocks and the text tower, one file of the catalogue.
        text_checkpoint: file to read instead of the catalogue's.
        tokens: ``'head'``: patches after the trained blocks, as they were trained to be compared with words;
            ``'backbone'``: DINOv3's own, as the authors' notebook for segmentation takes them, which words were never
            trained with.
        precision: as for :class:`ovseg.backbones.ClipBackbone`.

    Raises:
        ValueError: unknown ``precision`` or ``tokens``, or blocks for tokens of another width.
    """

    weights_argument = {"weights": "checkpoint", "text": "text_checkpoint"}

    def __init__(
        self,
        weights: str = "dinov3/vitl16",
        checkpoint: str | Path | None = None,
        text: str = "dinotxt/vitl16",
        text_checkpoint: str | Path | None = None,
        tokens: str = "head",
        precision: str | None = None,
    ) -> None:
        if tokens not in TOKENS:
            raise ValueError(f"tokens is {tokens!r}; choose one of {', '.join(TOKENS)}")
        trunk = load_dino(weights, checkpoint=checkpoint)
        parts = load_heads(text, checkpoint=text_checkpoint)
        tower, width = trunk_tower(trunk.model), parts.model.norm.weight.numel()
        if tower.width != width:
            raise ValueError(
                f"the blocks of {text} are for tokens of {width} numbers, but those of {weights} have {tower.width}: "
                "choose the DINOv3 they were trained on"
            )
        clip = parts.model.words
        super().__init__(
            f"{weights} + {text}",
            f"{trunk.sha256} {parts.sha256}",
            ExtendedTower(tower, parts.model.blocks, parts.model.norm) if tokens == "head" else tower,
            clip,
            open_clip.SimpleTokenizer(context_length=clip.context_length),
            trunk.mean,
            trunk.std,
            precision=precision,
        )
        self.tokens = tokens


class ExtendedTower(VisionTower):
    """A tower with further blocks over its normed tokens.

    Args:
        trunk: the tower below.
        blocks: timm's blocks, without rotary positions.
        norm: the LayerNorm after them.
    """

    def __init__(self, trunk: VisionTower, blocks: nn.ModuleList, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.trunk, self.norm = trunk, norm
        last = NormedBlock(trunk.blocks[-1], trunk.final_norm)
        self.blocks = nn.ModuleList([*trunk.blocks[:-1], last, *(EvaBlock(block, None) for block in blocks)])
        self.num_prefix, self.patch_size, self.native_grid = trunk.num_prefix, trunk.patch_size, trunk.native_grid
        self.width = self.embed_dim = trunk.width

    def embed(self, images: Tensor, pos_embed: str = "size") -> Tensor:
        return self.trunk.embed(images, pos_embed)

    @property
    def final_norm(self) -> nn.Module:
        return self.norm

    def project(self, x: Tensor) -> Tensor:
        return x


class NormedBlock(TransformerBlock):
    """The last block of a trunk with the LayerNorm after it, so that the next block starts from normed tokens.

    Args:
        block: the block.
        norm: the LayerNorm.
    """

    def __init__(self, block: TransformerBlock, norm: nn.Module) -> None:
        super().__init__()
        self.block, self.norm = block, norm
        self.num_heads, self.scale = block.num_heads, block.scale

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        return self.norm(self.block(x, grid))

    def norm1(self, x: Tensor) -> Tensor:
        return self.block.norm1(x)

    def qkv(self, y: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return self.block.qkv(y, grid)

    def qkv_unrotated(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.block.qkv_unrotated(y)

    def value(self, y: Tensor) -> Tensor:
        return self.block.value(y)

    def unscaled_out(self, mixed: Tensor) -> Tensor:
        return self.block.unscaled_out(mixed)

    def out(self, mixed: Tensor) -> Tensor:
        return self.block.out(mixed)

    def norm2(self, x: Tensor) -> Tensor:
        return self.block.norm2(x)

    def ffn(self, x: Tensor) -> Tensor:
        return self.block.ffn(x)
