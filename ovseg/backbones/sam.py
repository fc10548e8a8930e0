"""SAM as an encoder of whole photos: mask prompts, and the correlation of its last block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.modeling.image_encoder import Block
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from ovseg.backbones.kernels import apply_linear, compute_dtype, feed_forward, patch_embedding
from ovseg.backbones.precision import MixedPrecision
from ovseg.backbones.sam_decoder import ImageDecoder
from ovseg.ops import decomposed_attention, guided_aggregation, relative_positions
from ovseg.registry import BACKBONES
from ovseg.weights import load_sam

ROWS = 1024
"""Cells that the linear layers see at once on the CPU."""


@dataclass
class LastBlock:
    """Last block's attention of the image encoder.

    Attributes:
        q, k, v: ``[heads, N, d / heads]`` of all ``N = rows * columns`` cells, padding included; q unscaled.
        rel_h, rel_w: ``[rows, rows, d / heads]``, ``[columns, columns, d / heads]`` relative positions.
        scale: factor of q.k.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    rel_h: Tensor
    rel_w: Tensor
    scale: float


@dataclass
class PromptTile:
    """A part of a photo that SAM's mask decoder answers prompts on.

    Attributes:
        box: rows and columns ``(y0, y1, x0, x1)`` of the photo.
        framed: ``(h, w)`` of the part after its sides were rounded up.
        resized: ``(h, w)`` after the longest side was scaled to SAM's input; the rest of the square is padding.
        embedding: ``[1, 256, side, side]`` for the mask decoder.
        sam: the model, for prompts.
    """

    box: tuple[int, int, int, int]
    framed: tuple[int, int]
    resized: tuple[int, int]
    embedding: Tensor
    sam: Sam

    @property
    def size(self) -> tuple[int, int]:
        """``(h, w)`` of the part in pixels of the photo."""
        y0, y1, x0, x1 = self.box
        return y1 - y0, x1 - x0

    @cached_property
    def decoder(self) -> ImageDecoder:
        """The mask decoder on this part."""
        return ImageDecoder(self.sam, self.embedding)

    @property
    def grid(self) -> tuple[int, int]:
        """Cells that are not padding (a cell that is partly padding does not count)."""
        cell = self.sam.image_encoder.img_size // self.embedding.shape[-1]
        return max(1, self.resized[0] // cell), max(1, self.resized[1] // cell)

    def predict(
        self,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Masks for a batch of prompts.

        Args:
            points: ``[P, n, 2]`` (x, y) in pixels of SAM's input.
            labels: ``[P, n]`` 1 inside, 0 outside.
            boxes: ``[P, 4]`` (x0, y0, x1, y1) likewise.
            masks: ``[P or 1, 1, 256, 256]`` mask logits; a 3-d ``[1, 256, 256]`` tensor is Trident's prompt, which
                lacks the batch axis, so that the prompt encoder's LayerNorm averages over rows in place of channels.
            multimask: three masks per prompt in place of one.

        Returns:
            low-resolution logits ``[P, M, 256, 256]`` and predicted IoU ``[P, M]``.
        """
        points = None if points is None else (points, labels)
        return self.decoder(*self.sam.prompt_encoder(points, boxes, masks), multimask)

    def upscale(self, logits: Tensor) -> Tensor:
        """Low-resolution logits ``[P, M, 256, 256]`` to the part's own size ``[P, M, h, w]``."""
        framed = self.sam.postprocess_masks(logits, self.resized, self.framed)
        if self.framed == self.size:
            return framed
        return F.interpolate(framed, size=self.size, mode="bilinear", align_corners=False)

    def aggregate(self, features: Tensor, cos_factor: float, cap: float, keep_negative: bool) -> Tensor:
        """Refused: features are mixed by the attention of SAM's own encoder, see :class:`SamTile`.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{type(self).__name__} has no attention of SAM's image encoder, which this stitch aggregates by: use "
            "photo_encoder=dict(type='SamBackbone', ...)"
        )


@dataclass
class SamTile(PromptTile):
    """A part of a photo as SAM's own encoder sees it.

    Attributes:
        last: the last block's attention.
    """

    last: LastBlock

    def aggregate(self, features: Tensor, cos_factor: float, cap: float, keep_negative: bool) -> Tensor:
        """Features ``[d, *grid]`` mixed by the last block's attention where values agree (Trident, section 3.3)."""
        last = self.last
        tokens = guided_aggregation(
            last.q,
            last.k,
            last.v,
            last.rel_h,
            last.rel_w,
            features.flatten(1).T,
            valid=self.grid,
            cos_factor=cos_factor,
            keep_negative=keep_negative,
            cap=cap,
            scale=last.scale,
        )
        return tokens.T.unflatten(1, self.grid)


@dataclass
class SamEncoding:
    """SAM's view of one photo.

    Attributes:
        tiles: parts of the photo side by side, row by row; usually one, the whole.
        layout: ``(rows, columns)`` of tiles.
        size: ``(H, W)`` of the photo.
    """

    tiles: Sequence[PromptTile]
    layout: tuple[int, int]
    size: tuple[int, int]

    def aggregate(self, features: Tensor, cos_factor: float, cap: float, keep_negative: bool) -> Tensor:
        """Trident's aggregation on SAM's own grid.

        Args:
            features: ``[d, h, w]`` on any grid that covers the photo; resized (bilinear) to SAM's.
            cos_factor, cap, keep_negative: see :func:`ovseg.ops.guided_aggregation`.

        Returns:
            ``[d, rows, columns]``: the valid cells of all tiles together.
        """
        rows, columns = self.layout
        gh = [max(tile.grid[0] for tile in self.tiles[i * columns : (i + 1) * columns]) for i in range(rows)]
        gw = [max(tile.grid[1] for tile in self.tiles[j::columns]) for j in range(columns)]
        features = resize_features(features, (sum(gh), sum(gw)))
        parts = [p for row in features.split(gh, dim=1) for p in row.split(gw, dim=2)]
        mixed = []
        for tile, part in zip(self.tiles, parts, strict=True):
            # tiles side by side may differ by a pixel, hence by a row of cells
            done = tile.aggregate(resize_features(part, tile.grid), cos_factor, cap, keep_negative)
            mixed.append(resize_features(done, tuple(part.shape[1:])))
        return torch.cat([torch.cat(mixed[i * columns : (i + 1) * columns], dim=2) for i in range(rows)], dim=1)


def resize_features(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Features ``[d, h, w]`` on another grid, bilinear; as they are where the grid is theirs."""
    if tuple(features.shape[1:]) == tuple(grid):
        return features
    return F.interpolate(features[None], size=grid, mode="bilinear", align_corners=False)[0]


def sam_supervision(weights: str) -> str:
    """What a SAM of the weights catalogue was trained on; it travels with every result."""
    return f"SAM: {'masks of composed scenes' if weights.startswith('nano') else 'SA-1B masks'} (no classes)"


@BACKBONES.register_module()
class SamBackbone(MixedPrecision):
    """SAM's image encoder (segment_anything's own classes), run without a matrix of all pairs of cells.

    Args:
        weights: name in the weights catalogue: ``'sam/vit_b'``, ``'sam/vit_l'``, ``'sam/vit_h'``.
        checkpoint: file to read instead of the catalogue's.
        precision: ``'fp32'``; ``'bf16'`` or ``'fp16'`` run the image encoder under autocast, ``'int8'`` multiplies
            bytes in all blocks but the first and the last; ``'auto'`` chooses, see
            :mod:`ovseg.backbones.precision`; ``None``: fp32 unless an entry point chooses.
        multiple_of: round the photo's sides up to a multiple of this first (Trident 16).
        tiles: ``(rows, columns)`` of parts encoded one by one (Trident on Cityscapes: 1, 2).

    Raises:
        ValueError: for an unknown precision or tiles below 1.
    """

    weights_argument = "weights"

    def __init__(
        self,
        weights: str = "sam/vit_b",
        checkpoint: str | Path | None = None,
        precision: str | None = None,
        multiple_of: int | None = None,
        tiles: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__(precision)
        if min(tiles) < 1:
            raise ValueError(f"tiles is {tiles}; give at least one row and one column")
        loaded = load_sam(weights, checkpoint=checkpoint)
        self.weights, self.sha256, self.supervision = weights, loaded.sha256, sam_supervision(weights)
        self.sam: Sam = loaded.model.eval().requires_grad_(False)
        self.multiple_of, self.tiles = multiple_of, tuple(tiles)

    @torch.no_grad()
    def forward(self, photo: Tensor) -> SamEncoding:
        """Encode a photo.

        Args:
            photo: uint8 RGB ``[3, H, W]``.
        """
        height, width = photo.shape[1:]
        rows, columns = min(self.tiles[0], height), min(self.tiles[1], width)
        ys = [i * height // rows for i in range(rows + 1)]  # round() would cut 5 in 2 + 3 and 7 in 4 + 3
        xs = [i * width // columns for i in range(columns + 1)]
        boxes = [(ys[i], ys[i + 1], xs[j], xs[j + 1]) for i in range(rows) for j in range(columns)]
        image = photo.permute(1, 2, 0).cpu().numpy()
        tiles = [self._encode_tile(image[y0:y1, x0:x1], (y0, y1, x0, x1)) for y0, y1, x0, x1 in boxes]
        return SamEncoding(tiles, (rows, columns), (height, width))

    def _encode_tile(self, image: np.ndarray, box: tuple[int, int, int, int]) -> SamTile:
        if self.multiple_of:
            h, w = (-(-n // self.multiple_of) * self.multiple_of for n in image.shape[:2])
            if (h, w) != image.shape[:2]:
                image = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
        resized = ResizeLongestSide(self.sam.image_encoder.img_size).apply_image(np.ascontiguousarray(image))
        pixels = torch.from_numpy(resized).permute(2, 0, 1).to(self.sam.device)
        embedding, last = self.encode(self.sam.preprocess(pixels)[None])
        return SamTile(box, image.shape[:2], resized.shape[:2], embedding, self.sam, last)

    def encode(self, pixels: Tensor) -> tuple[Tensor, LastBlock]:
        """The image encoder on one normalised, padded square ``[1, 3, side, side]``.

        Returns:
            ``[1, 256, side / 16, side / 16]`` embedding as segment_anything gives it, and the last block's attention.
        """
        encoder = self.sam.image_encoder
        x = patch_embedding(pixels, encoder.patch_embed.proj)  # not under autocast: all blocks add to it, so it is fp32
        if encoder.pos_embed is not None:
            x = x + encoder.pos_embed
        x = x.contiguous()  # a convolution puts channels first, and every sum after it would keep that order
        settled = self.settled
        with settled.autocast(x.device.type):
            for i, block in enumerate(encoder.blocks):
                with settled.layers(i, len(encoder.blocks)):
                    x, last = run_block(block, x)
            embedding = encoder.neck(x.permute(0, 3, 1, 2))
        heads = {name: getattr(last, name)[0].float() for name in ("q", "k", "v")}
        return embedding.float(), LastBlock(**heads, rel_h=last.rel_h, rel_w=last.rel_w, scale=last.scale)

    def describe(self) -> dict[str, object]:
        """What travels with a result."""
        return {
            "weights": self.weights,
            "sha256": self.sha256,
            "precision": str(self.settled),
            "multiple_of": self.multiple_of,
            "tiles": self.tiles,
        }


def run_block(block: Block, x: Tensor) -> tuple[Tensor, LastBlock]:
    """One block of SAM's image encoder on ``[B, h, w, d]`` (contiguous; overwritten), its attention taken apart.

    segment_anything pads before the first linear layer and crops after the last one; a padded cell's q, k and v are
    that layer's bias, so both layers need to see the real cells only. On the CPU they see ``ROWS`` cells at a time:
    memory of a few MiB is used again and again, where tens of MiB would come fresh from the system each time.
    """
    attn, mlp, (batch, height, width, _) = block.attn, block.mlp, x.shape
    cells = x.view(-1, x.shape[-1])
    step = ROWS if x.device.type == "cpu" else len(cells)
    size = (block.window_size, block.window_size) if block.window_size else (height, width)
    place, windows = window_places(batch, height, width, size, x.device)
    qkv = torch.empty(windows * size[0] * size[1], attn.qkv.out_features, dtype=compute_dtype(x), device=x.device)
    if len(qkv) > len(cells):
        qkv[:] = 0 if attn.qkv.bias is None else attn.qkv.bias
    for at, part in zip(place.split(step), cells.split(step), strict=True):
        qkv.index_copy_(0, at, apply_linear(block.norm1(part), attn.qkv))
    q, k, v = qkv.view(windows, size[0] * size[1], 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    rel_h, rel_w = relative_positions(attn.rel_pos_h, size[0]), relative_positions(attn.rel_pos_w, size[1])
    mixed = decomposed_attention(q, k, v, rel_h, rel_w, scale=attn.scale).transpose(1, 2).reshape(len(qkv), -1)
    for at, part in zip(place.split(step), cells.split(step), strict=True):
        part += apply_linear(mixed.index_select(0, at), attn.proj)
        part += feed_forward(block.norm2(part), mlp.lin1, mlp.act, mlp.lin2)
    return x, LastBlock(q, k, v, rel_h, rel_w, attn.scale)


def window_places(
    batch: int, height: int, width: int, size: tuple[int, int], device: torch.device
) -> tuple[Tensor, int]:
    """Where the cells of ``[B, h, w]`` lie when windows of ``size`` follow each other, and how many windows there are.

    Returns:
        int64 ``[B * h * w]``: for each cell its place among those of all windows, padding included; their number.
    """
    rows, columns = -(-height // size[0]), -(-width // size[1])
    sample = torch.arange(batch, device=device)[:, None, None]
    y, x = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    window = (sample * rows + y // size[0]) * columns + x // size[1]
    return ((window * size[0] + y % size[0]) * size[1] + x % size[1]).flatten(), batch * rows * columns
