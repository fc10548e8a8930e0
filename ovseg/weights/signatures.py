"""Tells from the keys and shapes of a state dict which model it belongs to; used to make error messages helpful."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

_VIT_SIZES = {192: "Ti", 384: "S", 768: "B", 1024: "L", 1280: "H", 1152: "SO400M", 1408: "g", 1536: "g", 1664: "bigG"}


def describe(weights: Mapping[str, Tensor]) -> str:
    """A short description such as ``a CLIP ViT-B/16, 12 blocks, 224 pixels (OpenAI or open_clip format)``."""
    keys = set(weights)

    def has(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keys)

    if has("sem_seg_head.predictor.transformer.layers."):
        return "a CAT-Seg"
    if has("clip_adapter.clip_model."):
        return "an OVSeg"
    if has("sem_seg_head.predictor.transformer_cross_attention_layers."):
        return "a MAFT+" if has("cdt.") else "an FC-CLIP"
    if has("visual.conv1.") and has("visual.transformer."):
        tower = _vit(weights, "visual.conv1.weight", "visual.transformer.resblocks.")
        return f"a CLIP {tower} (OpenAI or open_clip format)"
    if has("visual.layer1."):
        return "a CLIP ResNet (OpenAI or open_clip format)"
    if has("visual.trunk."):
        tower = _vit(weights, "visual.trunk.patch_embed.proj.weight", "visual.trunk.blocks.")
        kind = (
            "a SigLIP" if has("visual.trunk.attn_pool.") else "an EVA-CLIP" if has("visual.trunk.norm.") else "a CLIP"
        )
        return f"{kind} {tower} (open_clip format with timm's image tower)"
    if has("visual_model.head.") or has("text_model.backbone."):
        return "dino.txt's blocks and text tower"
    if has("vision_model.") or has("text_model."):
        return "a CLIP or SigLIP in the format of Hugging Face transformers"
    if has("image_encoder.") and has("mask_decoder."):
        tower = _vit(weights, "image_encoder.patch_embed.proj.weight", "image_encoder.blocks.")
        return f"a SAM {tower}"
    if "obj_proj.weight" in keys and "bkg_decoder.weight" in keys:
        return "the heads of CLIP-DINOiser"
    if "linear_layer.weight" in keys and has("hidden_layers."):
        return "Talk2DINO's map of words"
    if has("radio_model."):
        return "a RADIO (NVIDIA's format)"
    if "patch_embed.proj.weight" in keys:
        tower = _vit(weights, "patch_embed.proj.weight", "blocks.")
        registers = " with registers" if {"register_tokens", "reg_token", "storage_tokens"} & keys else ""
        if has("blocks.0.ls1.") or has("blocks.0.gamma_1"):
            family = "DINOv2" if "pos_embed" in keys else "DINOv3"
            return f"a {family} {tower}{registers}"
        return f"a DINO or timm {tower}"
    if "conv1.weight" in keys and has("layer1."):
        return "a ResNet"
    return f"no model ovseg knows (first keys: {', '.join(list(weights)[:3]) or 'none'})"


def _vit(weights: Mapping[str, Tensor], patch_key: str, blocks: str) -> str:
    """``ViT-B/16, 12 blocks, 224 pixels``: from the patch embedding, the numbered keys and the position embedding."""
    depth = len({key[len(blocks) :].split(".")[0] for key in weights if key.startswith(blocks)})
    kernel = weights.get(patch_key)
    if kernel is None or kernel.ndim != 4:
        return f"ViT, {depth} blocks"
    width, patch = kernel.shape[0], kernel.shape[-1]
    size = f"ViT-{_VIT_SIZES.get(width, f'width {width}')}/{patch}, {depth} blocks"
    root = patch_key.removesuffix("conv1.weight").removesuffix("patch_embed.proj.weight")
    for key in (f"{root}positional_embedding", f"{root}pos_embed"):
        if key in weights and weights[key].ndim in (2, 3):
            side = math.isqrt(weights[key].shape[-2])  # one prefix token more or less does not change the root
            return f"{size}, {side * patch} pixels"
    return size
