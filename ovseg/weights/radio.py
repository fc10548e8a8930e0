"""C-RADIO's file and the heads that bring its features into the space of a teacher (SigLIP 2, SAM)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

_TRUNK = "radio_model.model."


def radio_backbone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of NVIDIA's C-RADIO files to timm's ViT; timm's own keys pass unchanged.

    Patches are flattened and multiplied there, without a bias, and are a convolution here. Of its summary tokens, one
    for each teacher, the first is the class token here, the others are registers as are the registers. Statistics for
    the pixels and the heads of teachers are left out.
    """
    if not any(key.startswith(_TRUNK) for key in weights):
        return dict(weights)
    out = {}
    for key, value in weights.items():
        key = key.removeprefix(_TRUNK) if key.startswith(_TRUNK) else ""
        if key == "patch_generator.embedder.weight":
            side = round((value.shape[1] / 3) ** 0.5)
            out["patch_embed.proj.weight"] = value.unflatten(1, (3, side, side))
            out["patch_embed.proj.bias"] = value.new_zeros(len(value))
        elif key == "patch_generator.pos_embed":
            out["pos_embed"] = value
        elif key == "patch_generator.cls_token.token":
            out["cls_token"], out["reg_token"] = value[None, :1], value[None, 1:]
        elif key.startswith("blocks."):
            out[key.replace(".grandma", ".gamma")] = value
    return out


class AdaptorHead(nn.Module):
    """RADIO's head for one teacher: a linear layer, residual blocks, and LayerNorm, GELU and a linear layer (Heinrich
    et al., RADIOv2.5, CVPR 2025; Ranzinger et al., AM-RADIO, CVPR 2024, section 3).

    Args:
        width: numbers of a patch.
        hidden: numbers between.
        out: numbers of the teacher's feature (SigLIP 2: of a word).
        blocks: residual blocks.
    """

    def __init__(self, width: int, hidden: int, out: int, blocks: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, hidden)) for _ in range(blocks)
        )
        self.final = nn.Sequential(nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, out))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` to ``[..., out]``."""
        x = self.fc1(x)
        for block in self.blocks:
            x = x + block(x)
        return self.final(x)


PARTS = {"summary": ("head_mlp", "summary"), "features": ("feat_mlp", "features")}
"""What a teacher has a head for, and what its tensors are called by."""


def head_keys(weights: Mapping[str, Tensor], teacher: str = "siglip2", part: str = "summary") -> dict[str, Tensor]:
    """A teacher's head for a part of its output, wherever in the file it lies; a file of one head passes unchanged.

    Args:
        teacher: beginning of the teacher's name, where the file holds heads of several.
        part: one of :data:`PARTS`.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        match = re.fullmatch(rf"(.*?)(?:{'|'.join(PARTS[part])})\.(.+)", key)
        if match:
            found.setdefault(match[1], {})[match[2]] = value
    chosen = list(found)
    if len(found) > 1:
        chosen = [prefix for prefix in found if prefix.rstrip(".").rpartition(".")[2].startswith(teacher)]
    return found[chosen[0]] if len(chosen) == 1 else dict(weights)


def build_head(weights: Mapping[str, Tensor]) -> nn.Linear | AdaptorHead:
    """An untrained head of the sizes of these tensors: a :class:`AdaptorHead`, or a linear layer where there is no
    more than that.

    Raises:
        KeyError: if a tensor that tells a size is missing.
    """
    if set(weights) == {"weight", "bias"}:
        return nn.Linear(*reversed(weights["weight"].shape))
    hidden, width = weights["fc1.weight"].shape
    blocks = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
    return AdaptorHead(width, hidden, len(weights["final.2.weight"]), blocks)
