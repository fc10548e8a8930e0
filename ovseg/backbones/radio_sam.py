"""RADIO in the place of SAM's image encoder."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from torch import Tensor, nn

from ovseg.backbones.dino import DinoBackbone
from ovseg.backbones.sam import PromptTile, SamEncoding, sam_supervision
from ovseg.registry import BACKBONES
from ovseg.weights import load_heads, load_sam


@BACKBONES.register_module()
class RadioSamBackbone(DinoBackbone):
    """SAM's prompt encoder and mask decoder on what RADIO sees of a photo (RADSeg+).

    RADIO was distilled from SAM among others, and its head for SAM's patches takes the place of SAM's 32 blocks. The
    photo's longest side becomes that of SAM's input (1,024 pixels), the other one the next multiple of the patch; cells
    beyond the photo are zero. A head as wide as SAM's blocks is followed by SAM's neck, one as wide as its embedding is
    that embedding.

    Args:
        weights: of the image encoder: a RADIO of the catalogue, e.g. ``'radio/vitb16'``.
        checkpoint: file to read instead of the catalogue's.
        adaptor: its head for SAM, of the catalogue.
        adaptor_checkpoint: file to read instead of the catalogue's.
        sam: whose neck, prompt encoder and mask decoder are used, of the catalogue.
        sam_checkpoint: file to read instead of the catalogue's.
        pos_embed: how positions are resized, see :meth:`ovseg.backbones.towers.VisionTower.positions`.
        precision: of RADIO, as for :class:`DinoBackbone`.

    Raises:
        ValueError: unknown ``precision`` or ``pos_embed``, or a head between other widths than RADIO and SAM have.
    """

    weights_argument = {"weights": "checkpoint", "adaptor": "adaptor_checkpoint", "sam": "sam_checkpoint"}

    def __init__(
        self,
        weights: str = "radio/vitb16",
        checkpoint: str | Path | None = None,
        adaptor: str = "radio/sam_vitb16",
        adaptor_checkpoint: str | Path | None = None,
        sam: str = "sam/vit_h",
        sam_checkpoint: str | Path | None = None,
        pos_embed: str = "square_corners",
        precision: str | None = None,
    ) -> None:
        super().__init__(weights, checkpoint, pos_embed=pos_embed, precision=precision)
        head, loaded = load_heads(adaptor, checkpoint=adaptor_checkpoint), load_sam(sam, checkpoint=sam_checkpoint)
        self.adaptor, self.sam = (part.model.eval().requires_grad_(False) for part in (head, loaded))
        first, last = ([m for m in self.adaptor.modules() if hasattr(m, "in_features")][i] for i in (0, -1))
        if first.in_features != self.tower.width:
            raise ValueError(
                f"adaptor {adaptor!r} is for patches of {first.in_features} numbers, but those of {weights} have "
                f"{self.tower.width}: choose the head that was trained with it"
            )
        encoder = self.sam.image_encoder
        blocks, embedding = encoder.neck[0].in_channels, encoder.neck[-1].weight.shape[0]
        if last.out_features not in (blocks, embedding):
            raise ValueError(
                f"adaptor {adaptor!r} gives {last.out_features} numbers, but the cells of {sam} have {blocks} before "
                f"its neck and {embedding} after it: choose the SAM that the head was trained for"
            )
        self.neck = encoder.neck if last.out_features == blocks else nn.Identity()
        drop_blocks(self.sam)
        self.weights = f"{weights} + {adaptor} + {sam}"
        self.sha256 = f"{self.sha256} {head.sha256} {loaded.sha256}"
        self.supervision = sam_supervision(sam)

    @torch.no_grad()
    def forward(self, photo: Tensor) -> SamEncoding:
        """Encode a photo.

        Args:
            photo: uint8 RGB ``[3, H, W]``.
        """
        size, side = tuple(photo.shape[1:]), self.sam.image_encoder.img_size
        image = (photo.to(self.mean.device).float() - self.mean) / self.std
        resized = self.input_size(size)
        seen = self.patches(F.interpolate(image[None], size=resized, mode="bilinear", align_corners=False))
        cells = self.adaptor(seen.tokens).transpose(1, 2).unflatten(2, seen.grid)
        embedding, cells_of_side = self.neck(cells), side // self.patch_size
        embedding = F.pad(embedding, (0, cells_of_side - seen.grid[1], 0, cells_of_side - seen.grid[0]))
        tile = PromptTile((0, size[0], 0, size[1]), size, resized, embedding, self.sam)
        return SamEncoding([tile], (1, 1), size)

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """``(h, w)`` that RADIO sees of a photo of ``size``: SAM's longest side, and multiples of the patch."""
        patch, side = self.patch_size, self.sam.image_encoder.img_size
        height, width = (max(1, -(-int(n * side / max(size)) // patch)) * patch for n in size)
        return height, width


def drop_blocks(sam: Sam) -> None:
    """Forget SAM's own image encoder but for its neck: 632 million numbers of ViT-H."""
    encoder = sam.image_encoder
    encoder.patch_embed, encoder.blocks, encoder.pos_embed = nn.Identity(), nn.ModuleList(), None
