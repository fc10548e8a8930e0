"""Files of the parity suite's stand-in weights, each in the official layout of its checkpoint.

``shared/parity/pseudo_weights.py`` computes the tensors; writing a file takes seconds to half a minute, so each is kept
in ``$OVSEG_STANDIN_DIR`` (default: a folder in the system's temporary directory) and written once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OVSEG_SHARED") or REPOSITORY.parent / "shared")
LAYOUT = 2  # raise it when the layout of a written file changes
PARITY = Path(os.environ.get("OVSEG_PARITY_DIR") or SHARED / "parity")


def pseudo_weights() -> ModuleType:
    """The module ``pseudo_weights.py``; skips the calling test where the shared folder is absent."""
    path = PARITY / "pseudo_weights.py"
    if not path.is_file():
        path = SHARED / "parity" / "pseudo_weights.py"
    if not path.is_file():
        pytest.skip(f"stand-in weights need {path} (set OVSEG_SHARED)")
    spec = importlib.util.spec_from_file_location("pseudo_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


_FILES: dict[str, tuple[str, Callable[[ModuleType], Any]]] = {
    "openai/ViT-B-16": ("ViT-B-16.pt", lambda w: openai_layout(w.openai_clip_vit_b16())),
    "dino/vitb16": ("dino_vitbase16_pretrain.pth", lambda w: OrderedDict(w.dino_vitb(16))),
    "dino/vitb8": ("dino_vitbase8_pretrain.pth", lambda w: OrderedDict(w.dino_vitb(8))),
    "sam/vit_b": ("sam_vit_b_01ec64.pth", lambda w: OrderedDict(w.sam_vit_b())),
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
