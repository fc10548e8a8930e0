"""Stand-in weights: random numbers in the official checkpoint formats, for measuring without the real files.

Speed and memory do not depend on what the weights hold, only on their shapes; labels do, so figures about labels that
were made with stand-ins say so. Values are a function of the tensor's name and shape. Their sizes are chosen so that
activations stay in a healthy range through 12 blocks and classes differ: convolutions damp flat colour, attention
logits have a spread of a few units, residual branches are small beside the stream, as in trained networks.
"""

from __future__ import annotations

import os
import re
import tempfile
import zlib
from collections import OrderedDict
from pathlib import Path

import open_clip
import timm
import torch
import torch.nn.functional as F
from segment_anything import sam_model_registry
from torch import Tensor, nn

from ovseg.retrieval import BankWriter
from ovseg.weights.dinotxt import DinoTxtParts
from ovseg.weights.radio import AdaptorHead
from ovseg.weights.simfeatup import JointBilateralUpsampler
from ovseg.weights.text_map import TextMap

VERSION = 1
"""Part of the folder's name: raise it when the numbers change, so that no old file is taken for a new one."""

_RULES: tuple[tuple[str, float], ...] = (
    # first match counts: pattern of the name, standard deviation times the square root of the fan-in
    (r"(in_proj|qkv)[._]", 2.0),
    (r"(out_proj|attn\.proj)\.", 0.15),
    (r"(c_proj|fc2|lin2)\.", 0.2),
    (r"(conv1|patch_embed\.proj)\.", 2.0),
    (r"iou_prediction_head\.layers\.2\.", 0.3),
)
_TABLES: tuple[tuple[str, float], ...] = (
    # embeddings and tables that are added to something: pattern, standard deviation
    (r"rel_pos_[hw]", 0.05),
    (r"pos(itional)?_embed", 0.3),
    (r"token_embedding|gaussian_matrix|(iou|mask_tokens?)\S*token", 1.0),
    (r"class_embedding|cls_token|point_embed|no_mask_embed|not_a_point", 0.5),
)


def random_tensor(name: str, like: Tensor) -> Tensor:
    """Half-precision random numbers for the parameter ``name`` of the shape of ``like``."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(like.shape, generator=generator)
    for pattern, std in _TABLES:
        if re.search(pattern, name):
            return (noise * std).half()
    if name.endswith("logit_scale"):
        return torch.full_like(like, 4.6052).half()
    if name == "norm.bias":  # DINO's features share a direction: their mean cosine is about 0.5, as trained ones'
        return (noise * 0.9).half()
    if re.search(r"gamma", name):  # layer scale: residual branches are small beside the stream
        return (0.15 + 0.02 * noise).half()
    if like.dim() == 1:
        is_norm = name.endswith("weight")
        return (1 + 0.1 * noise if is_norm else 0.02 * noise).half()
    if name.endswith(("visual.proj", "text_projection")):  # a few strong output dimensions: decided labels
        decay = torch.exp(-torch.arange(like.shape[1]) / 10).clamp(min=0.02)
        return (noise * decay / decay.square().mean().sqrt() * like.shape[0] ** -0.5).half()
    if re.search(r"(conv1|patch_embed\.proj)\.", name):
        noise = noise - 0.7 * noise.mean((-1, -2), keepdim=True)  # answer edges more than flat colour
    gain = next((g for pattern, g in _RULES if re.search(pattern, name)), 1.0)
    fan_in = like[0].numel() if "output_upscaling" not in name else like.shape[0]
    return (noise * gain * fan_in**-0.5).half()


def _official_clip() -> OrderedDict[str, Tensor]:
    """OpenAI's plain state dict of CLIP ViT-B/16: open_clip's names, and three integers."""
    state = _fill(open_clip.create_model("ViT-B-16-quickgelu", pretrained=None))
    state["input_resolution"] = torch.tensor(224)
    state["context_length"] = torch.tensor(77)
    state["vocab_size"] = torch.tensor(49408)
    return state


def _fill(model: nn.Module) -> OrderedDict[str, Tensor]:
    return OrderedDict((name, random_tensor(name, value)) for name, value in model.state_dict().items())


def _dino(patch: int) -> OrderedDict[str, Tensor]:
    return _fill(timm.create_model(f"vit_base_patch{patch}_224.dino", pretrained=False, num_classes=0))


def _vit(arch: str, shared: float = 0.9, **sizes: int) -> OrderedDict[str, Tensor]:
    """A timm ViT of images only; ``shared``: size of the direction that its patches have in common."""
    state = _fill(timm.create_model(arch, pretrained=False, num_classes=0, **sizes))
    if "norm.bias" in state:
        state["norm.bias"] *= shared / 0.9
    return state


def _dinotxt() -> OrderedDict[str, Tensor]:
    """dino.txt's blocks at the width of ViT-B, with a small text tower (texts are no part of what is measured)."""
    state = _fill(DinoTxtParts(768, 2, 2048, dict(context_length=77, vocab_size=49408, width=256, heads=4, layers=2)))
    state["norm.bias"] = state["norm.bias"] * 0.02  # of the blocks, not DINOv3's: patches differ after it
    return state


def _text_map() -> OrderedDict[str, Tensor]:
    """Talk2DINO's map, leaning on what the stand-in's patches share: cosines lie about the threshold of 0.2."""
    state = _fill(TextMap(512, 768, 768))
    state["hidden_layers.0.bias"] = state["hidden_layers.0.bias"] + 0.3 * random_tensor("norm.bias", torch.zeros(768))
    return state


def _language_head() -> OrderedDict[str, Tensor]:
    """RADIO's head for the words of CLIP ViT-B/16, in the place of those of SigLIP 2's giant."""
    state = _fill(AdaptorHead(768, 1536, 512, 2))
    state["final.2.weight"] = random_tensor("visual.proj", torch.zeros(1536, 512)).T.contiguous()
    return state


def _upsampler() -> OrderedDict[str, Tensor]:
    """SimFeatUp's layers; its two numbers as after some training."""
    model = JointBilateralUpsampler(512)
    numbers = {"up.range_temp": torch.tensor(0.5), "up.sigma_spatial": torch.tensor(0.7)}
    return OrderedDict((k, numbers[k] if k in numbers else random_tensor(k, v)) for k, v in model.state_dict().items())


_BUILDERS = {
    "clip": ("ViT-B-16.pt", _official_clip),
    "dino/vitb8": ("dino_vitbase8_pretrain.pth", lambda: _dino(8)),
    "dino/vitb16": ("dino_vitbase16_pretrain.pth", lambda: _dino(16)),
    "dinov2/vitb14_reg": ("dinov2_vitb14_reg4.pth", lambda: _vit("vit_base_patch14_reg4_dinov2")),
    "dinov3/vitb16": ("dinov3_vitb16.pth", lambda: _vit("vit_base_patch16_dinov3", shared=0.25)),
    "dinotxt/vitl16": ("dinotxt_vitb16.pth", _dinotxt),
    "radio/vitb16": ("radio_vitb16.pth", lambda: _vit("vit_base_patch16_radio_v3", img_size=2048)),
    "radio/siglip2_vitb16": ("radio_head.pth", _language_head),
    "talk2dino/vitb14_reg": ("talk2dino_map.pth", _text_map),
    "segearth/jbu_one": ("simfeatup_jbu_one.pth", _upsampler),
    "sam/vit_b": ("sam_vit_b_01ec64.pth", lambda: _fill(sam_model_registry["vit_b"](checkpoint=None))),
}


def standin(name: str) -> Path:
    """Path of a file with stand-in weights, written at first use (in half precision, up to 300 MB).

    Args:
        name: a name of the catalogue. Any CLIP ViT-B/16 stands for all of them.

    Raises:
        ValueError: for an architecture without stand-in, naming those there are.
    """
    key = "clip" if name.endswith("ViT-B-16") else name
    if key not in _BUILDERS:
        raise ValueError(
            f"no stand-in weights for {name!r}; there are those of CLIP ViT-B/16, "
            f"{', '.join(k for k in _BUILDERS if '/' in k)}. Use --weights real"
        )
    file, build = _BUILDERS[key]
    path = _folder() / file
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        torch.save(build(), part)
        os.replace(part, path)
    return path


def standin_bank(rows: int = 10_000) -> Path:
    """Folder of a memory bank for CorrCLIPv2 with random rows, keys of a ViT-B and values of CLIP ViT-B/16, written at
    first use. Published banks have some million rows and an index; this one is searched exactly."""
    folder = _folder() / f"bank-{rows}"
    if not any(folder.glob("shard-*[0-9]")):
        writer = BankWriter(folder, 768, {"main": 512}, {"made_of": "noise"})
        keys = F.normalize(random_tensor("bank.keys.weight", torch.zeros(rows, 768)).float(), dim=-1)
        values = F.normalize(random_tensor("visual.proj", torch.zeros(rows, 512)).float(), dim=-1)
        writer.add("all", keys, {"main": values})
        writer.flush()
    return folder


def _folder() -> Path:
    root = os.environ.get("OVSEG_STANDIN_DIR") or Path(tempfile.gettempdir()) / f"ovseg-standins-{os.getuid()}"
    return Path(root) / f"benchmark-{VERSION}"
