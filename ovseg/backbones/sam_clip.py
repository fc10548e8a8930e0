"""SAM-CLIP: SAM's image encoder with a second head, whose patches and photos are compared with a CLIP's words.

Wang et al., "SAM-CLIP: Merging Vision Foundation Models towards Semantic and Spatial Understanding", 2023. Neither code
nor weights are published; sizes that no public text gives are ours and said so.
"""

from __future__ import annotations

from pathlib import Path

from segment_anything.modeling import ImageEncoderViT
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ovseg.backbones.towers import TimmBlock, VisionTower
from ovseg.backbones.two_towers import TwoTowerBackbone
from ovseg.registry import BACKBONES, construct
from ovseg.text.causal import text_tower
from ovseg.weights import load_clip, load_decoder, load_sam


class ClipHead(nn.Module):
    """A few transformer blocks over SAM's tokens, and the mean of what they give (depth and pooling: ours).

    Args:
        width: of the tokens.
        dim: of the words' space.
        heads: of the blocks' attention.
        depth: number of blocks.
    """

    def __init__(self, width: int, dim: int, heads: int, depth: int = 3) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}; give at least one block")
        self.blocks = nn.ModuleList(Block(width, heads, qkv_bias=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embeddings of photos ``[B, dim]``, not normalised, of tokens ``[B, N, width]``."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.projection(self.norm(tokens).mean(dim=1))


class SamClipTower(VisionTower):
    """SAM's encoder as what embeds the patches, the head's blocks as the blocks that an attention may change.

    Positions are resized from SAM's grid; windowed and global attention are segment_anything's own. There is no class
    token.

    Args:
        encoder: SAM's image encoder; its neck is left out.
        head: the head.
    """

    def __init__(self, encoder: ImageEncoderViT, head: ClipHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.blocks = nn.ModuleList(TimmBlock(block) for block in head.blocks)
        self.num_prefix, self.patch_size = 0, encoder.patch_embed.proj.kernel_size[0]
        side = encoder.img_size // self.patch_size
        self.native_grid = (side, side)
        self.width, self.embed_dim = encoder.patch_embed.proj.out_channels, head.projection.out_features

    def embed(self, images: Tensor, pos_embed: str = "size") -> Tensor:
        """Tokens ``[B, h * w, d]`` after all of SAM's blocks."""
        grid = self.grid_of(*images.shape[-2:])
        x = self.encoder.patch_embed(images)  # [B, h, w, d]
        if self.encoder.pos_embed is not None:
            table = self.encoder.pos_embed[0].flatten(0, 1)
            x = x + self.positions(table, grid, pos_embed).unflatten(1, grid)
        for block in self.encoder.blocks:
            x = block(x)
        return x.flatten(1, 2)

    @property
    def final_norm(self) -> nn.Module:
        return self.head.norm

    def project(self, x: Tensor) -> Tensor:
        return self.head.projection(x)

    def photos(self, images: Tensor, pos_embed: str = "size") -> Tensor:
        """Embeddings ``[B, D]``, not normalised, of normalised images ``[B, 3, H, W]`` of any one size."""
        return self.head(self.embed(images, pos_embed))


@BACKBONES.register_module()
class SamClipBackbone(TwoTowerBackbone):
    """SAM's encoder with a CLIP head, and the text tower of the CLIP that taught it.

    Windows are normalised with SAM's mean and standard deviation. The encoder runs in fp32, whatever ``precision``.

    Args:
        weights: a trained encoder, mask decoder and head, of the catalogue: ``'sam_clip_merged/vitb16'``; ``None``: SAM
            as it is and a head at random, for training.
        checkpoint: file to read instead of the catalogue's.
        sam: SAM of the catalogue whose sizes it has, and which a training starts from.
        sam_checkpoint: file to read instead of the catalogue's.
        text: the CLIP whose text tower reads the words.
        text_checkpoint: file to read instead of the catalogue's.
        head: arguments of :class:`ClipHead` (``depth``, ``heads``); by default as many heads as the encoder has.
        pos_embed: how positions are resized, see :meth:`ovseg.backbones.towers.VisionTower.positions`.
        precision: as for :class:`ovseg.backbones.ClipBackbone`.

    Raises:
        ValueError: unknown ``precision`` or ``pos_embed``, or a checkpoint without a name.
    """

    weights_argument = {"weights": "checkpoint", "sam": "sam_checkpoint", "text": "text_checkpoint"}

    def __init__(
        self,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
        sam: str = "sam/vit_b",
        sam_checkpoint: str | Path | None = None,
        text: str = "datacomp_xl_s13b_b90k/ViT-B-16",
        text_checkpoint: str | Path | None = None,
        head: dict | None = None,
        pos_embed: str = "size",
        precision: str | None = None,
    ) -> None:
        if weights is None and checkpoint is not None:
            raise ValueError(f"checkpoint {checkpoint}: name the format in `weights` too, a name of the catalogue")
        found, clip = load_sam(sam, checkpoint=sam_checkpoint), load_clip(text, checkpoint=text_checkpoint)
        encoder = found.model.image_encoder
        projection = text_tower(clip.model).text_projection
        sizes = dict(
            width=encoder.patch_embed.proj.out_channels,
            dim=getattr(projection, "out_features", None) or projection.shape[-1],
            heads=encoder.blocks[0].attn.num_heads,
        )
        clip_head = construct(ClipHead, {**sizes, **(head or {})}, "head").eval().requires_grad_(False)
        names, hashes = [sam, text], [found.sha256, clip.sha256]
        if weights is not None:
            whole = nn.ModuleDict({"sam": found.model, "head": clip_head})
            names, hashes = [weights, text], [load_decoder(weights, whole, checkpoint), clip.sha256]
        mean, std = (v.flatten().tolist() for v in (found.model.pixel_mean / 255, found.model.pixel_std / 255))
        tower = SamClipTower(encoder, clip_head)
        super().__init__(
            " + ".join(names), " ".join(hashes), tower, clip.model, clip.tokenizer, mean, std, pos_embed, precision
        )
        self.sam, self.head = found.model.eval().requires_grad_(False), clip_head
