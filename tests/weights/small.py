"""Small models in the official layouts, and a catalogue entry to load them with."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP

from ovseg.weights import WeightCard, get_card
from tests.standins import openai_layout

ARCH = "ovseg-test-clip"
CONFIG = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
# What OpenAI saves beside the weights.
ENTRIES = {"input_resolution": 32, "context_length": 16, "vocab_size": 49408}


def small_clip() -> CLIP:
    """A CLIP of OpenAI's architecture; values are exact in half precision, in which OpenAI saves them."""
    generator = torch.Generator().manual_seed(0)
    model = CLIP(**copy.deepcopy(CONFIG)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((torch.randn(parameter.shape, generator=generator) * 0.1).half().float())
    return model


def small_card(folder: Path) -> WeightCard:
    """An entry ``test/clip`` for :func:`small_clip`; ``folder`` gets the architecture's configuration."""
    (folder / f"{ARCH}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{ARCH}.json")
    return replace(get_card("openai/ViT-B-16"), name="test/clip", arch=ARCH, sources=(), image_size=32)


def save_torchscript(model: CLIP, path: Path, entries: Mapping[str, int] = ENTRIES) -> None:
    """Saves as OpenAI published CLIP: traced, weights in half precision, with three more entries as buffers."""
    model = copy.deepcopy(model)
    side, context = model.visual.image_size[0], model.context_length
    for name, value in entries.items():
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    inputs = (torch.zeros(1, 3, side, side), torch.zeros(1, context, dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the trace is saved, not run
        traced = torch.jit.trace_module(model, {"forward": inputs}, check_trace=False)
    halved = openai_layout(model.state_dict())
    for name, parameter in traced.named_parameters():
        parameter.data = halved[name]
    traced.save(str(path))
