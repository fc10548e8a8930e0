"""Renames the keys of checkpoints of other code bases to those of the model that is built here."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

Weights = dict[str, Tensor]

# Parts of DINO, DINOv2 and DINOv3 checkpoints that only their training uses.
_DINO_TRAINING_ONLY = re.compile(
    r"^(head|dino_head|ibot_head|fc_norm|last_layer|local_cls_norm)\.|^mask_token$|^rope(_embed)?\.|\.bias_mask$"
)


def dino_backbone(weights: Mapping[str, Tensor]) -> Weights:
    """Keys of facebookresearch's DINO, DINOv2 and DINOv3 checkpoints to timm's; timm's own keys pass unchanged.

    Training checkpoints have the network under ``backbone.`` beside its projection head, which is dropped.
    """
    if any(key.startswith("backbone.") for key in weights):
        weights = {k.removeprefix("backbone."): v for k, v in weights.items() if k.startswith("backbone.")}
    out = {key: value for key, value in weights.items() if not _DINO_TRAINING_ONLY.search(key)}
    if "register_tokens" in out:
        # DINOv2: the position of the class token is added once and for all, timm's model has none for it
        out["reg_token"] = out.pop("register_tokens")
        if "pos_embed" in out and "cls_token" in out:
            out["cls_token"] = out["cls_token"] + out["pos_embed"][:, :1]
            out["pos_embed"] = out["pos_embed"][:, 1:]
    if "storage_tokens" in out:
        out = _dinov3(out)
    return out


def _dinov3(weights: Weights) -> Weights:
    out = {}
    for key, value in weights.items():
        if key.endswith("attn.qkv.bias"):
            query, _, values = value.chunk(3)  # the bias of the keys is masked in the model
            if not torch.any(query) and not torch.any(values):
                continue  # timm's model has no bias where it came out as zero
        key = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", key)
        out["reg_token" if key == "storage_tokens" else key] = value
    return out


def dinoiser_heads(weights: Mapping[str, Tensor]) -> Weights:
    """The two heads of CLIP-DINOiser, wherever in the checkpoint they lie; a CLIP beside them is left out."""
    pattern = re.compile(r"(?:^|\.)((?:obj_proj|bkg_decoder)\.(?:weight|bias))$")
    heads = {match[1]: value for key, value in weights.items() if (match := pattern.search(key))}
    return heads or dict(weights)


_EVA_NAMES = {
    ".attn.inner_attn_ln.": ".attn.norm.",
    ".attn.q_bias": ".attn.q_proj.bias",
    ".attn.v_bias": ".attn.v_proj.bias",
    ".mlp.w1.": ".mlp.fc1_g.",
    ".mlp.w2.": ".mlp.fc1_x.",
    ".mlp.ffn_ln.": ".mlp.norm.",
    ".mlp.w3.": ".mlp.fc2.",
}


def is_eva_clip(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of EVA-CLIP's own code (BAAI's files, and towers that DeCLIP has tuned)."""
    return "visual.blocks.0.attn.inner_attn_ln.weight" in weights


def eva_clip(weights: Mapping[str, Tensor]) -> Weights:
    """Keys of EVA-CLIP's own EVA-02 models to open_clip's, whose image tower is timm's.

    Its rotary tables are constants, and are dropped.
    """
    out: Weights = {}
    for key, value in weights.items():
        if key.startswith("visual.") and ".rope." not in key:
            key = "visual.trunk." + key.removeprefix("visual.")
            for theirs, ours in _EVA_NAMES.items():
                key = key.replace(theirs, ours)
        if ".rope." not in key:
            out[key] = value
    return out


def transformers_clip(weights: Mapping[str, Tensor]) -> Weights:
    """Keys of Hugging Face transformers' ``CLIPModel`` to open_clip's ``CLIP``.

    transformers keeps query, key and value projections apart and projections as linear layers (transposed).
    """
    out: Weights = {}
    _transformers_blocks(weights, "vision_model.encoder.layers.", "visual.transformer.resblocks.", out)
    _transformers_blocks(weights, "text_model.encoder.layers.", "transformer.resblocks.", out)
    for key, value in weights.items():
        name = _TRANSFORMERS_KEYS.get(key)
        if name is not None:
            out[name] = value
        elif not (".encoder.layers." in key or key.endswith("position_ids")):
            out[key] = value  # unknown: left for the error message
    for key in ("visual.proj", "text_projection"):
        if key in out:
            out[key] = out[key].T.contiguous()
    return out


_TRANSFORMERS_KEYS = {
    "logit_scale": "logit_scale",
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}
_TRANSFORMERS_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def _transformers_blocks(weights: Mapping[str, Tensor], theirs: str, ours: str, out: Weights) -> None:
    for key, value in weights.items():
        match = re.fullmatch(re.escape(theirs) + r"(\d+)\.(.+)\.(weight|bias)", key)
        if match is None:
            continue
        index, layer, kind = match.groups()
        if layer in _TRANSFORMERS_LAYER:
            out[f"{ours}{index}.{_TRANSFORMERS_LAYER[layer]}.{kind}"] = value
        elif layer == "self_attn.q_proj":
            parts = [weights.get(f"{theirs}{index}.self_attn.{p}_proj.{kind}") for p in "qkv"]
            if all(part is not None for part in parts):
                out[f"{ours}{index}.attn.in_proj_{kind}"] = torch.cat(parts)
