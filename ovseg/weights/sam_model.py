"""segment_anything's classes at the sizes of a json file; its own registry knows ViT-B, L and H only."""

from __future__ import annotations

from functools import partial
from typing import Any

from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn


def build_sam(sizes: dict[str, Any]) -> Sam:
    """An untrained SAM of any size.

    Args:
        sizes: ``image_size`` and ``patch_size`` in pixels; ``width``, ``depth``, ``heads``, ``window_size`` (in cells)
            and ``global_blocks`` (indices) of the image encoder; ``dim`` of the embedding, a multiple of 8;
            ``decoder_depth``, ``decoder_heads``, ``decoder_mlp`` and ``iou_hidden`` of the mask decoder;
            ``mask_channels`` of the mask prompt's convolutions; ``mean`` and ``std`` of RGB in 0..1.

    Raises:
        KeyError: a size is missing.
        ValueError: the image is no whole number of patches.
    """
    image, patch, dim = sizes["image_size"], sizes["patch_size"], sizes["dim"]
    if image % patch:
        raise ValueError(f"image_size {image} is not a multiple of patch_size {patch}; choose one that is")
    grid = image // patch
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=image,
            patch_size=patch,
            embed_dim=sizes["width"],
            depth=sizes["depth"],
            num_heads=sizes["heads"],
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            out_chans=dim,
            use_rel_pos=True,
            window_size=sizes["window_size"],
            global_attn_indexes=tuple(sizes["global_blocks"]),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=dim,
            image_embedding_size=(grid, grid),
            input_image_size=(image, image),
            mask_in_chans=sizes["mask_channels"],
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=dim,
            transformer=TwoWayTransformer(
                depth=sizes["decoder_depth"],
                embedding_dim=dim,
                num_heads=sizes["decoder_heads"],
                mlp_dim=sizes["decoder_mlp"],
            ),
            iou_head_hidden_dim=sizes["iou_hidden"],
        ),
        pixel_mean=[255 * x for x in sizes["mean"]],
        pixel_std=[255 * x for x in sizes["std"]],
    )
