"""Files of the parity suite's stand-in weights, each in the official layout of its checkpoint.

``shared/parity/pseudo_weights.py`` computes the tensors; writing a file takes seconds to half a minute, so each is kept
in ``$OVSEG_STANDIN_DIR`` (default: a folder in the system's temporary directory) and written once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ovseg.retrieval import BankWriter

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OVSEG_SHARED") or REPOSITORY.parent / "shared")
LAYOUT = 2  # raise it when the layout of a written file changes
PARITY = Path(os.environ.get("OVSEG_PARITY_DIR") or SHARED / "parity")


def pseudo_weights(name: str = "pseudo_weights") -> ModuleType:
    """The module ``pseudo_weights.py`` (or another beside it); skips the calling test where the shared folder is
    absent."""
    path = PARITY / f"{name}.py"
    if not path.is_file():
        path = SHARED / "parity" / f"{name}.py"
    if not path.is_file():
        pytest.skip(f"stand-in weights need {path} (set OVSEG_SHARED)")
    if name != "pseudo_weights":  # the others import it by its name
        sys.modules.setdefault("pseudo_weights", pseudo_weights())
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _frontier() -> ModuleType:
    return pseudo_weights("pseudo_weights_frontier")


def openai_layout(weights: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """OpenAI's plain state dict: convolutions, linear layers and projections in half precision, and three integers."""
    half = ("proj", "projection", "proj_weight", "proj_bias", "conv1.weight")
    half += tuple(f"{layer}.{kind}" for layer in ("c_fc", "c_proj", "out_proj") for kind in ("weight", "bias"))
    state = OrderedDict((key, value.half() if key.endswith(half) else value) for key, value in weights.items())
    grid = round((len(weights["visual.positional_embedding"]) - 1) ** 0.5)
    state["input_resolution"] = torch.tensor(grid * weights["visual.conv1.weight"].shape[-1])
    state["context_length"] = torch.tensor(len(weights["positional_embedding"]))
    state["vocab_size"] = torch.tensor(len(weights["token_embedding.weight"]))
    return state


def dinotxt_file(weights: Mapping[str, Tensor]) -> tuple[OrderedDict[str, Tensor], OrderedDict[str, Tensor]]:
    """dino.txt's two files: DINOv3, and what was trained on top, with a text tower of one small block of zeros where
    the weights have none."""
    trunk = "visual_model.backbone."
    below = OrderedDict((key.removeprefix(trunk), value) for key, value in weights.items() if key.startswith(trunk))
    above = OrderedDict((key, value) for key, value in weights.items() if not key.startswith(trunk))
    text, width = "text_model.backbone.", len(weights["visual_model.head.ln_final.weight"])
    shapes = {"token_embedding.weight": (49408, 64), "positional_embedding": (77, 64)}
    shapes |= {
        f"{norm}.{kind}": (64,)
        for norm in ("ln_final", "blocks.0.attention_norm", "blocks.0.ffn_norm")
        for kind in ("weight", "bias")
    }
    layers = {"attention.proj": (64, 64), "feed_forward.fc1": (256, 64), "feed_forward.fc2": (64, 256)}
    shapes |= {f"blocks.0.{layer}.weight": shape for layer, shape in layers.items()}
    shapes |= {f"blocks.0.{layer}.bias": shape[:1] for layer, shape in layers.items()}
    shapes["blocks.0.attention.qkv.weight"] = (192, 64)
    above.update({text + name: torch.zeros(shape) for name, shape in shapes.items()})
    above["text_model.head.linear_projection.weight"] = torch.zeros(2 * width, 64)
    return below, above


_FILES: dict[str, tuple[str, Callable[[ModuleType], Any]]] = {
    "openai/ViT-B-16": ("ViT-B-16.pt", lambda w: openai_layout(w.openai_clip_vit_b16())),
    "dino/vitb16": ("dino_vitbase16_pretrain.pth", lambda w: OrderedDict(w.dino_vitb(16))),
    "dino/vitb8": ("dino_vitbase8_pretrain.pth", lambda w: OrderedDict(w.dino_vitb(8))),
    "sam/vit_b": ("sam_vit_b_01ec64.pth", lambda w: OrderedDict(w.sam_vit_b())),
    "auxiliary": (
        "auxiliary-ViT-B-16.pt",
        lambda w: openai_layout(_frontier().clip_aux()),
    ),
    "segearth/jbu_one": (
        "xclip_jbu_one_million_aid.ckpt",
        lambda w: {"state_dict": {f"upsampler.{k}": v for k, v in _frontier().jbu_one().items()}},
    ),
    "dinov2/vitb14_reg": ("dinov2_vitb14_reg4_pretrain.pth", lambda w: OrderedDict(_frontier().dinov2_vitb14_reg())),
    "talk2dino/vitb14_reg": ("talk2dino-map.pth", lambda w: OrderedDict(_frontier().text_to_dino())),
    "dinov3/vitb16": (
        "dinov3_vitb16_pretrain.pth",
        lambda w: dinotxt_file(_frontier().dinotxt_vitb16())[0],
    ),
    "dinotxt/vitl16": (
        "dinov3_vitb16_dinotxt_vision_head_and_text_encoder.pth",
        lambda w: dinotxt_file(_frontier().dinotxt_vitb16())[1],
    ),
    "radio/siglip2_vitb16": ("radio-head.pth", lambda w: OrderedDict(_frontier().radio_language_head())),
    "clip_dinoiser/last": ("last.pt", lambda w: {"state_dict": OrderedDict(w.clip_dinoiser_heads()), "epoch": 2}),
}
NAMES = tuple(_FILES)


def standin_dir() -> Path:
    """Folder of the written files; named after what they are made from, so that no old file is taken for a new one."""
    source = Path(pseudo_weights().__file__).read_bytes()
    tag = f"{hashlib.sha256(source).hexdigest()[:12]}-layout{LAYOUT}"
    root = os.environ.get("OVSEG_STANDIN_DIR") or Path(tempfile.gettempdir()) / f"ovseg-standins-{os.getuid()}"
    return Path(root) / tag


def standin(name: str) -> Path:
    """Path of the stand-in checkpoint of a catalogue name (one of ``NAMES``), written at first use."""
    filename, build = _FILES[name]
    path = standin_dir() / filename
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        torch.save(build(pseudo_weights()), part)
        os.replace(part, path)
    return path


def standin_bank(rows: int = 300) -> Path:
    """Folder of the stand-in memory bank, written at first use."""
    folder = standin_dir() / f"bank-{rows}"
    if not (folder / "shard-00000").is_dir():
        arrays = _frontier().memory_bank(rows)
        values = {"main": arrays["main"], "aux": arrays["aux"]}
        widths = {name: array.shape[1] for name, array in values.items()}
        writer = BankWriter(folder, arrays["keys"].shape[1], widths, {"made_of": "hash noise"})
        writer.add("all", arrays["keys"], values)
        writer.flush()
    return folder
