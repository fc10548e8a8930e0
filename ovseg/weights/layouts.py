"""Checkpoints of trained segmenters: one file with a CLIP and a decoder, told apart by their keys.

A layout says which keys belong to which, and renames them: to open_clip's for the CLIP, to those of the module in
:mod:`ovseg.decoders` for the decoder. What belongs to neither is left for the error message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """The keys of one family of checkpoints.

    Attributes:
        clip: all tensors of a file to those of open_clip's model.
        decoder: all tensors of a file to those of the decoder.
        joined: tensors of open_clip's model and of the decoder to those of a file.
    """

    clip: Callable[[Mapping[str, Tensor]], Weights]
    decoder: Callable[[Mapping[str, Tensor]], Weights]
    joined: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Weights]


_PREDICTOR = "sem_seg_head.predictor."
_CLIP, _AGGREGATOR = _PREDICTOR + "clip_model.", _PREDICTOR + "transformer."
_PROJECTION = re.compile(r"(.*\.attn\.)([qkv])_proj_weight")


def _catseg_clip(weights: Mapping[str, Tensor]) -> Weights:
    return joint_projections({k.removeprefix(_CLIP): v for k, v in weights.items() if k.startswith(_CLIP)})


def _catseg_decoder(weights: Mapping[str, Tensor]) -> Weights:
    mask = ".swin_block.block_2.attn_mask"  # a constant of the architecture
    return {
        k.removeprefix(_AGGREGATOR): v for k, v in weights.items() if not k.startswith(_CLIP) and not k.endswith(mask)
    }


def _catseg_joined(clip: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Weights:
    out = {_CLIP + key: value for key, value in separate_projections(clip).items()}
    for key, value in decoder.items():
        out[key if key.startswith(("upsample1.", "upsample2.")) else _AGGREGATOR + key] = value
    return out


def joint_projections(weights: Mapping[str, Tensor]) -> Weights:
    """``attn.{q,k,v}_proj_weight`` to ``attn.in_proj_weight``; other keys pass."""
    out: Weights = {}
    for key, value in weights.items():
        match = _PROJECTION.fullmatch(key)
        parts = [weights.get(f"{match[1]}{part}_proj_weight") for part in "qkv"] if match else []
        if not match or any(part is None for part in parts):
            out[key] = value
        elif match[2] == "q":
            out[f"{match[1]}in_proj_weight"] = torch.cat(parts)
    return out


def separate_projections(weights: Mapping[str, Tensor]) -> Weights:
    """``attn.in_proj_weight`` to ``attn.{q,k,v}_proj_weight``; other keys pass."""
    out: Weights = {}
    for key, value in weights.items():
        if key.endswith(".attn.in_proj_weight"):
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                out[key.replace("in_proj_weight", f"{part}_proj_weight")] = rows.clone()
        else:
            out[key] = value
    return out


LAYOUTS: dict[str, Layout] = {
    "catseg": Layout(_catseg_clip, _catseg_decoder, _catseg_joined),
}
"""Layouts by the name that a card of the catalogue gives in ``layout``."""
