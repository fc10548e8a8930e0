"""SAM's mask decoder for many prompts on one image, with a fraction of the arithmetic of segment_anything's.

The few tokens of a prompt meet the N cells of the image in five attentions. segment_anything copies the image once per
prompt and projects all its cells to keys, values and queries each time. Here the projections go to the side of the
tokens: ``q (W k)^T = (q W) k^T`` and ``a (k W) = (a k) W``, with H T rows (heads times tokens, about 60) in place of N
(4,096); the position encoding's share of the logits is the same for all prompts and is computed once per image, and so
is the first layer's view of the image. Upscaling runs as matrix products on cells in rows, in parts that fit the cache,
and only the masks that are wanted are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn

from ovseg.backbones.kernels import linear

CHUNK_BYTES = 4 << 20
"""Of the image's features, one copy per prompt, that are worked on at once on the CPU."""
CHUNK_BYTES_GPU = 1 << 30
UPSCALED_CELLS = 1024
"""Cells whose 16 upscaled pixels are worked on at once on the CPU."""


class ImageDecoder:
    """Decodes prompts on one image: ``MaskDecoder`` of segment_anything (Kirillov et al., 2023, appendix A), in fp32.

    Args:
        sam: the model.
        embedding: ``[1, d, h, w]`` float32 of the image encoder.
    """

    def __init__(self, sam: Sam, embedding: Tensor) -> None:
        self.decoder, self.embedding = sam.mask_decoder, embedding
        self.transformer = sam.mask_decoder.transformer
        position = sam.prompt_encoder.get_dense_pe().flatten(2)[0].T  # [N, d]
        self.layers = [
            (
                _ImageSide.of(layer.cross_attn_token_to_image, "k", position),
                _ImageSide.of(layer.cross_attn_image_to_token, "q", position),
            )
            for layer in self.transformer.layers
        ]
        self.last = _ImageSide.of(self.transformer.final_attn_token_to_image, "k", position)
        first, _, _, second, _ = self.decoder.output_upscaling
        self.four_folds = [_FourFold.of(first), _FourFold.of(second)]

    @torch.no_grad()
    def __call__(self, sparse: Tensor, dense: Tensor, multimask: bool = False) -> tuple[Tensor, Tensor]:
        """Masks of prompts.

        Args:
            sparse: ``[P, n, d]`` embedded points and boxes.
            dense: ``[P, d, h, w]`` embedded mask prompts; one for all prompts as ``[1, d, h, w]``, ``[d, h, w]`` or
                expanded, which is faster.
            multimask: three masks per prompt in place of one.

        Returns:
            logits ``[P, M, 4 h, 4 w]`` and predicted IoU ``[P, M]``, M being 3 or 1.
        """
        wanted = range(1, self.decoder.num_mask_tokens) if multimask else range(1)
        if not len(sparse):
            side = [4 * n for n in self.embedding.shape[2:]]
            return sparse.new_zeros(0, len(wanted), *side), sparse.new_zeros(0, len(wanted))
        dense = dense if dense.dim() == 4 else dense[None]
        if dense.stride(0) == 0:
            dense = dense[:1]
        chunk = CHUNK_BYTES if sparse.device.type == "cpu" else CHUNK_BYTES_GPU
        step = max(1, chunk // (self.embedding.numel() * self.embedding.element_size()))
        shared = self._cells(dense) if len(dense) == 1 else None
        images = [None, None] if shared is None else [side.image(shared[0]) for side in self.layers[0]]
        parts = [
            self._decode(some, self._cells(dense[i * step :][:step]) if shared is None else shared, images, wanted)
            for i, some in enumerate(sparse.split(step))
        ]
        return torch.cat([masks for masks, _ in parts]), torch.cat([quality for _, quality in parts])

    def _cells(self, dense: Tensor) -> Tensor:
        """The image under mask prompts ``[P, d, h, w]``: ``[P, N, d]``."""
        return (self.embedding + dense).flatten(2).mT.contiguous()

    def _decode(
        self, sparse: Tensor, keys: Tensor, images: list[Tensor | None], wanted: range
    ) -> tuple[Tensor, Tensor]:
        decoder = self.decoder
        output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([output.expand(len(sparse), -1, -1), sparse], 1)
        queries = tokens  # [P, T, d]
        for layer, (to_image, to_token) in zip(self.transformer.layers, self.layers, strict=True):
            queries = _self_attention(layer, queries, tokens)
            queries = layer.norm2(queries + to_image.read(queries + tokens, keys, images[0]))
            queries = layer.norm3(queries + layer.mlp(queries))
            keys = layer.norm4(to_token.write(queries + tokens, queries, keys, images[1]))
            images = [None, None]
        queries = self.transformer.norm_final_attn(queries + self.last.read(queries + tokens, keys))
        quality = decoder.iou_prediction_head(queries[:, 0])[:, wanted.start : wanted.stop]
        heads = [decoder.output_hypernetworks_mlps[i](queries[:, 1 + i]) for i in wanted]
        return self._upscaled(keys.expand(len(sparse), -1, -1), torch.stack(heads, 2)), quality

    def _upscaled(self, cells: Tensor, heads: Tensor) -> Tensor:
        """Cells ``[P, N, d]``, one vector per mask ``[P, d / 8, M]`` -> mask logits ``[P, M, 4 h, 4 w]``."""
        _, norm, activation, _, last_activation = self.decoder.output_upscaling
        first, second = self.four_folds
        height, width = self.embedding.shape[2:]
        step = UPSCALED_CELLS if cells.device.type == "cpu" else cells.shape[1]
        masks = cells.new_empty(len(cells), cells.shape[1], 4 * 4, heads.shape[2])
        for prompt, vectors, out in zip(cells, heads, masks, strict=True):
            for part, result in zip(prompt.split(step), out.split(step), strict=True):
                x = activation(F.layer_norm(first(part), norm.weight.shape, norm.weight, norm.bias, norm.eps))
                torch.matmul(last_activation(second(x)), vectors, out=result.view(-1, vectors.shape[1]))
        # [P, h, w, 2, 2, 2, 2, M]: row and column within the first four-fold, then within the second
        masks = masks.view(len(cells), height, width, 2, 2, 2, 2, -1).permute(0, 7, 1, 3, 5, 2, 4, 6)
        return masks.reshape(len(cells), -1, 4 * height, 4 * width)


@dataclass
class _FourFold:
    """A 2 x 2 transposed convolution of stride 2 on cells in rows: ``[n, d] -> [4 n, e]``, a cell's four together."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.ConvTranspose2d) -> _FourFold:
        return cls(layer.weight.permute(2, 3, 1, 0).reshape(-1, layer.in_channels), layer.bias.repeat(4))

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias).view(4 * len(x), -1)


def _self_attention(layer: TwoWayAttentionBlock, queries: Tensor, tokens: Tensor) -> Tensor:
    if layer.skip_first_layer_pe:
        return layer.norm1(layer.self_attn(q=queries, k=queries, v=queries))
    both = queries + tokens
    return layer.norm1(queries + layer.self_attn(q=both, k=both, v=queries))


@dataclass
class _ImageSide:
    """One attention between tokens and cells whose projections of the cells are moved to the tokens.

    Attributes:
        attention: segment_anything's layer.
        weight: ``[H, c, d]`` the projection of the cells that gives the logits (k, or q where cells ask).
        position: ``[H, c, N]`` that projection of the cells' position encoding, bias included.
    """

    attention: Attention
    weight: Tensor
    position: Tensor

    @classmethod
    def of(cls, attention: Attention, side: str, position: Tensor) -> _ImageSide:
        layer = getattr(attention, f"{side}_proj")
        heads = (attention.num_heads, -1)
        projected = F.linear(position, layer.weight, layer.bias).T.unflatten(0, heads).contiguous()
        return cls(attention, layer.weight.unflatten(0, heads), projected)

    def image(self, cells: Tensor) -> Tensor:
        """Cells ``[N, d]`` as ``[H, c, N]``, for many tokens that see the same ones."""
        return torch.einsum("hcd,nd->hcn", self.weight, cells) + self.position

    def logits(self, asked: Tensor, cells: Tensor, image: Tensor | None) -> Tensor:
        """Logits ``[P, H, T, N]`` of token vectors ``[P, H, T, c]`` against the image or cells ``[P, N, d]``."""
        asked = asked * asked.shape[-1] ** -0.5
        heads = asked.transpose(0, 1).flatten(1, 2)  # [H, P T, c]
        seen = heads @ (self.position if image is None else image)
        seen = seen.unflatten(1, (len(asked), -1)).transpose(0, 1)
        if image is not None:
            return seen
        folded = torch.einsum("phtc,hcd->phtd", asked, self.weight).flatten(1, 2)
        return torch.baddbmm(seen.flatten(1, 2), folded, cells.mT).view_as(seen)

    def read(self, tokens: Tensor, cells: Tensor, image: Tensor | None = None) -> Tensor:
        """Tokens attend to the image: ``[P, T, d]``."""
        a = self.attention
        heads = (a.num_heads, -1)
        weight = self.logits(a.q_proj(tokens).unflatten(2, heads).transpose(1, 2), cells, image).softmax(-1)
        mixed = (weight.flatten(1, 2) @ cells).unflatten(1, weight.shape[1:3])  # [P, H, T, d]
        values = torch.einsum("phtd,hcd->pthc", mixed, a.v_proj.weight.unflatten(0, heads))
        return a.out_proj(values.flatten(2) + a.v_proj.bias)

    def write(self, tokens: Tensor, values: Tensor, cells: Tensor, image: Tensor | None = None) -> Tensor:
        """Cells attend to the tokens ``[P, T, d]`` and add what they get: ``[P, N, d]``.

        Overwrites the cells, unless they are given as an image that all prompts share.
        """
        a = self.attention
        heads = (a.num_heads, -1)
        weight = self.logits(a.k_proj(tokens).unflatten(2, heads).transpose(1, 2), cells, image).softmax(2)
        values = a.v_proj(values).unflatten(2, heads)
        # the weights of a head sum to one, so each head's values may carry a part of the last bias
        values = torch.einsum("pthc,dhc->phtd", values, a.out_proj.weight.unflatten(1, heads))
        values = values + a.out_proj.bias / a.num_heads
        mixed = weight.flatten(1, 2).mT, values.flatten(1, 2)
        return cells.baddbmm_(*mixed) if image is None else torch.baddbmm(cells.expand(len(tokens), -1, -1), *mixed)
